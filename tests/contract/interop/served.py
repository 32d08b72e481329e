"""A running ``osspresigned serve``, for clients of its routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.owner.service.conftest import Service, policy_text

SITE = "https://app.example.com"


@pytest.fixture
def served(oss: object, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the service for the store of the test; further lines are its policy's."""
    running = []

    def start(*lines: str, options: tuple[str, ...] = ("--uppy", SITE)) -> str:
        file = tmp_path / "policy.toml"
        more = '"HeadObject", "ListParts", "PostObject"'
        file.write_text(policy_text(*lines).replace('"HeadObject"', more), "utf-8")
        service = Service(file, *options)
        running.append(service.process)
        return service.url

    yield start
    for process in running:
        process.kill()
        process.communicate()
