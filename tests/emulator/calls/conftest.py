"""A fresh object key for each test."""

from __future__ import annotations

import uuid

import pytest


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return uuid.uuid4().hex
