"""The store's clock: its dates read, and how far ours is ahead of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_is_iso = re.compile(r"[0-9]{4}-[0-9-]{5}T[0-9:.]{1,16}Z").fullmatch
_is_http_date = re.compile(
    r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", re.ASCII
).fullmatch


def clock_offset(
    headers: Mapping[str, str],
    now: Callable[[], float],
    known: float | None = None,
) -> float | None:
    """Return how many seconds this machine's clock is ahead of the store's.

    Args:
        headers: of a reply that came just now, names in lower case.
        now: this machine's clock; asked only if the reply has a readable ``Date``.
        known: what was measured before, and counts if there is none.
    """
    there = moment(headers.get("date", ""))
    return known if there is None else float(round(now() - there))


@lru_cache(maxsize=64)  # many replies come in one second
def moment(text: str) -> float | None:
    """Return a date of HTTP or of OSS's XML as seconds since the epoch; None if none."""
    try:
        if _is_iso(text):
            return datetime.fromisoformat(text).timestamp()
        if _is_http_date(text):
            return parsedate_to_datetime(text).timestamp()
    except ValueError:
        pass
    return None
