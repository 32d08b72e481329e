"""Parsed head of a request: the OSS call, its bucket and its object key."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote, unquote_plus

from attrs import field, frozen

from ...signing import Received
from ...signing.canonical import parse_query
from ...signing.endpoint import region_of

_is_number = re.compile("[0-9]{1,18}").fullmatch
_NAME = r"([a-z0-9][a-z0-9-]{1,61}[a-z0-9])"
_bucket_host = re.compile(
    rf"{_NAME}(?:\.localhost|\.(?:[a-z0-9-]+\.)?oss[a-z0-9-]*\.aliyuncs\.com)"
).fullmatch


@frozen
class FormPart:
    """Head of one part of a form; filename and type are None if absent."""

    name: str
    filename: str | None = None
    content_type: str | None = None


@frozen
class ReceivedForm:
    """Fields before the file of a form, with names in lower case."""

    fields: Mapping[str, str]
    file: FormPart

    @property
    def judged(self) -> Mapping[str, str]:
        """The fields for the policy, with the file's Content-Type if no field has it."""
        if self.file.content_type is None:
            return self.fields
        return {"content-type": self.file.content_type, **self.fields}


@frozen(kw_only=True)
class Call(Received):
    """One request. The first value of a repeated parameter or header counts.

    Attributes:
        action: name of the call in the API reference.
        bucket: empty for the service itself.
        key: decoded once, including plus signs, not normalized; empty for a bucket.
        path: as received, not decoded, without the query.
        form: the form of a PostObject, whose key is then that of the call; None until it
            was read.
    """

    action: str = ""
    method: str = "GET"
    path: str = ""
    parameters: Mapping[str, str] = field(factory=dict, repr=False)
    form: ReceivedForm | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The Host header."""
        return self.headers.get("host", "")

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
        return region_of(self.host)

    @property
    def content_length(self) -> int | None:
        """Announced size in bytes; None for a chunked body or without a body."""
        return read_number(self.headers.get("content-length", ""))


def read_call(scope: MutableMapping[str, Any], cnames: Mapping[str, str]) -> Call:
    """Read the head of a request; *cnames* maps host names to buckets."""
    headers: dict[str, str] = {}
    for header, value in scope["headers"]:
        # Bytes that are no UTF-8 become lone surrogates.
        text = value.decode("utf-8", "surrogateescape").strip()
        headers.setdefault(header.decode("latin-1"), text)
    path: str = scope["raw_path"].decode("latin-1")
    query: str = scope["query_string"].decode("latin-1")
    host = re.sub(r":\d+\Z", "", headers.get("host", "")).lower()
    found = _bucket_host(host)
    bucket = cnames.get(host) or (found[1] if found else None)
    raw_key = path.removeprefix("/")
    if bucket is None:
        raw_bucket, _, raw_key = raw_key.partition("/")
        bucket = unquote(raw_bucket, errors="surrogateescape")
    return Call(
        method=scope["method"],
        bucket=bucket,
        key=unquote_plus(raw_key, errors="surrogateescape"),
        path=path,
        query=query,
        parameters=dict(reversed(parse_query(query))),
        headers=headers,
    )


def read_number(text: str) -> int | None:
    """Return a decimal number of at most 18 digits; None if *text* is invalid."""
    return int(text) if _is_number(text) else None
