"""A disk that knows what a power cut would leave."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


class PowerCut:
    """Follows ``os.open``, ``os.fsync`` and ``os.replace``: what was not synced is lost.

    Attributes:
        kept: path -> bytes of the file after a power cut.
        torn: files that were renamed before all of their bytes were on the disk.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kept: dict[str, bytes] = {}
        self.torn: list[str] = []
        self._paths: dict[int, Path] = {}  # of open files, by descriptor
        self._open, self._fsync, self._replace = os.open, os.fsync, os.replace
        monkeypatch.setattr(os, "open", self._opened)
        monkeypatch.setattr(os, "fsync", self._synced)
        monkeypatch.setattr(os, "replace", self._replaced)

    def _opened(self, path: str, *args: Any, **options: Any) -> int:
        descriptor = self._open(path, *args, **options)
        self._paths[descriptor] = Path(path)
        return descriptor

    def _synced(self, descriptor: int) -> None:
        self._fsync(descriptor)
        place = self._paths[descriptor]
        if place.is_file():  # and no directory
            self.kept[str(place)] = place.read_bytes()

    def _replaced(self, source: str, target: str) -> None:
        whole = Path(source).read_bytes()
        self._replace(source, target)
        self.kept[str(target)] = self.kept.pop(str(source), b"")
        if self.kept[str(target)] != whole:
            self.torn.append(str(target))

    def check(self, place: Path) -> None:
        """Check that a power cut now would leave *place* as it is."""
        assert self.kept[str(place)] == place.read_bytes()
        assert not self.torn
