"""Whether a file and its object hold the same bytes, where nothing else can tell."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from attrs import frozen

from ..client.client import Client
from ..concurrency.workers import Transfers
from ..errors import AccessDeniedError, NotSignedError, ObjectNotFoundError
from ..http.body import crc64
from ..objects import operations
from ..units import MIB
from .plan import Entry, Item, Plan, Sent, Why, is_what_was_sent
from .source import SyncSource

_PLAIN_MD5 = re.compile(r"[0-9A-Fa-f]{32}")


@frozen
class Proof:
    """What the bytes have told.

    Attributes:
        why: whether the file is to be sent.
        sent: what to remember of what is the same.
        error: why the source could not be read; then the rest means nothing.
    """

    why: Why
    sent: Sent | None = None
    error: OSError | None = None


@frozen
class Proving:
    """Compares through one client; *root* is ``bucket/`` and the prefix of the keys."""

    client: Client
    source: SyncSource
    root: str

    def settle(self, plan: Plan) -> dict[str, Sent]:
        """Look at the bytes of all that is unsure in *plan*, several files at once.

        Costs a reading of each file and, unless an earlier run has written it down, a
        HEAD of each object.

        Returns:
            Name -> what to remember of what proved to be the same.

        Raises:
            OSSPresignedError: the store does not answer.
        """
        unsure, plan.unsure = plan.unsure, []
        width = min(len(unsure), self.client.options.max_concurrency)
        transfers = Transfers(
            self.client.files, width, lambda item, _: self._proof(item), _name
        )
        remembered = {}
        for item, found in zip(unsure, transfers.run(unsure), strict=True):
            if found.error is not None:
                plan.errors[item.entry.name] = found.error
                continue
            plan.settle(item, found.why)
            if found.sent is not None:
                remembered[item.entry.name] = found.sent
        return remembered

    def _proof(self, item: Item) -> Proof:
        entry, etag, crc = item.entry, "", None
        if item.sent is not None and is_what_was_sent(item.stored, item.sent):
            etag, crc = item.sent.etag, item.sent.crc64
        if crc is None:
            try:
                info = operations.head(self.client, self.root + entry.name)
            except ObjectNotFoundError:
                return Proof(Why.NEW)
            except PermissionError as error:
                if not means_unseen(error):
                    raise
                etag = item.stored.etag if item.stored else etag
            else:
                etag, crc = str(info["ETag"]), info["crc64"]
                if entry.size not in (None, info["size"]):
                    return Proof(Why.SIZE)
        try:
            return self._compared(entry, etag, crc)
        except OSError as error:  # of the source: nobody else is asked any more
            return Proof(Why.UNSURE, error=error)

    def _compared(self, entry: Entry, etag: str, crc: int | None) -> Proof:
        if crc is not None:
            ours, size = 0, 0
            for block in self._blocks(entry):
                ours, size = crc64(block, ours), size + len(block)
            same = ours == crc
        elif _PLAIN_MD5.fullmatch(etag):
            digest, size = hashlib.md5(usedforsecurity=False), 0
            for block in self._blocks(entry):
                digest.update(block)
                size += len(block)
            same = digest.hexdigest() == etag.lower()
        else:
            return Proof(Why.CONTENT)  # nothing to compare with
        if not same:
            return Proof(Why.CONTENT)
        return Proof(Why.SAME, Sent(size, entry.mtime_ns, entry.tag, etag, crc))

    def _blocks(self, entry: Entry) -> Iterator[bytes]:
        with self.source.open(entry.name) as file:
            read: Callable[[int], Any] = file.read
            while block := read(MIB):
                yield block


def means_unseen(error: PermissionError) -> bool:
    """Return whether *error* means that nobody may look, and no mistake."""
    return isinstance(error, NotSignedError) or type(error) is AccessDeniedError


def _name(item: Item) -> str:
    return item.entry.name
