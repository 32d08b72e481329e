"""The headers that make the properties of an object: which count, and their limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from ..message.answers import RefusedError
from ..message.call import Call, read_number
from .exchange import invalid_argument

META = "x-oss-meta-"
ACL = "x-oss-object-acl"
TAGGING = "x-oss-tagging"
STORAGE_CLASS = "x-oss-storage-class"
ENCRYPTION = "x-oss-server-side-encryption"
HTTP_PROPERTIES = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
DEFAULT_TYPE = "application/octet-stream"

_MAX_META = 8 * 1024
_MAX_TAGS, _TAG_NAME, _TAG_VALUE = 10, 128, 256
_TRAFFIC = range(819_200, 838_860_800 + 1)
_CHOICES: dict[str, tuple[tuple[str, ...], str, str]] = {
    STORAGE_CLASS: (
        ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"),
        "InvalidStorageClass",
        "The storage class you specified is not valid.",
    ),
    ACL: (
        ("default", "private", "public-read", "public-read-write"),
        "InvalidArgument",
        "no such object access control exists",
    ),
    ENCRYPTION: (
        ("AES256", "KMS", "SM4"),
        "InvalidEncryptionAlgorithmError",
        "The Encryption request you specified is not valid.",
    ),
}
_META_NAME = re.compile(r"[A-Za-z0-9-]+")
_NOT_ON_PUT = (
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
)


def read_properties(call: Call) -> dict[str, str]:
    """Return what is kept of the headers of *call*, checked.

    Raises:
        RefusedError: a value that OSS does not take.
    """
    headers = call.headers
    for name in _NOT_ON_PUT:
        if name in headers:
            raise RefusedError(
                400,
                "NotImplemented",  # the code with which OSS refuses these on a PutObject
                "A header you provided implies functionality that is not implemented.",
                extras={"Header": name},
            )
    check_traffic_limit(call)
    for name, (values, code, message) in _CHOICES.items():
        if name in headers and headers[name] not in values:
            extras = {"ArgumentValue": headers[name]}
            raise RefusedError(400, code, message, extras=extras)
    kept = {name: headers[name] for name in HTTP_PROPERTIES if name in headers}
    kept.setdefault("content-type", DEFAULT_TYPE)
    kept[STORAGE_CLASS] = headers.get(STORAGE_CLASS, "Standard")
    kept |= {
        name: value
        for name, value in headers.items()
        if name in (ACL, TAGGING) or name.startswith(ENCRYPTION)
    }
    if TAGGING in kept:
        _check_tags(kept[TAGGING])
    meta = {n: v for n, v in headers.items() if n.startswith(META)}
    _check_meta(meta)
    return kept | meta


def check_traffic_limit(call: Call) -> None:
    """Check ``x-oss-traffic-limit``, which is otherwise not acted upon.

    Raises:
        RefusedError: given twice, or outside what OSS takes.
    """
    name = "x-oss-traffic-limit"
    values = [s[name] for s in (call.headers, call.parameters) if name in s]
    if len(values) > 1:
        raise invalid_argument(f"{name} is given in the query and as header.")
    if values and read_number(values[0]) not in _TRAFFIC:
        raise invalid_argument(
            f"{name} must be between {_TRAFFIC[0]} and {_TRAFFIC[-1]}.",
            ArgumentName=name,
            ArgumentValue=values[0],
        )


def shown(headers: Mapping[str, str]) -> dict[str, str]:
    """Return those of the kept headers that a GET or HEAD gives back."""
    back = {n: v for n, v in headers.items() if n not in (ACL, TAGGING)}
    if TAGGING in headers:
        back["x-oss-tagging-count"] = str(len(read_tags(headers[TAGGING])))
    return back


def read_tags(text: str) -> list[tuple[str, str]]:
    """Return the tags of ``k=v&...``."""
    return parse_qsl(text, keep_blank_values=True)


def _check_tags(text: str) -> None:
    tags = read_tags(text)
    names = {name for name, _ in tags}
    fits = all(
        0 < len(name) <= _TAG_NAME and len(value) <= _TAG_VALUE for name, value in tags
    )
    if not fits or len(tags) > _MAX_TAGS or len(names) != len(tags):
        raise RefusedError(400, "InvalidTag", "The tag you specified is not valid.")


def _check_meta(meta: Mapping[str, str]) -> None:
    for name in meta:
        if not _META_NAME.fullmatch(name.removeprefix(META)):
            raise invalid_argument(
                "The user metadata name is not valid.",
                "0011-00000004",
                ArgumentName=name,
            )
    if sum(len(n) + len(v) for n, v in meta.items()) > _MAX_META:
        raise RefusedError(
            400,
            "MetadataTooLarge",
            "Your metadata headers exceed the maximum allowed metadata size.",
            "0011-00000002",
        )
