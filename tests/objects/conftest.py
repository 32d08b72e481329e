"""The filesystems of ``tests/filesystem``, through which objects are reached."""

from __future__ import annotations

from tests.filesystem.conftest import (  # noqa: F401 - fixtures
    blind,
    environment,
    fs,
    full,
    only,
    owner,
)
