"""OSS emulator on localhost, which verifies signatures and replies like OSS.

Begin with ``app``, which handles one request from its head to its reply.
"""

from __future__ import annotations

from .app import RequestRecord
from .faults import Fault, Faults, parse_faults
from .server import Emulator, serve
from .settings import Clock
from .store import StoredObject

__all__ = [
    "Clock",
    "Emulator",
    "Fault",
    "Faults",
    "RequestRecord",
    "StoredObject",
    "parse_faults",
    "serve",
]
