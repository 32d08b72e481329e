"""Settings of the emulator, and its clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from typing import Any

from attrs import define, frozen

from ..signing import Credentials

DEFAULT_REGION = "cn-hangzhou"

Callback = Callable[[Mapping[str, Any]], bytes | None]


@define
class Clock:
    """Seconds since the epoch, called like ``time.time``: *source* plus *offset*."""

    source: Callable[[], float]
    offset: float = 0.0

    def __call__(self) -> float:
        """Return the time of the emulator."""
        return self.source() + self.offset

    def jump(self, seconds: float) -> None:
        """Move forward by *seconds*, or back if they are negative."""
        self.offset += seconds


_is_unreachable = re.compile(r"(https?://)?[a-z0-9.-]+\.invalid(:\d+)?(/.*)?").fullmatch


def accept_callback(wanted: Mapping[str, Any]) -> bytes | None:
    """Callback server that accepts everything; hosts below ``.invalid`` fail."""
    url = str(wanted["callbackUrl"]).split(";")[0]
    return None if _is_unreachable(url) else b'{"Status":"OK"}'


@frozen(kw_only=True)
class EmulatorSettings:
    """Arguments of :class:`Emulator` for its calls; ``keys`` are by access key ID."""

    keys: Mapping[str, Credentials]
    region: str | None
    clock: Clock
    cnames: Mapping[str, str]
    origins: Container[str]
    min_part: int
    max_put: int
    body_timeout: float
    callback: Callback

    @property
    def location(self) -> str:
        """Region of the buckets."""
        return self.region or DEFAULT_REGION

    def allowed(self, origin: str | None) -> str | None:
        """Return the permitted origin for *origin*; None if CORS refuses it."""
        if origin is None:
            return None
        return next((one for one in ("*", origin) if one in self.origins), None)
