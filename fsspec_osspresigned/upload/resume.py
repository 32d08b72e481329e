"""An upload of a local file that goes on where an earlier process left it.

The journal says which parts were stored. The store is asked too, where ListParts is
signed, and what it contradicts is sent again. In any case the bytes of a stored part
are read from the file and compared by CRC-64 before they are not sent: reading is much
cheaper than sending, and a time stamp is no proof.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType

from attrs import evolve, frozen

from .. import parsing
from ..checkpoint.directory import HeldJournal, demands_of, reason_to_start_over
from ..checkpoint.journal import JournalHead, Kept
from ..client.client import Client
from ..errors import (
    InvalidRequestError,
    NetworkError,
    NotSignedError,
    OSSPresignedError,
    OutcomeUnknownError,
    SourceChangedError,
    UploadNotFoundError,
)
from ..http.body import EMPTY, Body, FileBody, Source, crc64
from ..http.transport import Exchange
from ..model import MAX_PARTS, Action, PartReceipt
from ..options.object_options import Target
from ..signers.base import MultipartGrant
from . import steps
from .plan import Plan
from .upload import Unkept

_log = logging.getLogger(__name__)

_PAGE = 1000


@frozen
class Listing:
    """What the store says is stored.

    Attributes:
        parts: by number; their CRC-64 is None if it was not told.
        whole: there are no others; False if some behind the last could not be seen.
    """

    parts: Mapping[int, PartReceipt]
    whole: bool


def agreed(
    kept: Mapping[int, Kept], listing: Listing, head: JournalHead
) -> dict[int, Kept]:
    """Return which parts need not be sent, by the journal and the store together.

    A part counts if both say the same; if the store could not show it; or if the store
    alone has it, with a CRC-64: its process died before it could write that down.
    """
    last = max(listing.parts, default=0)
    found: dict[int, Kept] = {}
    for number, one in kept.items():
        if number in listing.parts:
            if _same(one.part, listing.parts[number]):
                found[number] = one
        elif not listing.whole and number > last:
            found[number] = one
    for number, part in listing.parts.items():
        fits = 1 <= number <= head.parts and part.size == head.size_of(number)
        if fits and number not in found and part.crc64 is not None:
            found[number] = Kept(part, "crc64")
    return found


def _same(ours: PartReceipt, theirs: PartReceipt) -> bool:
    return (
        ours.size == theirs.size
        and steps.bare(ours.etag) == steps.bare(theirs.etag)
        and theirs.crc64 in (None, ours.crc64)
    )


def is_stale(error: BaseException | None) -> bool:
    """Return whether *error* means that this upload can never be gone on with."""
    if isinstance(error, OutcomeUnknownError):
        # Its first try found the upload gone: an earlier process has completed it, or
        # somebody has aborted it.
        error = error.__context__
        return isinstance(error, UploadNotFoundError) and error.tries == 1
    if isinstance(error, InvalidRequestError):
        return error.code in ("InvalidPart", "InvalidPartOrder")
    return isinstance(error, UploadNotFoundError | SourceChangedError)


def list_parts(
    client: Client, target: Target, upload_id: str, cancel: threading.Event | None
) -> Listing:
    """Ask the store for the parts of an upload (ListParts).

    Costs one request for each 1,000 parts; of a presigned URL only the first page can
    be seen.

    Raises:
        NotSignedError: it is not signed.
        UploadNotFoundError: there is no such upload.
        NetworkError: the reply is none.
    """
    parts: dict[int, PartReceipt] = {}
    marker = 0
    while True:
        query = {"max-parts": str(_PAGE)}
        if marker:
            query["part-number-marker"] = str(marker)
        operation = evolve(
            target.operation(Action.ListParts, upload_id=upload_id), query=query
        )
        try:
            reply = client.call(operation, EMPTY, Exchange(cancel=cancel))
        except NotSignedError:
            if marker:
                return Listing(parts, whole=False)
            raise
        try:
            root = parsing.parse(reply.body, "ListPartsResult")
            parts |= {part.part_number: part for part in steps.listed_parts(root)}
        except ValueError as error:
            msg = f"the reply to ListParts is bad: {error}"
            raise NetworkError(msg, path=target.path) from None
        if root.findtext("IsTruncated") != "true":
            return Listing(parts, whole=True)
        last = max(parts, default=0)
        if not marker < last < MAX_PARTS:
            return Listing(parts, whole=False)
        marker = last


class Resumption(Unkept):
    """An upload with a journal. Safe for many threads."""

    needs_crc = True

    def __init__(self, held: HeldJournal, head: JournalHead) -> None:
        """Begin with nothing stored.

        Args:
            held: the journal, ours until this ends.
            head: what is to be uploaded; of an upload that is not ours it names the ID.
        """
        self._held = held
        self._head = head
        self._lock = threading.Lock()
        self._done: set[int] = set()
        self.upload_id = ""
        self.kept: Mapping[int, Kept] = {}

    def find(
        self, client: Client, target: Target, cancel: threading.Event | None
    ) -> None:
        """Decide whether to go on with what is in the journal.

        Raises:
            UploadNotFoundError: it is its owner's, and gone.
        """
        record = self._held.record
        if record is None:
            return
        old = record.head
        reason = reason_to_start_over(old, self._head)
        if reason is None:
            try:
                listing = list_parts(client, target, old.upload_id, cancel)
            except UploadNotFoundError:
                if len(record.parts) == old.parts:
                    # It may have been completed by a process that died right after.
                    self._go_on(old, record.parts)
                    return
                reason = "the store does not know its upload any more"
                if old.owners:
                    self._held.remove()
                    raise
            except OSSPresignedError as error:
                _log.info("%s: the store cannot be asked: %s", old.path, error.message)
                self._go_on(old, record.parts)
                return
            else:
                self._go_on(old, agreed(record.parts, listing, old))
                return
        _log.warning("%s: starting over: %s", old.path, reason)
        _end(self._held, client, target)

    def _go_on(self, old: JournalHead, kept: Mapping[int, Kept]) -> None:
        self._head = old
        self.upload_id = old.upload_id
        self.kept = kept
        self._held.resume()
        _log.info(
            "%s: going on with upload %s: %d of %d parts are stored",
            old.path,
            old.upload_id,
            len(kept),
            old.parts,
        )

    def begin(self, upload_id: str) -> None:
        """Write down the upload that is going to get the parts, unless it was before."""
        if upload_id != self.upload_id:
            self.upload_id = upload_id
            self._held.create(evolve(self._head, upload_id=upload_id))

    def stored(self, number: int, body: Body) -> Kept | None:
        """Return part *number* if it is stored with these bytes, which are read."""
        found = self.kept.get(number)
        if found is None:
            return None
        crc = 0
        for block in body.blocks():
            crc = crc64(block, crc)
        if crc != found.part.crc64:
            _log.warning(
                "%s: part %d of %s has other bytes than when it was sent: sending it "
                "again",
                self._head.path,
                number,
                self._head.source,
            )
            return None
        with self._lock:
            self._done.add(number)
        return found

    def note(self, part: PartReceipt, verified: str) -> None:
        """Write down a stored part."""
        self._held.append(Kept(part, verified))
        with self._lock:
            self._done.add(part.part_number)

    def finish(self) -> None:
        """Remove the journal."""
        self._held.remove()

    def survives(self, error: BaseException | None) -> bool:
        """Return whether the upload is left as it is after *error*, and say so in it."""
        if is_stale(error):
            self._held.remove()
        if not self._held.keeps:
            return False
        text = (
            f"{len(self._done)} of {self._head.parts} parts are stored: running it "
            "again with the same checkpoint= goes on"
        )
        _log.info("%s: upload %s: %s", self._head.path, self.upload_id, text)
        if error is not None:
            error.add_note(text)
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the journal."""
        self._held.release()


def _drop(held: HeldJournal, client: Client, target: Target) -> None:
    """End what was begun in parts and is small enough for one PUT now."""
    try:
        _log.warning("%s: starting over: the file is one PUT now", target.path)
        _end(held, client, target)
    finally:
        held.release()


def _end(held: HeldJournal, client: Client, target: Target) -> None:
    """Abort the upload of a journal, unless its owner began it, and forget it."""
    if held.record is not None and not held.record.head.owners:
        steps.abort(client, target, held.record.head.upload_id)
    held.remove()


def resumption_of(
    client: Client,
    target: Target,
    source: Source,
    plan: Plan,
    granted: MultipartGrant,
    cancel: threading.Event | None = None,
) -> Unkept:
    """Return what an earlier process left of an upload, held until it is exited.

    Only local files in parts have one; all else is sent as a whole or cannot be read
    again.

    Args:
        client: signs and sends.
        target: where to.
        source: what.
        plan: into which parts.
        granted: whose upload.
        cancel: set from elsewhere to give up.

    Raises:
        CheckpointInUseError: another process, or thread, is at it.
        UploadNotFoundError: the upload is its owner's, and gone.
    """
    checkpoint = client.checkpoint
    if checkpoint is None or not isinstance(source, FileBody):
        return Unkept()
    local = os.path.abspath(source.path)
    if not plan.multipart:
        if checkpoint.has(target.path, local):
            _drop(checkpoint.hold(target.path, local), client, target)
        return Unkept()
    head = JournalHead(
        path=target.path,
        source=local,
        fingerprint=source.fingerprint,
        part_size=plan.part_size,
        parts=max(1, -(-source.size // plan.part_size)),
        demands=demands_of(target.headers),
        upload_id=granted.upload_id or "",
        owners=granted.is_owners,
        created=time.time(),
    )
    held = checkpoint.hold(target.path, local)
    with contextlib.ExitStack() as undo:
        undo.callback(held.release)
        found = Resumption(held, head)
        found.find(client, target, cancel)
        undo.pop_all()
    return found
