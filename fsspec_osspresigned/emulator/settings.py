"""Settings of the emulator, and its clock."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, frozen

from ..signing.canonical import Credentials

DEFAULT_REGION = "cn-hangzhou"

Callback = Callable[[Mapping[str, Any]], bytes | None]


@define
class Clock:
    """A replacement for ``time.time`` that is ahead of it by *offset* seconds."""

    offset: float = 0.0

    def __call__(self) -> float:
        """Return the emulator's time in seconds since the epoch."""
        return time.time() + self.offset

    def jump(self, seconds: float) -> None:
        """Move the clock forward by *seconds*; a negative number moves it back."""
        self.offset += seconds


_is_unreachable = re.compile(r"(https?://)?[a-z0-9.-]+\.invalid(:\d+)?(/.*)?").fullmatch


def accept_callback(wanted: Mapping[str, Any]) -> bytes | None:
    """Return a callback server's reply. None is a failure, for hosts in ``.invalid``."""
    url = str(wanted["callbackUrl"]).split(";")[0]
    return None if _is_unreachable(url) else b'{"Status":"OK"}'


@frozen(kw_only=True)
class EmulatorSettings:
    keys: Mapping[str, Credentials]  # access key ID -> credentials
    region: str
    clock: Clock
    cnames: Mapping[str, str]  # host name -> bucket
    callback: Callback
