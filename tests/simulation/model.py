"""A small model of the store, independent of the emulator.

It ignores signatures. It gets each request that the emulator accepted, and checks the
result. So it finds mistakes that package and emulator have in common.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlsplit

from attrs import define, field, frozen

from .world import Broken

if TYPE_CHECKING:
    from .store import Answer, Request

_PART = re.compile(
    rb"<Part>\s*<PartNumber>(\d+)</PartNumber>\s*<ETag>\"?(\w+)\"?</ETag>\s*</Part>"
)
_POLYNOMIAL = 0xC96C5795D7870F42  # polynomial of CRC-64/XZ, reflected
_SUMMED = 100  # bytes of the largest body whose CRC-64 is calculated


def _crc64(data: bytes) -> int:
    rest = 2**64 - 1
    for byte in data:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ (_POLYNOMIAL if rest & 1 else 0)
    return rest ^ 2**64 - 1


@frozen
class _Call:
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    answer: Answer


@define
class Model:
    """Objects by path, and open uploads: their path, and the bytes of their parts."""

    objects: dict[str, bytes] = field(factory=dict)
    uploads: dict[str, tuple[str, dict[int, bytes]]] = field(factory=dict)
    # headers that each new object must have
    demands: dict[str, str] = field(factory=dict)

    def check(self, request: Request, answer: Answer) -> None:
        """Execute *request*; *answer* must be one that this model permits."""
        parts = urlsplit(f"{request.origin}{request.target}")
        path = f"{parts.netloc.partition('.')[0]}/{unquote(parts.path[1:])}"
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        lines = (line.decode("latin-1").partition(":") for line in request.lines)
        headers = {name.lower(): value.strip() for name, _, value in lines}
        call = _Call(path, query, headers, request.body, answer)
        lacking = {n: v for n, v in self.demands.items() if headers.get(n) != v}
        if lacking and answer.action in ("PutObject", "InitiateMultipartUpload"):
            raise Broken(f"{answer.action} of {path} lacks {lacking}")
        empty = [n for n, v in query.items() if n.startswith("x-oss-") and not v]
        if empty:
            raise Broken(f"{answer.action} of {path} has no value of {empty}")
        name = re.sub("(?=[A-Z])", "_", answer.action).lower()
        rule = getattr(self, name, None)
        if rule is None or answer.status not in (200, 204, 206, 404, 409):
            return  # the store refused the request, so no object changes
        said = rule(call)
        if said is not None:
            raise Broken(f"{answer.action} of {path} said {answer.status}: {said}")

    def note(self, path: str, data: bytes) -> None:
        """Record an object from a form, or a damaged copy."""
        self.objects[path] = data

    def _put_object(self, call: _Call) -> str | None:
        is_kept = call.headers.get("x-oss-forbid-overwrite") == "true"
        if (call.answer.status == 409) != (is_kept and call.path in self.objects):
            return f"an object is there: {call.path in self.objects}"
        if call.answer.status == 200:
            self.objects[call.path] = call.body
            return _unproven(call.body, call.answer)
        return None

    def _copy_object(self, call: _Call) -> str | None:
        source = self.objects.get(unquote(call.headers["x-oss-copy-source"])[1:])
        if call.answer.status == 200:
            if source is None:
                return "there is no source"
            self.objects[call.path] = source
        return None

    def _get_object(self, call: _Call) -> str | None:
        data = self.objects.get(call.path)
        if (call.answer.status == 404) != (data is None):
            return f"an object is there: {data is not None}"
        if data is not None:
            span = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("range", ""))
            if span and call.answer.status == 206:
                first, last = (int(n) if n else None for n in span.groups())
                if first is None:  # the last bytes
                    first, last = max(0, len(data) - (last or 0)), None
                data = data[first : None if last is None else last + 1]
            if call.answer.body != data:
                return f"{len(call.answer.body)} bytes, not {len(data)}"
        return None

    def _head_object(self, call: _Call) -> str | None:
        data = self.objects.get(call.path)
        if (call.answer.status == 404) != (data is None):
            return f"an object is there: {data is not None}"
        is_right = data is None or call.answer.headers["Content-Length"] == str(
            len(data)
        )
        return None if is_right else "its size is wrong"

    def _delete_object(self, call: _Call) -> str | None:
        self.objects.pop(call.path, None)
        return None

    def _initiate_multipart_upload(self, call: _Call) -> str | None:
        if call.answer.status == 409:
            return None if call.path in self.objects else "there is no object"
        found = re.search(rb"<UploadId>(.*)</UploadId>", call.answer.body)
        if found is None or (name := found[1].decode()) in self.uploads:
            return "it has no new upload ID"
        self.uploads[name] = (call.path, {})
        return None

    def _upload_part(self, call: _Call) -> str | None:
        upload = self.uploads.get(call.query["uploadId"])
        if (call.answer.status == 200) != (
            upload is not None and upload[0] == call.path
        ):
            return f"the upload is {upload and upload[0]}"
        if upload is not None:
            upload[1][int(call.query["partNumber"])] = call.body
            return _unproven(call.body, call.answer)
        return None

    def _upload_part_copy(self, call: _Call) -> str | None:
        source = self.objects.get(unquote(call.headers["x-oss-copy-source"])[1:])
        upload = self.uploads.get(call.query["uploadId"])
        if call.answer.status == 200:
            if upload is None or source is None:
                return "there is no upload, or no source"
            first, last = (
                call.headers["x-oss-copy-source-range"]
                .removeprefix("bytes=")
                .split("-")
            )
            upload[1][int(call.query["partNumber"])] = source[
                int(first) : int(last) + 1
            ]
        return None

    def _complete_multipart_upload(self, call: _Call) -> str | None:
        upload = self.uploads.get(call.query["uploadId"])
        is_kept = call.headers.get("x-oss-forbid-overwrite") == "true"
        if call.answer.status == 409 and is_kept and call.path in self.objects:
            return None
        if (call.answer.status == 200) != (
            upload is not None and upload[0] == call.path
        ):
            return f"the upload is {upload and upload[0]}"
        if upload is not None:
            listed = [
                (int(number), etag.decode())
                for number, etag in _PART.findall(call.body)
            ]
            if not listed or [n for n, _ in listed] != sorted({n for n, _ in listed}):
                return f"parts {listed} are listed"
            if any(_md5(upload[1].get(n, b"")) != etag for n, etag in listed):
                return "a listed part is wrong"
            self.objects[call.path] = b"".join(upload[1][n] for n, _ in listed)
            del self.uploads[call.query["uploadId"]]
        return None

    def _abort_multipart_upload(self, call: _Call) -> str | None:
        is_open = self.uploads.pop(call.query["uploadId"], None) is not None
        return (
            None
            if is_open == (call.answer.status == 204)
            else f"it was open: {is_open}"
        )


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest().upper()  # noqa: S324 - the protocol prescribes it


def _unproven(body: bytes, answer: Answer) -> str | None:
    """Return why a reply does not prove that *body* was stored; None if it does."""
    if answer.headers["ETag"].strip('"') != _md5(body):
        return "the ETag is not the MD5"
    stated = answer.headers["x-oss-hash-crc64ecma"]
    if len(body) <= _SUMMED and stated != str(_crc64(body)):
        return "the CRC-64 is wrong"
    return None
