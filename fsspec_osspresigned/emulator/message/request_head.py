"""Parsed head of a request: the OSS call, its bucket and its object key."""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote, unquote_plus

from attrs import field, frozen

from ...signing.canonical import parse_query
from ...signing.endpoint import region_of
from ...signing.verifying import Received

_is_number = re.compile("[0-9]{1,18}").fullmatch
_NAME = r"([a-z0-9][a-z0-9-]{1,61}[a-z0-9])"
_bucket_host = re.compile(
    rf"{_NAME}(?:\.localhost|\.(?:[a-z0-9-]+\.)?oss[a-z0-9-]*\.aliyuncs\.com)"
).fullmatch


@frozen
class FormPart:
    """Headers of one part of a form; filename and type are None if absent."""

    name: str
    filename: str | None = None
    content_type: str | None = None


@frozen
class ReceivedForm:
    """Fields of a form before its file, with names in lower case."""

    fields: Mapping[str, str]
    file: FormPart

    @property
    def judged(self) -> Mapping[str, str]:
        """Form fields to check against the policy, with the file's Content-Type.

        A field of the form named Content-Type takes precedence over that of the file.
        """
        if self.file.content_type is None:
            return self.fields
        return {"content-type": self.file.content_type, **self.fields}


@frozen(kw_only=True)
class Call(Received):
    """The OSS call that a request makes. The first of repeated parameters counts.

    Attributes:
        action: name of the call in the API reference.
        bucket: empty for a call on the service itself.
        key: object key, percent-decoded once; empty for a call on a bucket.
        path: path of the URL as received, not decoded, without the query.
        form: the form of a PostObject, whose field ``key`` is then the key of the call;
            None until the form was read.
    """

    action: str = ""
    method: str = "GET"
    path: str = ""
    parameters: Mapping[str, str] = field(factory=dict, repr=False)
    form: ReceivedForm | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """The Host header of the request."""
        return self.headers.get("host", "")

    @property
    def upload_id(self) -> str | None:
        """The upload ID in the query; None if the query has no upload ID."""
        return self.parameters.get("uploadId")

    @property
    def part_number(self) -> int | None:
        """The part number in the query; None without a valid number."""
        return read_number(self.parameters.get("partNumber", ""))

    @property
    def region(self) -> str | None:
        """The region in the host name; None if the host name has none."""
        return region_of(self.host)

    @property
    def content_length(self) -> int | None:
        """Content-Length in bytes; None for a chunked body or without a body."""
        return read_number(self.headers.get("content-length", ""))


def read_call(scope: MutableMapping[str, Any], cnames: Mapping[str, str]) -> Call:
    """Return the call of a request from its ASGI *scope*.

    *cnames* maps host names to buckets.
    """
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
    """Return the number in *text*, at most 18 digits; None if it is invalid."""
    return int(text) if _is_number(text) else None
