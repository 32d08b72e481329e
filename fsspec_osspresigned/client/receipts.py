"""Receipts for others: one JSON line per stored object, in a private file."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from ..errors import ConfigurationError
from ..model import Receipt

# Receipts of very many objects in little memory.

# Bytes, CRC-64, seconds, when; verified, retries, re-signs, type. Texts are before them.
_FIELDS = struct.Struct("<QQddBBBB")
_VERIFIED = ("none", "crc64", "md5")
_MOST_TYPES = 256

# Few types are met in one process; what is found no place for is not packed.
_types: list[str | None] = [None]


def packed(receipt: Receipt) -> bytes | Receipt:
    """Return *receipt* as few bytes, or as it is if it is not of the ordinary kind.

    Ordinary is one PutObject, of which the CRC-64 is known.
    """
    type_ = receipt.content_type
    if type_ not in _types and len(_types) < _MOST_TYPES:
        _types.append(type_)
    # Whatever does not fit raises, and whatever is lost does not compare equal.
    with contextlib.suppress(struct.error, ValueError, TypeError):
        texts = receipt.path, receipt.etag, receipt.request_id or ""
        found = "\0".join(texts).encode() + _FIELDS.pack(
            receipt.size,
            receipt.crc64,
            receipt.seconds,
            receipt.stored_at,
            _VERIFIED.index(receipt.verified),
            receipt.retries,
            receipt.resigns,
            _types.index(type_),
        )
        if unpacked(found) == receipt:
            return found
    return receipt


def unpacked(text: bytes) -> Receipt:
    """Return the receipt of which *text* was made."""
    size, crc, seconds, when, verified, retries, resigns, type_ = _FIELDS.unpack(
        text[-_FIELDS.size :]
    )
    path, etag, request_id = text[: -_FIELDS.size].decode().split("\0")
    return Receipt(
        path=path,
        size=size,
        etag=etag,
        crc64=crc,
        verified=_VERIFIED[verified],
        request_id=request_id or None,
        retries=retries,
        resigns=resigns,
        seconds=seconds,
        stored_at=when,
        content_type=_types[type_],
    )


class ReceiptList(Sequence[Receipt | Exception]):
    """Reads like a list of receipts, in the order of the files; cannot be changed.

    An ordinary one takes about 150 bytes, and is made anew whenever it is asked for.
    """

    def __init__(self, found: Iterable[bytes | Receipt | Exception]) -> None:
        """Take receipts, packed or not, and errors in their places."""
        self._found = list(found)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Receipt | Exception: ...

    @overload
    def __getitem__(self, index: slice) -> ReceiptList: ...

    def __getitem__(self, index: Any) -> Any:
        """Return one, or some of them."""
        found = self._found[index]
        if isinstance(index, slice):
            return ReceiptList(found)
        return unpacked(found) if isinstance(found, bytes) else found

    def __eq__(self, other: object) -> bool:
        """Compare with another, or with a list."""
        return isinstance(other, ReceiptList | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list's

    def __repr__(self) -> str:
        """Show what a list would."""
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as receipts: what is packed belongs to this process."""
        return ReceiptList, (list(self),)


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
