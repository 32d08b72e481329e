"""Strict parsers for untrusted JSON, XML and dates.

The XML parsers are loaded with the first document, because a small upload needs none.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


_is_iso = re.compile(r"[0-9]{4}-[0-9-]{5}T[0-9:.]{1,16}Z").fullmatch
_is_http_date = re.compile(r"(?a)\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT").fullmatch
is_number = re.compile(r"[0-9]{1,20}").fullmatch
_MAX_NAME = 60
# maximum tags or attributes; a listing of 1,000 objects has 25,000
_MAX_MARKUP = 100_000
_MAX_DIGITS = 300
_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    str: "a string",
    **dict.fromkeys((int, float), "a number"),
    **dict.fromkeys((list, tuple), "a list"),
}


def clock_offset(
    headers: Mapping[str, str], now: Callable[[], float], known: float | None = None
) -> float | None:
    """Return how many seconds this machine's clock is ahead of the store's.

    *headers* are the headers of a reply that has just arrived, with names in lower
    case. Without a valid ``Date``, *known* is returned.
    """
    store_time = moment(headers.get("date", ""))
    return known if store_time is None else float(round(now() - store_time))


@lru_cache(maxsize=64)  # many replies arrive within one second
def moment(text: str) -> float | None:
    """Return an HTTP or XML date as seconds since the epoch; None if it is invalid."""
    with suppress(ValueError):
        if _is_iso(text):
            return datetime.fromisoformat(text).timestamp()
        if _is_http_date(text):
            return parsedate_to_datetime(text).timestamp()
    return None


def loads(data: bytes | str, *, max_depth: int | None = None) -> Any:
    """Return the value of one JSON document; refuse duplicate keys and NaN.

    Bytes are UTF-8; a byte order mark is skipped. *max_depth* limits the nesting of
    lists and objects; None leaves the limit to Python. Every error is a ValueError; its
    message gives a position in the text, never a piece of the text.
    """
    try:
        value = _DECODER.decode(_decoded(data) if isinstance(data, bytes) else data)
    except json.JSONDecodeError as error:
        where = f"at line {error.lineno} column {error.colno}"
        what = error.msg.removesuffix(" starting at")
        raise ValueError(f"not JSON: {what} {where}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if max_depth is not None and _is_deeper(value, max_depth):
        raise ValueError(f"nested deeper than {max_depth}")
    return value


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from None


def kind(value: object) -> str:
    """Return the JSON name of the type of *value*, for messages."""
    return _KINDS.get(type(value), "an object")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message with the most similar of *known*, or ""."""
    from difflib import get_close_matches  # noqa: PLC0415 - needed only for a typo

    close = get_close_matches(name, sorted(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def is_int(value: object) -> bool:
    """Return whether *value* is an integer; False for the values True and False."""
    return isinstance(value, int) and not isinstance(value, bool)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = next(name for name, count in counts.items() if count > 1)
        # A name can be any path. If it may be a signed URL, it is not shown.
        shown = "a key" if "?" in name else f"the key {name[:_MAX_NAME]!r}"
        raise ValueError(f"{shown} appears twice in one object")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"not JSON: {name} is not a JSON number")


def _integer(text: str) -> int:
    # Python itself rejects 4,300 digits, with a message about its settings.
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"not JSON: a number has more than {_MAX_DIGITS} digits")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("not JSON: a number is too large")
    return value


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        nested = [item for item in level if isinstance(item, (dict, list))]
        if not nested:
            return False
        level = [x for i in nested for x in (i.values() if isinstance(i, dict) else i)]
    return True


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_no_constant,
    parse_int=_integer,
    parse_float=_float,
)


def parse(body: bytes, root: str | None = None) -> Element:
    """Return the root element of the XML *body*, with tags without namespaces.

    No entity is ever expanded, because a document type declaration is refused before
    parsing. The caller limits the size of *body*.

    Raises:
        ValueError: *body* is not XML in UTF-8, has a document type declaration, another
            root than *root* (None accepts any), or more than 100,000 tags or attributes.
    """
    from xml.etree.ElementTree import ParseError, fromstring  # noqa: PLC0415 - loaded with the first document
    from xml.parsers.expat import ErrorString  # noqa: PLC0415 - loaded with the first document

    text = _decoded(body)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("holds a document type declaration")
    if max(text.count("<"), text.count("=")) > _MAX_MARKUP:
        # Parsing eight megabytes of markup would take five seconds and 260 MB.
        raise ValueError(f"has more than {_MAX_MARKUP:,} tags or attributes")
    try:
        tree = fromstring(text)  # noqa: S314 - declarations are refused above
    except ParseError as error:
        # The error's own text would repeat names from the document, which can be long.
        where = f"at line {error.position[0]} column {error.position[1] + 1}"
        raise ValueError(f"not XML: {ErrorString(error.code)} {where}") from None
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    if root is not None and tree.tag != root:
        raise ValueError(f"its root is {tree.tag[:40]!r}, not {root!r}")
    return tree


def complete_multipart_upload(parts: Iterable[tuple[int, str]]) -> bytes:
    """Return the body of CompleteMultipartUpload for ``(part number, ETag)`` pairs."""
    from xml.sax.saxutils import escape  # noqa: PLC0415 - loaded with the first document

    rows = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in parts
    )
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()
