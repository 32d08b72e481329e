"""Interrupts, as by an exception from a signal handler."""

from __future__ import annotations

import contextlib
import time
import urllib.error
import urllib.request


class Interrupt(BaseException):
    """The exception of a signal handler."""


def settle(oss):
    """Wait until the store has done all that was sent before an interrupt."""
    for _ in range(2):  # it has read all that had come before the first of them
        with contextlib.suppress(urllib.error.HTTPError):  # it is not signed
            urllib.request.urlopen(f"{oss.url}/examplebucket/")
    while oss.under_way:
        time.sleep(0.001)
