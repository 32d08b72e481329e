"""What became of the object, when storing it failed."""

from __future__ import annotations

import enum


class Outcome(enum.StrEnum):
    """Whether the bytes that were sent are the object now."""

    NOT_STORED = "not stored"
    STORED = "stored"
    UNKNOWN = "unknown"
