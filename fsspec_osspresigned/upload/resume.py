"""Resumption: completes the upload of a local file that an earlier process began.

The journal lists the stored parts. If ListParts is granted, the store's list is
compared too, and parts that differ are sent again. A part is skipped only if its bytes
in the file have the CRC-64 of the stored part. Reading is much cheaper than sending,
and a timestamp proves nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

from attrs import asdict, evolve, frozen

from ..client.client import Client
from ..client.operations import OSSCalls, StoredParts, bare, crc_of, is_elsewhere
from ..engine.engine import blocking, user_code, waiting
from ..engine.logs import Logger
from ..errors import (
    InvalidRequestError,
    NotCoveredError,
    OSSPresignedError,
    OutcomeUnknownError,
    SourceChangedError,
    UploadNotFoundError,
)
from ..http.body import Body, FileBody, Source
from ..model import PartReceipt
from ..options.target import Target
from ..signers.base import MultipartGrant
from ..units import short_bytes, shown_bytes, shown_text
from .journal import HeldJournal, JournalHead, JournalPart, ResumeDirectory
from .plan import UploadPlan

_log = Logger(__name__)


@frozen(kw_only=True)
class UploadEvent:
    """Event for listeners: an upload was resumed, or ended early and can be resumed."""

    # kept: the stored parts remain for a later process
    kind: Literal["resumed", "kept"]
    path: str  # ``bucket/key``
    upload_id: str
    parts_stored: int  # number of parts that need not be sent again
    parts: int  # number of all parts
    bytes_stored: int
    bytes: int

    @property
    def text(self) -> str:
        """The numbers of parts and bytes, as text for people."""
        sizes = f"{short_bytes(self.bytes_stored)} of {short_bytes(self.bytes)}"
        return f"{self.parts_stored} of {self.parts} parts, {sizes}"

    def as_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object."""
        members = asdict(self)
        return {"event": members.pop("kind"), **members, "text": self.text}


def agreed(
    kept: Mapping[int, JournalPart], listing: StoredParts, head: JournalHead
) -> dict[int, JournalPart]:
    """Return the parts that need not be sent again, by number.

    *kept* are the parts in the journal. Such a part counts if the listing has the same
    part, or if the listing is incomplete and ends before it. Any other part in the
    listing counts if it has the planned size and a CRC-64, because the process may have
    been killed before it wrote the journal.
    """
    last = max(listing.parts, default=0)
    stored: dict[int, JournalPart] = {}
    for number, journaled in kept.items():
        if number in listing.parts:
            if _is_same(journaled.part, listing.parts[number]):
                stored[number] = journaled
        elif not listing.whole and number > last:
            stored[number] = journaled
    for number, part in listing.parts.items():
        fits = 1 <= number <= head.parts and part.size == head.size_of(number)
        if fits and number not in stored and part.crc64 is not None:
            stored[number] = JournalPart(part, "crc64")
    return stored


def _is_same(ours: PartReceipt, theirs: PartReceipt) -> bool:
    return (
        ours.size == theirs.size
        and bare(ours.etag) == bare(theirs.etag)
        and theirs.crc64 in (None, ours.crc64)
    )


def is_stale(error: BaseException | None) -> bool:
    """Return whether *error* means that the upload can never be resumed."""
    if isinstance(error, OutcomeUnknownError):
        # The first try found no upload: an earlier process completed it, or it was
        # aborted.
        error = error.__context__
        return isinstance(error, UploadNotFoundError) and error.tries == 1
    if isinstance(error, InvalidRequestError):
        return error.code in ("InvalidPart", "InvalidPartOrder")
    return isinstance(error, UploadNotFoundError | SourceChangedError)


class Resumption:
    """Journal and stored parts of a resumable upload.

    The ``journal`` is locked for this process until its ``release``. *on_event* is called
    when the upload is resumed, and when its parts are kept for a later process.
    """

    def __init__(
        self,
        journal: HeldJournal,
        head: JournalHead,
        on_event: Callable[[UploadEvent], object] | None = None,
    ) -> None:
        self.journal, self._head, self._on_event = journal, head, on_event
        # numbers of parts that earlier processes and this one stored
        self._stored: set[int] = set()
        self.upload_id = ""
        self.kept: Mapping[int, JournalPart] = {}

    async def find(self, client: Client, target: Target) -> bool:
        """Resume the upload in the journal, or abort it and start over.

        Returns True if the journal can be used for this upload, even if it is new.
        Returns False if it belongs to an upload in another store, and must be kept.

        Raises:
            UploadNotFoundError: the owner initiated the upload, which no longer exists.
        """
        record = self.journal.record
        if record is None:
            return True
        old, kept = record.head, record.parts
        reason = reason_to_start_over(old, self._head)
        if reason is None:
            try:
                calls = OSSCalls(client, target)
                listing = await calls.list_parts(old.upload_id)
            except UploadNotFoundError as error:
                if is_elsewhere(error, old.host):
                    return _log_kept(old)
                if len(kept) < old.parts:
                    if old.owners:
                        await blocking(self.journal.remove)
                        raise
                    reason = "its upload no longer exists in the store"
                # Otherwise an earlier process may have completed it and ended right
                # after that.
            except OSSPresignedError as error:
                # few policies grant ListParts
                is_usual = isinstance(error, NotCoveredError)
                say = _log.debug if is_usual else _log.info
                say("%s: the store could not be asked: %s", old.path, error.message)
            else:
                kept = agreed(kept, listing, old)
        if reason is not None:
            return await _start_over(self.journal, client, target, reason)
        self._head, self.upload_id, self.kept = old, old.upload_id, kept
        self._stored |= kept.keys()
        await blocking(self.journal.resume)
        event = await waiting(self._report, "resumed", kept)
        _log.info("%s: resumed from %s", event.path, event.text)
        return True

    def record_upload(self, upload_id: str, host: str) -> None:
        if upload_id != self.upload_id:
            self.upload_id = upload_id
            self._head = evolve(self._head, upload_id=upload_id, host=host)
            self.journal.create(self._head)

    def stored_part(self, number: int, body: Body) -> JournalPart | None:
        """Return part *number* if it is stored with the bytes of *body*; otherwise None.

        This reads *body*, to compare the CRC-64.
        """
        kept = self.kept.get(number)
        if kept is not None and crc_of(body) != kept.part.crc64:
            _log.warning(
                "%s: part %d of %s has changed since it was sent: sending it again",
                self._head.path,
                number,
                self._head.source,
            )
            self._stored.discard(number)
            return None
        return kept

    def record_part(self, part: PartReceipt, verified: str) -> None:
        self.journal.append(JournalPart(part, verified))
        self._stored.add(part.part_number)

    def keeps_parts(self, error: BaseException | None) -> bool:
        """Return whether to keep the stored parts for a later process after *error*.

        If so, *error* gets a note, and the listener is called. If *error* means that the
        upload can never be resumed, its journal is removed.
        """
        gone = error.__context__ if isinstance(error, OutcomeUnknownError) else error
        in_other_store = isinstance(gone, UploadNotFoundError) and is_elsewhere(
            gone, self._head.host
        )
        if is_stale(error) and not in_other_store:
            self.journal.remove()
        if not self.journal.keeps:
            return False
        event = self._report("kept", self._stored)
        note = f"{event.text}, are stored; run the same again to resume"
        _log.info("%s: %s", event.path, note)
        if error is not None:
            error.add_note(note)
        return True

    def _report(
        self, kind: Literal["resumed", "kept"], numbers: Collection[int]
    ) -> UploadEvent:
        event = UploadEvent(
            kind=kind,
            path=self._head.path,
            upload_id=self.upload_id,
            parts_stored=len(numbers),
            parts=self._head.parts,
            bytes_stored=sum(map(self._head.size_of, numbers)),
            bytes=self._head.size,
        )
        if self._on_event is not None:
            with user_code():
                self._on_event(event)
        return event


def reason_to_start_over(old: JournalHead, new: JournalHead) -> str | None:
    """Return why the journaled upload *old* cannot be resumed as *new*; None if it can."""
    # The device number is ignored, because it may change when the machine restarts.
    # ctime is ignored, because chmod changes it. Stored parts are compared later.
    was, now = old.fingerprint, new.fingerprint
    reasons = {
        f"the file has {now.size} bytes, it had {was.size}": was.size != now.size,
        "the file has changed": (was.mtime_ns, was.inode) != (now.mtime_ns, now.inode),
        f"parts have {shown_bytes(new.part_size)} now, they had "
        f"{shown_bytes(old.part_size)}": (old.part_size != new.part_size),
        "other headers are required": old.demands != new.demands,
        "the grant now differs": old.owners != new.owners
        or (new.owners and old.upload_id != new.upload_id),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


async def _start_over(
    held: HeldJournal, client: Client, target: Target, reason: str
) -> bool:
    """Abort the upload in the journal and remove the journal; log *reason*.

    Return False, and keep the journal, if the upload is in another store. An upload that
    the owner initiated is not aborted.
    """
    _log.warning("%s: starting over: %s", target.path, reason)
    if held.record is not None and not (head := held.record.head).owners:
        calls = OSSCalls(client, target)
        if not await calls.abort(head.upload_id, host=head.host):
            return _log_kept(head)
    await blocking(held.remove)
    return True


def _log_kept(head: JournalHead) -> bool:
    _log.warning(
        "%s: its resume file is kept for its upload to %s: this one cannot be "
        "resumed; use another resume_dir for this store",
        head.path,
        shown_text(head.host),
    )
    return False


def demands_of(headers: Mapping[str, str]) -> str:
    """Return a digest of the required headers for the journal.

    The headers themselves may be confidential.
    """
    lines = sorted(f"{name.lower()}:{value.strip()}" for name, value in headers.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


async def resumption_of(
    calls: OSSCalls,
    plan: UploadPlan,
    granted: MultipartGrant,
    source: Source,
    on_event: Callable[[UploadEvent], object] | None = None,
) -> Resumption | None:
    """Return the journal and the stored parts of an upload, locked until ``release``.

    Returns None if the upload cannot be resumed: the option ``resume_dir`` is missing,
    *source* is not a local file that is sent in parts, the server cannot resume
    uploads, or the journal belongs to an upload in another store. If the file is now
    sent in a single PUT, an earlier multipart upload of it is aborted.

    Raises:
        UploadInProgressError: another process or thread runs this upload.
        ConfigurationError: the directory of ``resume_dir`` cannot be used.
        UploadNotFoundError: the owner's multipart upload no longer exists.
    """
    client, target = calls.client, calls.target
    place = client.options.resume_dir
    if place is None or not isinstance(source, FileBody):
        return None
    if plan.multipart and not granted.resumable:
        text = "%s: the server cannot resume uploads, each run sends the whole file"
        _log.info(text, target.path)
        return None
    directory = await blocking(ResumeDirectory, place)
    local = await blocking(os.path.abspath, source.path)
    if not plan.multipart and source.size > client.options.threshold:
        what = "a grant" if plan.action.spec.form else "a single PUT"
        text = "%s: %s has no parts to resume, each run sends the whole file"
        _log.info(text, target.path, what)
    if not plan.multipart and not await blocking(directory.has, target.path, local):
        return None
    head = JournalHead(
        path=target.path,
        source=local,
        fingerprint=source.fingerprint,
        part_size=plan.part_size,
        parts=max(1, -(-source.size // plan.part_size)),
        demands=demands_of(target.kind.headers),
        upload_id=granted.upload_id or "",
        owners=granted.is_owners,
        created=time.time(),
    )
    is_over = threading.Event()
    with contextlib.ExitStack() as undo:
        undo.callback(is_over.set)

        def hold() -> HeldJournal:
            journal = directory.hold(target.path, local)
            # registered here, because a cancellation loses the return value
            undo.callback(journal.release)
            if is_over.is_set():
                # a second cancellation has ended the wait for this function
                journal.release()
            return journal

        held = await blocking(hold)
        if not plan.multipart:
            await _start_over(
                held, client, target, "the file is now sent in a single PUT"
            )
            return None
        resumption = Resumption(held, head, on_event)
        if not await resumption.find(client, target):
            return None
        undo.pop_all()
    return resumption
