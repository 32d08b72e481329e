"""GetObject and HeadObject: conditions, ranges, overrides."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from ...http.body import CRC_HEADER
from ..message.answers import Answer, RefusedError, http_date, quoted
from ..message.call import Call
from ..store.store import StoredObject
from .exchange import Exchange, invalid_argument, stored_reply
from .properties import check_traffic_limit, shown

_RANGE = re.compile("bytes=([0-9]{0,18})-([0-9]{0,18})")
_OVERRIDES = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)


async def get_object(exchange: Exchange) -> Answer:
    """Answer an object, or a range of it."""
    call = exchange.call
    check_traffic_limit(call)
    stored = exchange.found()
    check_conditions(call, stored)
    headers = _headers(stored)
    for name in _OVERRIDES:
        if (value := call.parameters.get(f"response-{name}")) is not None:
            if not value.isprintable():
                raise invalid_argument("The header is not valid.", ArgumentName=name)
            headers[name] = value
    wanted = _range(call, stored.size)
    if wanted is None:
        return _slice(stored, 0, stored.size, headers, status=200)
    start, stop = wanted
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
    headers.pop("Content-MD5", None)
    return _slice(stored, start, stop, headers, status=206)


async def head_object(exchange: Exchange) -> Answer:
    """Answer the headers of an object."""
    stored = exchange.found()
    check_conditions(exchange.call, stored)
    return Answer(headers=_headers(stored), length=stored.size)


async def get_object_meta(exchange: Exchange) -> Answer:
    """Answer what costs least to know of an object."""
    stored = exchange.found()
    check_conditions(exchange.call, stored)
    headers = {
        "Last-Modified": http_date(stored.modified),
        "ETag": quoted(stored.etag),
        CRC_HEADER: str(stored.crc64),
    }
    if exchange.call.method == "GET":
        return Answer(headers=headers)
    return Answer(headers=headers, length=stored.size)


def check_conditions(call: Call, stored: StoredObject, prefix: str = "") -> None:
    """Compare the conditional headers of *call* with *stored*.

    Args:
        call: the request.
        stored: what it is about.
        prefix: in front of the names of the headers.

    Raises:
        RefusedError: 304 or 412.
    """
    given = {
        name: call.headers.get(f"{prefix}if-{name}")
        for name in ("match", "none-match", "modified-since", "unmodified-since")
    }
    modified = int(stored.modified)
    since = _seconds(given["modified-since"])
    before = _seconds(given["unmodified-since"])
    if (given["match"] is not None and not _matches(given["match"], stored.etag)) or (
        before is not None and modified > before
    ):
        raise RefusedError(
            412,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
        )
    if (
        given["none-match"] is not None and _matches(given["none-match"], stored.etag)
    ) or (since is not None and modified <= since):
        raise RefusedError(
            304, "NotModified", "", headers={"ETag": quoted(stored.etag)}
        )


def _matches(wanted: str, etag: str) -> bool:
    names = {name.strip().strip('"').upper() for name in wanted.split(",")}
    return "*" in names or etag.upper() in names


def _seconds(text: str | None) -> int | None:
    """Return an HTTP date in seconds; None if it is none, which OSS ignores."""
    if text is None:
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (OverflowError, ValueError):
        return None


def _range(call: Call, size: int) -> tuple[int, int] | None:
    """Return start and stop; None for the whole object.

    OSS answers the whole object to a range that does not lie within it, unless the
    standard behaviour is asked for (API reference, GetObject, ``x-oss-range-behavior``).

    Raises:
        RefusedError: 416, under the standard behaviour only.
    """
    found = _RANGE.fullmatch(call.headers.get("range", "").replace(" ", ""))
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
    raise RefusedError(
        416,
        "InvalidRange",
        "The requested range cannot be satisfied",
        headers={"Content-Range": f"bytes */{size}"},
    )


def _slice(
    stored: StoredObject, start: int, stop: int, headers: dict[str, str], *, status: int
) -> Answer:
    return Answer(
        status=status,
        headers=headers,
        body=stored.body.chunks(start, stop),
        length=stop - start,
    )


def _headers(stored: StoredObject) -> dict[str, str]:
    return {
        "Accept-Ranges": "bytes",
        "Last-Modified": http_date(stored.modified),
        "x-oss-object-type": stored.kind,
        **shown(stored.headers),
        **stored_reply(stored),
    }
