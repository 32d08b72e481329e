"""A pytest plugin: fixtures for tests that need an OSS server.

pytest loads it at each start, also in environments without the extra ``server``. So it
imports nothing of the package until a test uses a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .emulator import Emulator


@pytest.fixture
def oss_emulator() -> Iterator[Emulator]:
    """Run an empty emulator with the bucket ``examplebucket`` for one test."""
    try:
        from .emulator import Emulator  # noqa: PLC0415 - it needs the extra `server`
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        remedy = "pip install 'fsspec-osspresigned[server]'"
        reason = f"oss_emulator needs the package {error.name}: {remedy}"
        pytest.fail(reason, pytrace=False)
    with Emulator() as oss:
        yield oss
