"""The event loop of an engine."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any


class EngineLoop(asyncio.SelectorEventLoop):
    """The event loop of an *engine*, an ``engine.Engine``."""

    engine: Any

    def __del__(self) -> None:
        """Close a loop that could not be made, for want of descriptors, without a warning."""
        with suppress(Exception):  # its parts may be missing
            self.close()
