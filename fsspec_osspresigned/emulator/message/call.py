"""One received request, read to the byte: which call of OSS it is, and on what."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

from attrs import frozen

from ...model import COPY_SOURCE, OPERATIONS, Action
from ...signing.canonical import parse_query

# Sub-resources that name a call of their own, by method (OSS API reference).
_SUBRESOURCES = {
    "acl": "ObjectAcl",
    "tagging": "ObjectTagging",
    "symlink": "Symlink",
    "restore": "RestoreObject",
}
_OBJECT_CALLS = {
    ("GET", "objectMeta"): "GetObjectMeta",
    ("HEAD", "objectMeta"): "GetObjectMeta",
    ("POST", "append"): "AppendObject",
}
# The client's calls on objects, the narrowest first.
_OPERATIONS = sorted(
    (item for item in OPERATIONS.items() if not item[1].on_bucket),
    key=lambda item: (len(item[1].parameters), item[1].copies),
    reverse=True,
)
_BUCKET_ACTIONS = {
    "bucketInfo": "GetBucketInfo",
    "uploads": "ListMultipartUploads",
}
_BUCKET_SUBRESOURCES = (
    "acl", "cname", "cors", "encryption", "lifecycle", "location", "logging", "policy",
    "referer", "replication", "stat", "tagging", "versioning", "versions",
    "website", "worm",
)  # fmt: skip
_is_number = re.compile("[0-9]{1,18}").fullmatch
_LOCAL_HOST = re.compile(r"(?i)([a-z0-9][a-z0-9-]{1,61}[a-z0-9])\.localhost")
_OSS_HOST = re.compile(
    r"(?i)([a-z0-9][a-z0-9-]{1,61}[a-z0-9])"
    r"\.(?:[a-z0-9-]+\.)?oss[a-z0-9-]*\.aliyuncs\.com"
)
_REGION_HOST = re.compile(
    r"(?i)\.(?:oss-(?!accelerate)([a-z0-9-]+?)(?:-internal)?|([a-z0-9-]+)\.oss)"
    r"\.aliyuncs\.com(?::\d+)?\Z"
)


@frozen(kw_only=True)
class Call:
    """One request.

    Attributes:
        action: the call of OSS, by its name in the API reference.
        method: HTTP method.
        bucket: empty for the service itself.
        key: decoded once, nothing normalised; empty for a bucket.
        target: path and query as they came.
        query: raw.
        parameters: decoded; of a repeated name the first counts.
        headers: names in lower case; of a repeated name the first counts.
        host: the Host header.
    """

    action: str
    method: str
    bucket: str
    key: str
    target: str
    query: str
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    host: str

    @property
    def upload_id(self) -> str | None:
        """The multipart upload that the query names."""
        return self.parameters.get("uploadId")

    @property
    def part_number(self) -> int | None:
        """The part that the query names; None without a number in it."""
        return read_number(self.parameters.get("partNumber", ""))

    @property
    def region(self) -> str | None:
        """The region that the host name names; None if it names none."""
        found = _REGION_HOST.search(self.host)
        return (found[1] or found[2]).lower() if found else None

    @property
    def content_length(self) -> int | None:
        """Bytes announced; None for a chunked body or none at all."""
        return read_number(self.headers.get("content-length", ""))

    @property
    def has_body_framing(self) -> bool:
        """Whether the end of the body can be told."""
        return "content-length" in self.headers or "transfer-encoding" in self.headers


def read_call(scope: MutableMapping[str, Any], *, cnames: Mapping[str, str]) -> Call:
    """Read the head of a request.

    Args:
        scope: ASGI's; only its raw parts are used.
        cnames: host name -> bucket.
    """
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), decoded(value).strip())
    path: str = scope["raw_path"].decode("latin-1")
    query: str = scope["query_string"].decode("latin-1")
    host = headers.get("host", "")
    method: str = scope["method"]
    bucket = _bucket_of(host, cnames)
    raw_key = path.removeprefix("/")
    if bucket is None:
        raw_bucket, _, raw_key = raw_key.partition("/")
        bucket = _unquoted(raw_bucket)
    key = _unquoted(raw_key)
    parameters = dict(reversed(parse_query(query)))
    return Call(
        action=_action(method, bucket, key, parameters, headers),
        method=method,
        bucket=bucket,
        key=key,
        target=f"{path}?{query}" if query else path,
        query=query,
        parameters=parameters,
        headers=headers,
        host=host,
    )


def read_number(text: str) -> int | None:
    """Return a decimal number of at most 18 digits; None if *text* is none."""
    return int(text) if _is_number(text) else None


def decoded(value: bytes) -> str:
    """Return header bytes as text; what is no UTF-8 becomes lone surrogates."""
    return value.decode("utf-8", "surrogateescape")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _bucket_of(host: str, cnames: Mapping[str, str]) -> str | None:
    name = re.sub(r":\d+\Z", "", host).lower()
    if name in cnames:
        return cnames[name]
    found = _LOCAL_HOST.fullmatch(name) or _OSS_HOST.fullmatch(name)
    return found[1] if found else None


def _action(
    method: str,
    bucket: str,
    key: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
) -> str:
    """Return the name of the call; one that is unknown here gets a name of its own."""
    if method == "OPTIONS":
        return "OptionObject"
    if not bucket:
        return "ListBuckets" if method == "GET" else f"{method.title()}Service"
    if not key:
        return _bucket_action(method, parameters)
    for name, resource in _SUBRESOURCES.items():
        if name in parameters:
            return f"{method.title()}{resource}"
    for (verb, name), action in _OBJECT_CALLS.items():
        if method == verb and name in parameters:
            return action
    for operation, spec in _OPERATIONS:
        named = not spec.parameters or not spec.parameters.isdisjoint(parameters)
        copies = COPY_SOURCE in headers or not spec.copies
        if method == spec.method and named and copies:
            return operation
    return f"{method.title()}Object"


def _bucket_action(method: str, parameters: Mapping[str, str]) -> str:
    for name, action in _BUCKET_ACTIONS.items():
        if method == "GET" and name in parameters:
            return action
    for name in _BUCKET_SUBRESOURCES:
        if name in parameters:
            return f"{method.title()}Bucket{name.title()}"
    if method == "GET":
        is_second = parameters.get("list-type") == "2"
        return Action.ListObjectsV2 if is_second else "ListObjects"
    if method == "POST" and "delete" in parameters:
        return "DeleteMultipleObjects"
    return f"{method.title()}Bucket"
