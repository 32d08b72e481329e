"""Object headers: those that an object keeps, and their permitted values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from ...model import (
    ACLS,
    COPY_SOURCE,
    OBJECT_ACL,
    STORAGE_CLASS,
    STORAGE_CLASSES,
    TRAFFIC_LIMIT,
)
from ..message.errors import refused
from ..message.request_head import Call, read_number
from .context import ENCRYPTION, invalid_argument

META = "x-oss-meta-"
TAGGING = "x-oss-tagging"
TARGET = "x-oss-symlink-target"
RESTORED = "x-oss-restore"
HTTP_PROPERTIES = (
    *("cache-control", "content-disposition", "content-encoding"),
    *("content-language", "content-type", "expires"),
)

_ENCRYPTED = f"{ENCRYPTION}encryption"
_KMS_KEY = "00000000-0000-4000-8000-000000000001"  # OSS makes one for each account
_MAX_META = 8 * 1024
_MAX_TAGS, _TAG_NAME, _TAG_VALUE = 10, 128, 256
_TRAFFIC = range(819_200, 838_860_800 + 1)
# Header -> its values, and the error for any other.
_CHOICES = {
    STORAGE_CLASS: (STORAGE_CLASSES, "InvalidStorageClass", ""),
    OBJECT_ACL: (ACLS, "InvalidArgument", "no such object access control exists"),
    _ENCRYPTED: (("AES256", "KMS", "SM4"), "InvalidEncryptionAlgorithmError", ""),
}
_is_of_tags = re.compile(r"[\w +=.:/-]*").fullmatch
_is_meta_name = re.compile(rf"{META}[A-Za-z0-9-]+").fullmatch
_is_condition = re.compile("if-(un)?modified-since|if-(none-)?match").fullmatch


def read_properties(call: Call) -> dict[str, str]:
    """Return the headers of *call* that an object keeps; RefusedError for a bad value."""
    headers = call.headers
    for name in filter(_is_condition, headers):
        if COPY_SOURCE not in headers:  # where ali-oss sends them beside its own
            raise refused("NotImplemented", Header=name)
    check_traffic_limit(call)
    check_choices(headers)
    kept = {
        name: value
        for name, value in headers.items()
        if name in (*HTTP_PROPERTIES, OBJECT_ACL, TAGGING)
        or name.startswith((ENCRYPTION, META))
    }
    kept.setdefault("content-type", "application/octet-stream")
    if kept.get(_ENCRYPTED) == "KMS":
        kept.setdefault(f"{_ENCRYPTED}-key-id", _KMS_KEY)
    kept[STORAGE_CLASS] = headers.get(STORAGE_CLASS, "Standard")
    if TAGGING in kept:
        check_tags(kept[TAGGING])
    _check_meta({n: v for n, v in kept.items() if n.startswith(META)})
    return kept


def check_choices(headers: Mapping[str, str]) -> None:
    """Raise RefusedError for an unknown storage class, ACL or algorithm."""
    for name, (values, code, message) in _CHOICES.items():
        if name in headers and headers[name] not in values:
            raise refused(code, message, ArgumentValue=headers[name])


def traffic_limit(call: Call) -> float | None:
    """Return the traffic limit of *call* in bytes per second; None if invalid."""
    form = {} if call.form is None else call.form.fields
    given = (one.get(TRAFFIC_LIMIT) for one in (form, call.headers, call.parameters))
    text = next(filter(None, given), "")
    bits = read_number(text) or 0
    return bits / 8 if bits in _TRAFFIC else None


def check_traffic_limit(call: Call) -> None:
    """Raise RefusedError for a traffic limit that OSS does not accept."""
    name = TRAFFIC_LIMIT
    values = [s[name] for s in (call.headers, call.parameters) if name in s]
    if len(values) > 1:
        raise invalid_argument(f"{name} is given in the query and as header.")
    if values and traffic_limit(call) is None:
        bounds = f"between {_TRAFFIC[0]} and {_TRAFFIC[-1]}"
        raise invalid_argument(f"{name} must be {bounds}.", name, values[0])


def shown(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those stored *headers* that GET and HEAD return."""
    hidden = (OBJECT_ACL, TAGGING, TARGET)
    back = {n: v for n, v in headers.items() if n not in hidden}
    if TAGGING in headers:
        back["x-oss-tagging-count"] = str(len(read_tags(headers[TAGGING])))
    return back


def read_tags(text: str) -> list[tuple[str, str]]:
    """Return names and values of the tags in *text*, which has the form ``k=v&...``."""
    return parse_qsl(text, keep_blank_values=True)


def check_tags(text: str) -> None:
    """Raise RefusedError for too many, too long, repeated or invalid tags."""
    tags = read_tags(text)
    fits = all(0 < len(n) <= _TAG_NAME and len(v) <= _TAG_VALUE for n, v in tags)
    fits = fits and all(map(_is_of_tags, itertools.chain(*tags)))
    if not fits or len(tags) > _MAX_TAGS or len(dict(tags)) != len(tags):
        raise refused("InvalidTag")


def _check_meta(meta: Mapping[str, str]) -> None:
    for name in meta:
        if not _is_meta_name(name):
            message = "The user metadata name is not valid."
            raise invalid_argument(message, name, ec="0011-00000004")
    if sum(len(n) + len(v) for n, v in meta.items()) > _MAX_META:
        raise refused("MetadataTooLarge")
