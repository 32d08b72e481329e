"""A pytest plugin: fixtures for tests that need an OSS server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from . import Emulator


@pytest.fixture
def oss_emulator() -> Iterator[Emulator]:
    """Run an empty emulator with the bucket ``examplebucket`` for one test."""
    # Imported here: pytest loads the plugin even where the [server] extra is absent.
    from . import Emulator  # noqa: PLC0415

    with Emulator() as oss:
        yield oss
