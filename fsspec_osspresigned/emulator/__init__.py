"""OSS on localhost for tests and demos: verifies every signature, answers as OSS does."""

from __future__ import annotations

from .calls.exchange import Clock
from .fault_text import parse_faults
from .faults.faults import Fault, Faults
from .records import Record
from .server import Emulator, serve
from .store.store import StoredObject

__all__ = [
    "Clock",
    "Emulator",
    "Fault",
    "Faults",
    "Record",
    "StoredObject",
    "parse_faults",
    "serve",
]
