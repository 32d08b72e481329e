"""Content comparison: whether a file and its object have the same bytes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from ..client.client import Client
from ..engine.engine import blocking, run
from ..engine.scope import Scope
from ..errors import ObjectNotFoundError
from ..http.checksums import crc64
from ..objects import calls
from ..units import MIB
from .plan import Entry, Item, Plan, Sent, Why, is_what_was_sent
from .source import SyncSource

_is_md5 = re.compile(r"[0-9A-Fa-f]{32}").fullmatch

# The verdict, with what to remember (SAME) or why the source is unreadable (UNSURE).
Proof: TypeAlias = tuple[Why, Sent | OSError | None]


def _etag_there(item: Item) -> str:
    return item.stored.etag if item.stored else ""


@frozen
class ContentComparison:
    """Comparison of files below *source* with objects below *root*.

    *listed* returns the ETag of an item's object from a listing, or ``""``; by default,
    from the listing of the destination.
    """

    client: Client
    source: SyncSource
    root: str
    listed: Callable[[Item], str] = _etag_there

    def resolve(self, plan: Plan) -> dict[str, Sent]:
        """Compare the bytes of all undecided files of *plan*, several at once.

        Returns name -> record for the sync state, of each equal file. Reads each file
        and, unless an earlier run has recorded the CRC-64, sends a HeadObject for its
        object.
        """
        unsure, plan.unsure = plan.unsure, []
        width = self.client.options.connections
        scope: Scope[Item, Proof] = Scope(
            self._prove, lambda item: item.entry.name, width=width
        )
        remembered = {}
        for item, (why, found) in zip(unsure, run(scope.run, unsure), strict=True):
            if isinstance(found, OSError):
                plan.errors[item.entry.name] = found
                continue
            plan.resolve(item, why)
            if found is not None:
                remembered[item.entry.name] = found
        return remembered

    async def _prove(self, item: Item) -> Proof:
        entry, etag, crc = item.entry, "", None
        if item.sent is not None and is_what_was_sent(item.stored, item.sent):
            etag, crc = item.sent.etag, item.sent.crc64
        if crc is None:
            try:
                info = await calls.head(self.client, self.root + entry.name)
            except ObjectNotFoundError:
                return Why.NEW, None
            except PermissionError as error:
                if not calls.means_unseen(error):
                    raise
                etag = self.listed(item) or etag
            else:
                etag, crc = str(info["ETag"]), info["crc64"]
                if entry.size not in (None, info["size"]):
                    return Why.SIZE, None
        try:
            return await blocking(self._compare, entry, etag, crc)
        except OSError as error:  # of the source: the store is not asked here
            return Why.UNSURE, error

    def _compare(self, entry: Entry, etag: str, crc: int | None) -> Proof:
        if crc is None and not _is_md5(etag):
            return Why.CONTENT, None  # nothing to compare with
        ours, size, digest = 0, 0, hashlib.md5(usedforsecurity=False)
        with self.source.open(entry.name) as file:
            while block := file.read(MIB):
                size += len(block)
                if crc is None:
                    digest.update(block)
                else:
                    ours = crc64(block, ours)
        if digest.hexdigest() != etag.lower() if crc is None else ours != crc:
            return Why.CONTENT, None
        return Why.SAME, Sent(size, entry.mtime_ns, entry.tag, etag, crc)
