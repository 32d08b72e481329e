"""Receipts: the list that ``put`` returns, and one JSON line per stored object."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from ..compat import BINARY, NOFOLLOW, open_regular
from ..errors import ConfigurationError
from ..files import LineFile
from ..model import Receipt

_SHOWN = 20  # receipts that the ``repr`` of a long list shows


class ReceiptList(list[Receipt | Exception]):
    """List of receipts, in the order of the files.

    With ``on_error="return"``, it holds an exception in place of a missing receipt.
    """

    def __repr__(self) -> str:
        shown = [repr(receipt) for receipt in self[:_SHOWN]]
        more = len(self) - _SHOWN
        return f"[{', '.join([*shown, *([f'... {more} more'] if more > 0 else [])])}]"


def receipt_writer(destination: object) -> Callable[[Receipt], None]:
    """Return a function that writes receipts to *destination*.

    *destination* is a directory, which is created if it is missing. A callable is
    returned as it is. ConfigurationError is raised for other values, and if the
    directory cannot be created.
    """
    if callable(destination):
        return destination
    if not isinstance(destination, str | os.PathLike) or "://" in str(destination):
        raise ConfigurationError("receipts= must be a directory or a callable")
    directory = Path(os.path.expanduser(destination)).absolute()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"receipts={directory}: {why}") from None
    host = socket.gethostname().partition(".")[0] or "host"
    name = f"receipts-{host}-{os.getpid()}.jsonl"
    return ReceiptFile(directory / name, is_shared=True)


class ReceiptFile:
    """Appends receipts to one file, one JSON object a line, without any URL.

    The file is created with mode 0600. *is_shared* means that other users may write to
    the directory, and could guess the file's name. Then a link or a pipe with this name
    is refused.
    """

    def __init__(self, path: Path, *, is_shared: bool = False) -> None:
        self.path = path
        self._is_shared = is_shared
        self._lock = threading.Lock()
        self._is_torn = False

    def __call__(self, receipt: Receipt) -> None:
        line = json.dumps(receipt.as_dict()).encode() + b"\n"
        with self._lock:  # the file is opened for each line, because it may be rotated
            file = LineFile(self._opened(), is_torn=self._is_torn)
            self._is_torn = True
            try:
                file.append(line)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from None
            finally:
                file.close()
            self._is_torn = False

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | BINARY
        if self._is_shared:
            return open_regular(self.path, flags | NOFOLLOW, one_link=True)
        return os.open(self.path, flags, 0o600)
