"""Options of objects as headers: tags, encryption and callback, validated.

Limits and names are those of the OSS API reference: PutObject, object tagging,
server-side encryption, single-connection bandwidth throttling, and callback. Each
function raises a ValueError whose text completes "must be ...".
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote_plus

from ..model import frozen_mapping

ALGORITHMS = ("AES256", "KMS", "SM4")
MIN_TRAFFIC, MAX_TRAFFIC = 819_200, 838_860_800  # bits a second of one request

_MAX_TAGS, _TAG_NAME, _TAG_VALUE = 10, 128, 256
_TAG = r"[\w +\-=.:/]*"  # like the others, compiled on first use
_ENCRYPTION = "x-oss-server-side-encryption"
_KEY_ID = r"[\x21-\x7e]{1,512}"
_CALLBACK_FIELDS = {f"callback{n}" for n in ("Url", "Host", "Body", "BodyType", "SNI")}
_BODY_TYPES = ("application/x-www-form-urlencoded", "application/json")
_VARIABLES = "callback-var"
_VARIABLE = r"x:[a-z0-9_.-]+"
_MAX_CALLBACK = 5 * 1024
_MAX_URLS = 5


def tagging(value: Any) -> str:
    """Return the header value of tags, given as a mapping or as ``k=v&k2=v2``."""
    if isinstance(value, str) and value.strip():
        pairs = [tag.partition("=") for tag in value.split("&")]
        tags = {unquote_plus(n): unquote_plus(v) for n, _, v in pairs}
        if len(tags) < len(pairs):
            raise ValueError("tags whose names differ")
    elif isinstance(value, Mapping) and value:
        tags = dict(value)
    else:
        raise ValueError("tags: a mapping, or a text such as 'name=value&other=value'")
    if len(tags) > _MAX_TAGS:
        raise ValueError(f"{_MAX_TAGS} tags at most, not {len(tags)}")
    if not all(isinstance(text, str) for tag in tags.items() for text in tag):
        raise ValueError("tags: a mapping of strings to strings")
    for name, text in tags.items():
        if not 1 <= len(name) <= _TAG_NAME or len(text) > _TAG_VALUE:
            raise ValueError(
                f"tags with names of 1 to {_TAG_NAME} and values of at most "
                f"{_TAG_VALUE} characters, unlike {name[:40]!r}"
            )
        if not (re.fullmatch(_TAG, name) and re.fullmatch(_TAG, text)):
            raise ValueError(
                f"tags of letters, digits, blanks and + - = . _ : /, unlike {name!r}"
            )
    return "&".join(f"{quote(n, '')}={quote(v, '')}" for n, v in tags.items())


def encryption(value: Any) -> Mapping[str, str]:
    fields = {"algorithm": value} if isinstance(value, str) else value
    known = ("algorithm", "key_id", "data_encryption")
    names = ", ".join(ALGORITHMS)
    if not isinstance(fields, Mapping) or not fields.keys() <= {*known}:
        raise ValueError(f"one of {names}, or a mapping of {', '.join(known)}")
    if fields.get("algorithm") not in ALGORITHMS:
        raise ValueError(f"an algorithm of {names}")
    headers = {_ENCRYPTION: str(fields["algorithm"])}
    if len(fields) > 1 and fields["algorithm"] != "KMS":
        raise ValueError("KMS where there is a key_id or data_encryption")
    if (key := fields.get("key_id")) is not None:
        if not isinstance(key, str) or not re.fullmatch(_KEY_ID, key):
            raise ValueError("a mapping whose key_id is the ID of a KMS key")
        headers[f"{_ENCRYPTION}-key-id"] = key
    if (inner := fields.get("data_encryption")) is not None:
        if inner != "SM4":
            raise ValueError("a mapping whose data_encryption is SM4")
        headers["x-oss-server-side-data-encryption"] = inner
    return frozen_mapping(headers)


def callback(value: Any) -> Mapping[str, str]:
    """Return the headers of a callback.

    *value* is OSS's own JSON, as a mapping or a text, with ``callback-var``.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise ValueError("a mapping of OSS's callback fields")  # noqa: TRY004 - a converter
    fields = {n: v for n, v in value.items() if n != _VARIABLES}
    if unknown := sorted(map(str, set(fields) - _CALLBACK_FIELDS)):
        raise ValueError(
            f"a mapping of {', '.join(sorted(_CALLBACK_FIELDS))} and {_VARIABLES}, "
            f"without {unknown[0][:40]!r}"
        )
    _check_fields(fields)
    headers = {"x-oss-callback": _encoded(fields)}
    variables = value.get(_VARIABLES)
    if variables is not None:
        if not isinstance(variables, Mapping) or not all(
            isinstance(n, str) and re.fullmatch(_VARIABLE, n) and isinstance(v, str)
            for n, v in variables.items()
        ):
            what = "names such as 'x:name', in lower case, and texts"
            raise ValueError(f"a mapping whose {_VARIABLES} has {what}")
        headers["x-oss-callback-var"] = _encoded(variables)
    return frozen_mapping(headers)


def _check_fields(fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        is_flag = name == "callbackSNI"
        if not isinstance(value, bool if is_flag else str):
            what = "true or false" if is_flag else "a text"
            raise ValueError(f"a mapping whose {name} is {what}")  # noqa: TRY004 - a converter
    urls = [url.strip() for url in fields.get("callbackUrl", "").split(";")]
    if not all(urls) or len(urls) > _MAX_URLS:
        what = f"one URL, or up to {_MAX_URLS} with ';'"
        raise ValueError(f"a mapping whose callbackUrl is {what}")
    if any(not url.isascii() or not url.isprintable() or " " in url for url in urls):
        raise ValueError("a mapping whose callbackUrl is URL-encoded")
    if not fields.get("callbackBody"):
        raise ValueError("a mapping with a callbackBody")
    if fields.get("callbackBodyType", _BODY_TYPES[0]) not in _BODY_TYPES:
        raise ValueError(
            f"a mapping whose callbackBodyType is {' or '.join(_BODY_TYPES)}"
        )


def _encoded(fields: Mapping[str, Any]) -> str:
    text = json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":"))
    encoded = base64.b64encode(text.encode()).decode()
    if len(encoded) > _MAX_CALLBACK:
        raise ValueError(f"a mapping of at most {_MAX_CALLBACK} bytes when encoded")
    return encoded
