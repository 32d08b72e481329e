"""Units: sizes, times and rates as numbers and as text."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": 1024 * GIB}
_LIFE = re.compile(r"([0-9]{1,9})([smhd])")
_SIZE = re.compile(r"([0-9]{1,18})\s*(?:([kmgt])i?b?|b)?", re.IGNORECASE)
_RATE = re.compile(
    r"([0-9]{1,18}(?:\.[0-9]{1,6})?)\s*([kmgt]i?b?|b)?(?:/s)?", re.IGNORECASE
)


def seconds_of(text: str, days: int = 7) -> int:
    """Return the seconds in a lifetime such as ``90s``, ``30m``, ``2h`` or ``7d``.

    Raises ValueError if *text* is invalid, below one second, or above *days*, by default
    OSS's limit for signatures.
    """
    match = _LIFE.fullmatch(text.strip())
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 1 <= seconds <= days * _SECONDS["d"]:
        raise ValueError(
            f"{text[:40]!r} is not a lifetime from 1s to {days}d: write 90s, 30m, 2h or 1d"
        )
    return seconds


def bytes_of(text: str) -> int:
    """Return the bytes in a size such as ``8388608``, ``8MiB`` or ``10G``.

    Raises ValueError if *text* is no size.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:40]!r} is not a size: write 8388608, 8MiB or 10GiB")
    return int(match[1]) * _BYTES[(match[2] or "").lower()]


def rate_of(text: str, plain: int = 1) -> float:
    """Return the bytes per second in a rate such as ``500K``, ``10MiB`` or ``2.5M/s``.

    A number without a unit counts as *plain* bytes. Raises ValueError if the rate is
    invalid, or zero.
    """
    match = _RATE.fullmatch(text.strip())
    unit = match[2][0].lower() if match and match[2] else None
    rate = float(match[1]) * (_BYTES[unit] if unit else plain) if match else 0.0
    if not rate:
        raise ValueError(f"{text[:40]!r} is not a rate: write 500K, 10MiB or 2.5M/s")
    return rate


def shown_bytes(size: int) -> str:
    """Return *size* in the largest unit that divides it: ``8 MiB``, ``1000 bytes``."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def short_bytes(number: float) -> str:
    """Return *number* of bytes with about three digits and a unit: ``12.3 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1000:  # noqa: PLR2004 - shown with three digits
            digits = 0 if unit == "B" or number >= 100 else 1  # noqa: PLR2004
            return f"{number:.{digits}f} {unit}"
        number /= KIB
    return f"{number:.1f} TiB"


def shown_seconds(seconds: float) -> str:
    """Return a duration by its two largest units: ``1 h 59 min``."""
    left = int(seconds)
    words = []
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, unit)
        if count:
            words.append(f"{count} {name}")
    return " ".join(words[:2]) or "0 s"


def shown_moment(moment: float) -> str:
    """Return seconds since the epoch as a UTC date; as a number if out of range."""
    try:
        return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{moment:.0f} s after 1970"


def oss_moment(moment: float) -> str:
    """Return seconds since the epoch as OSS's XML and policies write them."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(moment))


def shown_end(moment: float | None, now: float) -> str:
    """Return an expiry time as text, with the time left or the time since it EXPIRED.

    *moment* and *now* are seconds since the epoch; *moment* None is ``not visible``.
    """
    if moment is None:
        return "not visible"
    if moment <= now:
        return f"{shown_moment(moment)} (EXPIRED {shown_seconds(now - moment)} ago)"
    return f"{shown_moment(moment)} ({shown_seconds(moment - now)} left)"


def shown_local(path: str) -> str:
    """Return the local *path* for terminals; relative if it is in the working directory."""
    return shown_text(path.removeprefix(f"{os.getcwd()}/"))


def shown_text(text: str) -> str:
    """Return *text* with control characters escaped, for terminals."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
