"""Paths of objects: ``bucket/key`` of what a caller gives."""

from __future__ import annotations

from typing import Any

from fsspec.utils import stringify_path

from ..client.client import Client

PROTOCOL = "osspresigned"


def without_protocol(path: Any) -> str:
    """Return *path* without ``osspresigned://`` and leading slashes; a trailing one stays."""
    return str(stringify_path(path)).removeprefix(f"{PROTOCOL}://").lstrip("/")


def object_path(client: Client, path: Any) -> str:
    """Return ``bucket/key``; the empty path is the object of ``url=``."""
    stripped = without_protocol(path).rstrip("/")
    if not stripped and client.options.url is not None:
        return str(getattr(client.signer, "path", ""))
    return stripped
