"""``osspresigned demo``: an owner with keys, an uploader without, every byte compared."""

from __future__ import annotations
