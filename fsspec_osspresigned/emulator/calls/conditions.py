"""Conditional headers and byte ranges of a call."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from ..message.call import Call
from ..message.errors import refused
from ..message.replies import quoted
from ..store.stored import StoredObject

_is_range = re.compile("bytes=([0-9]{0,18})-([0-9]{0,18})").fullmatch


def check_conditions(call: Call, stored: StoredObject, prefix: str = "") -> None:
    """Compare the conditional headers of *call*, named with *prefix*, with *stored*.

    Raises:
        RefusedError: 304 or 412.
    """

    def given(name: str) -> str | None:
        return call.headers.get(f"{prefix}if-{name}")

    modified = int(stored.modified)
    match, since = given("match"), _seconds(given("unmodified-since"))
    if (match is not None and not _matches(match, stored.etag)) or (
        since is not None and modified > since
    ):
        raise refused("PreconditionFailed")
    match, since = given("none-match"), _seconds(given("modified-since"))
    if (match is not None and _matches(match, stored.etag)) or (
        since is not None and modified <= since
    ):
        raise refused("NotModified", headers={"ETag": quoted(stored.etag)})


def _matches(wanted: str, etag: str) -> bool:
    names = {name.strip().strip('"').upper() for name in wanted.split(",")}
    return "*" in names or etag.upper() in names


def _seconds(text: str | None) -> int | None:
    """Return an HTTP date in seconds; None if it is none, which OSS ignores."""
    try:
        return None if text is None else int(parsedate_to_datetime(text).timestamp())
    except (OverflowError, ValueError):
        return None


def wanted_range(call: Call, size: int) -> tuple[int, int] | None:
    """Return start and end offset (exclusive); None for the whole object.

    OSS answers the whole object to a range that does not lie within it, unless the
    standard behaviour is asked for (API reference, GetObject, ``x-oss-range-behavior``).

    Raises:
        RefusedError: 416, under the standard behaviour only.
    """
    found = _is_range(call.headers.get("range", "").replace(" ", ""))
    if not found or not (found[1] or found[2]):
        return None
    standard = call.headers.get("x-oss-range-behavior") == "standard"
    if found[1]:
        start, end = int(found[1]), int(found[2] or max(size - 1, 0))
        if found[2] and end < start:
            return None
    else:
        start, end = size - int(found[2]), size - 1
        if start < 0 and standard:
            start = 0
    if 0 <= start < size and (end < size or standard):
        return start, min(end + 1, size)
    if not standard:
        return None
    raise refused("InvalidRange", headers={"Content-Range": f"bytes */{size}"})


def copied_range(call: Call, size: int) -> tuple[int, int]:
    """Return start and end offset (exclusive) of what UploadPartCopy reads."""
    text = call.headers.get("x-oss-copy-source-range")
    if text is None:
        return 0, size
    found = _is_range(text)
    if not (found and found[1] and found[2]):
        raise refused("InvalidRange")
    start, end = int(found[1]), int(found[2])
    if not start <= end < size:
        raise refused("InvalidRange")
    return start, end + 1
