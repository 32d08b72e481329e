"""OSS on localhost for tests and demos: verifies every signature, answers as OSS does."""

from .app import Record
from .faults import Fault, Faults
from .server import Emulator, serve
from .store import StoredObject

__all__ = ["Emulator", "Fault", "Faults", "Record", "StoredObject", "serve"]
