"""Receipts for others: one JSON line per stored object, in a private file."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from .errors import ConfigurationError
from .model import Receipt


def receipt_writer(place: object) -> Callable[[Receipt], None]:
    """Return what hands receipts to *place*.

    Args:
        place: a directory, which is made if need be, or a callable.

    Raises:
        ConfigurationError: it is neither, or the directory cannot be made.
    """
    if callable(place):
        return place
    if not isinstance(place, str | os.PathLike):
        msg = "receipts= must be a directory or a callable"
        raise ConfigurationError(msg)
    directory = Path(os.path.expanduser(place)).absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        msg = f"receipts={directory}: {why}"
        raise ConfigurationError(msg) from None
    host = socket.gethostname().partition(".")[0] or "host"
    return ReceiptFile(directory / f"receipts-{host}-{os.getpid()}.jsonl")


class ReceiptFile:
    """Appends to one file, which is made with mode 0600; it never holds a URL."""

    def __init__(self, path: Path) -> None:
        """Touch nothing yet."""
        self.path = path
        self._lock = threading.Lock()

    def __call__(self, receipt: Receipt) -> None:
        """Append one line."""
        line = json.dumps(receipt.as_dict()).encode() + b"\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        with self._lock:
            descriptor = os.open(self.path, flags, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(line)
