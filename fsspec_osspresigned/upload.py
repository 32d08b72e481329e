"""The one way in which bytes become an object.

Files, values, streams and sync all go through :class:`Upload`: ``add`` bodies, then
``finish``, or ``discard``. One body is one PutObject; from the second one on they are
the parts of a multipart upload, sent in the background while the caller goes on. The
first failure poisons the upload: nothing more is sent, and it is never completed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import preflight, publish, unfinished
from .body import EMPTY, Body, MemoryBody, PartBody, Source, SpoolBody
from .client import Client
from .errors import (
    CallbackFailedWarning,
    ExclusiveNotEnforcedError,
    IntegrityError,
    NotSignedError,
    TooLargeError,
    UploadDiscardedError,
)
from .known import BODY_CAP
from .ledger import Ledger, Plan
from .model import MAX_SINGLE_PUT, PartReceipt, Receipt, Reply
from .pace import Pace
from .publish import Target
from .signers.base import MultipartGrant, grant_for
from .tally import Tally
from .unkept import Unkept
from .window import Window
from .workers import Cancellation

if TYPE_CHECKING:
    from .signers.ahead import Ahead

_log = logging.getLogger(__name__)

# Seconds that a discard waits for parts in flight before it aborts the upload.
_DRAIN, _HURRIED_DRAIN = 30.0, 3.0
# Parts of a stream that are signed first: it may well end soon.
_FIRST_BATCH = 4


def upload_source(
    client: Client,
    target: Target,
    source: Source,
    *,
    ahead: Ahead | None = None,
    progress: Callable[[int], None] | None = None,
    cancel: Cancellation | None = None,
) -> Receipt:
    """Store *source* under *target* and return the receipt.

    Atomic: the object is what it was before, or exactly *source*. Costs one request, or
    the number of parts + 2. With a checkpoint a local file in parts goes on where an
    earlier process left it.

    Args:
        client: signs and sends.
        target: where to.
        source: what; may be read several times.
        ahead: signs the first request, among those of other objects; None for nobody.
        progress: called with bytes sent; negative when a failed try is taken back.
        cancel: set from elsewhere to give up; None if nobody does.

    Raises:
        ConfigurationError: what is granted cannot carry it; before the first byte.
        NotSignedError: the signer will not sign it.
        SourceChangedError: it changed while it was read.
        CheckpointInUseError: another process stores it there.
        OSSPresignedError: it could not be stored.
    """
    upload = Upload(
        client,
        target,
        size=source.size,
        at_hand=True,
        ahead=ahead,
        progress=progress,
        cancel=cancel,
    )
    with contextlib.ExitStack() as stack:
        try:
            if client.checkpoint is not None:
                from .resumption import resumption_of  # noqa: PLC0415 - seldom wanted

                kept = resumption_of(
                    client, target, source, upload.plan, upload.granted, cancel
                )
                upload.go_on(stack.enter_context(kept))
            for offset in range(0, max(source.size, 1), upload.plan.part_size):
                size = min(upload.plan.part_size, source.size - offset)
                upload.add(source.part(offset, size))
            return upload.finish(before=source.check)
        except BaseException as error:
            upload.discard(error)
            raise


class Upload:
    """One object on its way. ``add`` and ``finish`` belong to one thread at a time."""

    def __init__(
        self,
        client: Client,
        target: Target,
        *,
        size: int | None = None,
        at_hand: bool = False,
        ahead: Ahead | None = None,
        progress: Callable[[int], None] | None = None,
        cancel: Cancellation | None = None,
    ) -> None:
        """Plan; send nothing.

        Args:
            client: signs and sends.
            target: where to.
            size: bytes in all; None for a stream.
            at_hand: whether bodies take no memory of their own.
            ahead: signs the first request; None leaves it to the client's signer.
            progress: called with bytes sent, from several threads.
            cancel: set from elsewhere to give up; None if nobody does.

        Raises:
            ConfigurationError: what is granted cannot carry it, with every reason.
            NotSignedError: the signer has nothing for this path.
        """
        grant = grant_for(client.signer, target.path)
        preflight.refuse_expired(grant, target.path)
        self.plan: Plan = preflight.plan(client, target, grant, size, at_hand=at_hand)
        preflight.check(client, target, grant, self.plan, size)
        self.granted = grant.multipart or MultipartGrant()
        self._client = client
        self._target = target
        self._size = size
        self._opening = ahead
        self._parts_ahead: Ahead | None = None
        self._progress = progress
        self._width = client.options.max_concurrency
        self.window = Window(self._width, client.options.most_memory)
        self._lock = threading.Lock()
        self._cancel = Cancellation(cancel)
        self._failure: Exception | None = None
        self._held: Body | None = None
        self._spool: SpoolBody | None = None
        self._ledger = Ledger(self.plan, target.path)
        self._parted = False
        self._upload_id = ""
        self._tally = Tally(target)
        self._pace = Pace(target.path, size, grant.expires_at)
        self._resumption = Unkept()
        self._ended = False
        self._pid = os.getpid()

    def go_on(self, resumption: Unkept) -> None:
        """Send only what *resumption* does not have; to be called before ``add``."""
        self._resumption = resumption

    def add(self, body: Body) -> None:
        """Take the next bytes; waits while the window of parts in flight is full.

        *body* must stay unchanged until ``finish`` or ``discard`` returns, and have the
        bytes that the plan says unless it is the last.

        Raises:
            TooLargeError: no more parts are granted, or one PUT cannot hold them.
            OSSPresignedError: the first failure of any part.
        """
        self._raise_failure()
        try:
            if not self._parted and self._spool is None:
                if self._held is None and not self.plan.multipart:
                    self._held = body
                    return
                self._begin()
            self._take(body)
        except BaseException as error:
            self._fail(error)
            raise

    def finish(self, *, before: Callable[[], None] | None = None) -> Receipt:
        """Publish the object and return its receipt.

        Args:
            before: called when everything but the last step is done; may raise.

        Raises:
            OutcomeUnknownError: the last reply was lost and nothing can tell.
            OSSPresignedError: it was not stored, or not as it was sent.
        """
        self._raise_failure()
        body = self._spool or self._held or EMPTY
        try:
            if self.plan.multipart and not self._parted:
                self._begin()
                self._submit(EMPTY)
            if not self._parted:
                receipt = self._put_object(body)
            else:
                self.window.drain()
                self._raise_failure()
                if before is not None:
                    before()
                receipt = self._complete()
        except BaseException as error:
            self._fail(error)
            raise
        self._end()
        in_memory = isinstance(body, MemoryBody | PartBody)
        small = in_memory and body.size == receipt.size <= BODY_CAP
        self._client.note(receipt, b"".join(body.blocks()) if small else None)
        self._resumption.finish()
        if receipt.status == "callback_failed":
            text = f"{receipt.path} is stored, but its callback failed"
            warnings.warn(text, CallbackFailedWarning, stacklevel=3)
        return receipt

    def discard(
        self, reason: BaseException | None = None, *, hurry: bool = False
    ) -> None:
        """Give the upload up: nothing is published, our own parts are removed.

        Waits for parts in flight, 30 seconds at most. Idempotent, and without effect
        after ``finish`` or in a forked child. An owner's upload is left as it is, and so
        is one with a checkpoint, by which a later process goes on.

        Args:
            reason: what made it fail, for the log; None for a wish of the caller.
            hurry: the process ends: wait 3 seconds at most, and try once only.
        """
        if self._ended or os.getpid() != self._pid:
            return
        text = f"the upload of {self._target.path} was given up"
        self._fail(UploadDiscardedError(text, path=self._target.path))
        if reason is not None:
            # As text: a record that keeps the exception keeps its frames, and the data.
            _log.error("%s: %s", text, str(reason))
        self._end()
        if self._parted:
            self.window.drain(_HURRIED_DRAIN if hurry else _DRAIN)
            if not self._resumption.survives(reason):
                self._abort(reason, once=hurry)

    def abandon(self) -> None:
        """Give the upload up from a finalizer: a worker does what there is to do."""
        if not self._ended and os.getpid() == self._pid:
            self._client.files.submit(self.discard)

    def _begin(self) -> None:
        """Leave the single PutObject: begin a multipart upload, or spool."""
        self._parted = not self.plan.spools and self._initiate()
        if not self._parted:
            self._spool = SpoolBody()
        if self._held is not None:
            held, self._held = self._held, None
            self._take(held)

    def _initiate(self) -> bool:
        """Return whether there is a multipart upload now."""
        try:
            self._upload_id = (
                self.granted.upload_id
                or self._resumption.upload_id
                or publish.initiate(
                    self._client, self._target, self._cancel, ahead=self._opening
                )
            )
        except NotSignedError:
            if self.plan.multipart:
                raise
            return False
        self._resumption.begin(self._upload_id)
        unfinished.add(self)
        coming = (
            self._target.part_operation(self._upload_id, number, size)
            for number, size in self.plan.cut(self._size)
            if number not in self._resumption.kept
        )
        self._parts_ahead = self._client.ahead(
            lambda: next(coming, None),
            first=_FIRST_BATCH if self._size is None else self._width,
        )
        return True

    def _take(self, body: Body) -> None:
        if self._spool is None:
            self._submit(body)
            return
        if self._spool.size + body.size > MAX_SINGLE_PUT:
            msg = "only one PUT is granted, and it holds 5 GiB; nothing was published"
            raise TooLargeError(msg, path=self._target.path)
        self._spool.append(body)

    def _submit(self, body: Body) -> None:
        with self._lock:
            number = self._ledger.give()
        self.window.enter(body)
        held = [body]  # what takes the body out of here leaves the window
        try:
            self._client.requests.submit(self._send_part, number, held)
        except BaseException:
            with contextlib.suppress(IndexError):  # taken by a worker
                self.window.leave(held.pop())
            raise

    def _send_part(self, number: int, held: list[Body]) -> None:
        """Send one part; runs in a worker, and keeps its failure for the caller."""
        body = held.pop()
        try:
            if self._cancel.is_set():
                return
            kept = self._resumption.stored(number, body)
            if kept is None:
                reply, verified, part = self._send(number, body)
                self._resumption.note(part, verified)
            else:
                reply, verified, part = None, kept.verified, kept.part
                if self._progress is not None:
                    self._progress(part.size)
            with self._lock:
                self._ledger.store(part)
                self._tally.count(reply, verified)
                self._pace.sent(part.size)
        except BaseException as error:  # noqa: BLE001 - raised by the caller's next step
            # Whoever keeps the error keeps its frames, and would keep the part.
            traceback.clear_frames(error.__traceback__)
            self._fail(error)
        finally:
            self.window.leave(body)
            del body

    def _send(self, number: int, body: Body) -> tuple[Reply, str, PartReceipt]:
        reply, verified = publish.send_body(
            self._client,
            self._target,
            self._target.part_operation(self._upload_id, number, body.size),
            body,
            ahead=self._parts_ahead,
            cancel=self._cancel,
            progress=self._progress,
            needs_crc=self._resumption.needs_crc,
        )
        if not reply.etag:
            msg = f"the reply to part {number} has no ETag, Complete needs it"
            raise IntegrityError(msg, path=self._target.path)
        part = PartReceipt(
            part_number=number, size=body.size, etag=reply.etag, crc64=reply.crc64
        )
        return reply, verified, part

    def _put_object(self, body: Body) -> Receipt:
        reply, verified = publish.put_object(
            self._client,
            self._target,
            body,
            ahead=self._opening,
            cancel=self._cancel,
            progress=self._progress,
        )
        self._tally.count(reply, verified)
        return self._receipt(reply, body.size, reply.crc64, ())

    def _complete(self) -> Receipt:
        size, parts, crc = self._ledger.size, self._ledger.parts, self._ledger.crc64()
        if not self.granted.completes:
            return self._receipt(None, size, crc, parts)
        try:
            reply, verified = publish.complete(
                self._client,
                self._target,
                upload_id=self._upload_id,
                granted=self.granted,
                parts=parts,
                document=self._ledger.document(),
                crc=crc,
                cancel=self._cancel,
            )
        except IntegrityError:
            self._resumption.finish()  # its parts cannot become the right object
            raise
        if verified == "crc64":
            self._tally.whole_is_verified(verified)
        self._tally.count(reply)
        return self._receipt(reply, size, crc, parts)

    def _receipt(
        self,
        reply: Reply | None,
        size: int,
        crc: int | None,
        parts: tuple[PartReceipt, ...],
    ) -> Receipt:
        try:
            return self._tally.receipt(
                reply, size=size, crc=crc, upload_id=self._upload_id, parts=parts
            )
        except ExclusiveNotEnforcedError:
            self._end()  # it is published: there is nothing to discard
            self._resumption.finish()
            raise

    def _abort(self, reason: BaseException | None, *, once: bool) -> None:
        if not self.granted.is_owners or self._client.options.abort_map_uploads:
            publish.abort(self._client, self._target, self._upload_id, once=once)
            return
        kept = (
            f"its owner's multipart upload {self._upload_id} is kept, with the parts "
            f"[{self._ledger.numbers}]: a second try goes on"
        )
        _log.warning("%s: %s", self._target.path, kept)
        if reason is not None:
            reason.add_note(kept)

    def _fail(self, error: BaseException) -> None:
        """Keep the first failure, and stop what is in flight."""
        if not isinstance(error, Exception):
            text = f"the upload was interrupted ({type(error).__name__})"
            error = UploadDiscardedError(text, path=self._target.path)
        with self._lock:
            if self._failure is None:
                self._failure = error
        self._cancel.set()

    def _raise_failure(self) -> None:
        if os.getpid() != self._pid:
            msg = "a forked process cannot go on with an upload of its parent"
            raise UploadDiscardedError(msg, path=self._target.path)
        if self._failure is not None:
            raise self._failure
        if self._cancel.is_set() or self._ended:
            raise UploadDiscardedError("the upload is over", path=self._target.path)

    def _end(self) -> None:
        self._ended = True
        self._held = None
        if self._spool is not None:
            self._spool.close()
