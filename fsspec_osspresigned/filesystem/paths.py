"""Object paths: conversion of a caller's path to ``bucket/key``."""

from __future__ import annotations

from typing import Any

from fsspec.utils import stringify_path

from ..client.client import Client
from ..errors import ConfigurationError
from ..request_checks import has_signature, is_web

PROTOCOL = "osspresigned"


def without_own(protocol: str | tuple[str, ...], path: Any) -> Any:
    """Return *path*, or each path of a list, without *protocol* of a subclass."""
    if protocol == PROTOCOL:
        return path  # the other functions know that one
    if isinstance(path, list | tuple):
        return [without_own(protocol, one) for one in path]
    text = stringify_path(path)
    for name in (protocol,) if isinstance(protocol, str) else protocol:
        if isinstance(text, str) and text.startswith(f"{name}://"):
            return text.removeprefix(f"{name}://")
    return text


def without_protocol(path: Any) -> str:
    """Return *path* without ``osspresigned://`` and leading slashes.

    Raises:
        ConfigurationError: *path* is a web URL or has a signature; the message hides
            it.
    """
    found = str(stringify_path(path)).removeprefix(f"{PROTOCOL}://").lstrip("/")
    if is_web(found) or has_signature(found):
        raise ConfigurationError(
            "a URL is in the place of the path bucket/key (it is not shown): give a "
            "presigned URL as presigned_url='file:upload.url', and leave the path empty"
        )
    return found


def object_path(client: Client, path: Any, *, keep_slash: bool = False) -> str:
    """Return *path* as ``bucket/key``.

    An empty path means the object of the option ``presigned_url``.

    *keep_slash* keeps a trailing slash: such an object represents a directory.
    """
    name = without_protocol(path)
    stripped = name.rstrip("/")
    if not stripped and client.options.presigned_url is not None:
        return str(getattr(client.signer, "path", ""))
    return name if keep_slash else stripped
