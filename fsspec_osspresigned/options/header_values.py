"""Headers for the options of objects: tags, encryption and callback, validated.

The names come from the OSS API reference: PutObject, object tagging, server-side
encryption, single-connection bandwidth throttling, and callback. OSS itself checks the
limits of values. Each function raises a ValueError with a text that follows "must be".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote_plus

from ..model import frozen_mapping
from ..url_checks import header_problems

# limits for one request, in bits per second
MIN_TRAFFIC, MAX_TRAFFIC = 819_200, 838_860_800

_ALGORITHMS = ("AES256", "KMS", "SM4")
_ENCRYPTION = "x-oss-server-side-encryption"
_ENCRYPTION_FIELDS = {
    "algorithm": _ENCRYPTION,
    "key_id": f"{_ENCRYPTION}-key-id",
    "data_encryption": "x-oss-server-side-data-encryption",
}
_CALLBACK_FIELDS = {f"callback{n}" for n in ("Url", "Host", "Body", "BodyType", "SNI")}
_VARIABLES = "callback-var"


def tagging(value: Any) -> str:
    """Return the header value of tags, given as a mapping or as ``k=v&k2=v2``."""
    if isinstance(value, str) and value.strip():
        pairs = [tag.partition("=") for tag in value.split("&")]
        value = {unquote_plus(n): unquote_plus(v) for n, _, v in pairs}
        if len(value) < len(pairs):
            raise ValueError("tags whose names differ")
    if not value or not is_of_texts(value):
        raise ValueError("tags: a mapping of strings, or 'name=value&other=value'")
    return "&".join(f"{quote(n, '')}={quote(v, '')}" for n, v in value.items())


def encryption(value: Any) -> Mapping[str, str]:
    fields = {"algorithm": value} if isinstance(value, str) else value
    if not is_of_texts(fields) or not fields.keys() <= _ENCRYPTION_FIELDS.keys():
        known = ", ".join(_ENCRYPTION_FIELDS)
        raise ValueError(f"one of {', '.join(_ALGORITHMS)}, or a mapping of {known}")
    if fields.get("algorithm") not in _ALGORITHMS:
        raise ValueError(f"an algorithm of {', '.join(_ALGORITHMS)}")
    headers = {_ENCRYPTION_FIELDS[name]: text for name, text in fields.items()}
    if problem := next(header_problems(headers), None):
        raise ValueError(f"a mapping of header values; {problem}")
    return frozen_mapping(headers)


def callback(value: Any) -> Mapping[str, str]:
    """Return the headers of a callback.

    *value* is OSS's own JSON, as a mapping or a text, with ``callback-var``.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise ValueError("a mapping of OSS's callback fields")  # noqa: TRY004 - converters raise ValueError
    fields = {n: v for n, v in value.items() if n != _VARIABLES}
    if unknown := sorted(map(str, set(fields) - _CALLBACK_FIELDS)):
        raise ValueError(
            f"a mapping of {', '.join(sorted(_CALLBACK_FIELDS))} and {_VARIABLES}, "
            f"without {unknown[0][:40]!r}"
        )
    for name in ("callbackUrl", "callbackBody"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise ValueError(f"a mapping with a {name}")
    headers = {"x-oss-callback": _encoded(fields)}
    variables = value.get(_VARIABLES)
    if variables is not None:
        if not is_of_texts(variables):
            raise ValueError(f"a mapping whose {_VARIABLES} is a mapping of strings")
        headers["x-oss-callback-var"] = _encoded(variables)
    return frozen_mapping(headers)


def is_of_texts(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) for pair in value.items() for text in pair
    )


def _encoded(fields: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(fields), ensure_ascii=False, separators=(",", ":"))
        return base64.b64encode(text.encode()).decode()
    except (TypeError, ValueError):
        raise ValueError("a mapping of texts that JSON can hold") from None
