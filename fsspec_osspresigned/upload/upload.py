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
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..client.client import Client
from ..client.written import BODY_CAP
from ..concurrency import shutdown
from ..concurrency.budget import of_process
from ..concurrency.workers import Cancellation
from ..errors import (
    CallbackFailedWarning,
    ExclusiveNotEnforcedError,
    IntegrityError,
    NotSignedError,
    TooLargeError,
    UploadDiscardedError,
)
from ..http.body import EMPTY, Body, MemoryBody, PartBody, Source, SpoolBody
from ..http.transport import Exchange
from ..model import MAX_SINGLE_PUT, PartReceipt, Receipt, Reply
from ..options.object_options import Target
from ..signers.base import MultipartGrant, grant_for
from . import plan as preflight
from . import steps
from .plan import Ledger, Plan
from .steps import CALLBACK_FAILED

if TYPE_CHECKING:
    from ..checkpoint.journal import Kept
    from ..signers.batching import Prefetcher


# What an upload remembers of itself where there is no checkpoint: nothing.


class Unkept:
    """An upload that nobody can go on with: what there is without a checkpoint.

    Attributes:
        upload_id: of the upload to go on with; empty if a new one has to begin.
        kept: the parts that need not be sent, unless their bytes have changed.
        needs_crc: the CRC-64 of every part must be computed.
    """

    upload_id = ""
    kept: Mapping[int, Kept] = {}
    needs_crc = False

    def begin(self, upload_id: str) -> None:
        """Take note of the upload that is going to get the parts."""

    def stored(self, number: int, body: Body) -> Kept | None:  # noqa: ARG002
        """Return part *number* if it is stored with these bytes, which are read."""
        return None

    def note(self, part: PartReceipt, verified: str) -> None:
        """Take note of a stored part."""

    def finish(self) -> None:
        """Forget the upload: it is published, or can never be."""

    def survives(self, error: BaseException | None) -> bool:  # noqa: ARG002
        """Return whether the upload is left as it is after *error*."""
        return False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the upload to whoever comes next."""


# The parts of one upload that are in flight: how many, and until when one waits.


class Window:
    """Lets some parts be in flight at a time, fewer where memory is short."""

    def __init__(self, width: int, memory_limit: int) -> None:
        """Have nothing in flight.

        Args:
            width: parts at most.
            memory_limit: bytes of the process's memory from which on parts that hold
                some of it go out one by one.
        """
        self.memory_limit = memory_limit
        self._width = width
        self._memory = of_process().memory
        # Not "with" of the condition: an interrupt at its end would leave it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0

    def enter(self, body: Body) -> None:
        """Wait until *body* may go out; what entered must leave."""
        with self._lock:
            # No limit: see ``drain``.
            self._changed.wait_for(lambda: self._inside < self._width)
            self._inside += 1
        if isinstance(body, PartBody):
            try:
                # What is in flight gives its memory back by itself.
                self._memory.wait(self.memory_limit, lambda: self._inside == 1)
            except BaseException:
                self.leave(body)
                raise

    def leave(self, body: Body) -> None:
        """Let the next one in; nobody reads *body* any more."""
        if isinstance(body, PartBody):
            body.release()
        with self._lock:
            self._inside -= 1
            self._changed.notify_all()

    def drain(self, seconds: float | None = None) -> None:
        """Wait until nothing is in flight, *seconds* at most; None waits for ever."""
        with self._lock:
            # Each part in flight has a job in the pool, which leaves in any case.
            self._changed.wait_for(lambda: not self._inside, seconds)


# Whether an upload will end before its presigned URLs do.

_log = logging.getLogger(__name__)

# Seconds of an upload after which its rate says something.
_WARMED_UP = 2.0


class Pace:
    """Measures one upload whose URLs were all signed beforehand; warns once.

    Args:
        path: ``bucket/key``, for the warning.
        size: bytes in all; None for a stream, which nobody can foretell.
        ends: when its URLs end, seconds since the epoch; None if that is not known.
        clock: seconds that only grow.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        path: str,
        size: int | None,
        ends: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Begin now."""
        self._path = path
        self._size = size
        self._ends = ends
        self._clock = clock
        self._now = now
        self._started = clock()
        self._sent = 0

    def sent(self, count: int) -> None:
        """Note *count* bytes more; call it from one thread at a time."""
        self._sent += count
        spent = self._clock() - self._started
        if self._size is None or self._ends is None or spent < _WARMED_UP:
            return
        left = (self._size - self._sent) * spent / max(self._sent, 1)
        if self._now() + left <= self._ends:
            return
        when = datetime.fromtimestamp(self._ends, UTC).isoformat(" ", "seconds")
        _log.warning(
            "%s: at this rate the last parts start after their presigned URLs end, at "
            "%s: ask the owner for URLs that live %d s longer, or for larger parts",
            self._path,
            when,
            self._now() + left - self._ends + 1,
        )
        self._ends = None


# What the requests of one upload add up to: the numbers of its receipt.


class Tally:
    """Counts replies. Not locked: its owner is."""

    def __init__(self, target: Target) -> None:
        """Begin now, with nothing sent."""
        self._target = target
        self._verified: set[str] = set()
        self._retries = 0
        self._resigns = 0
        self._started = time.monotonic()

    def count(self, reply: Reply | None, *verified: str) -> None:
        """Add a reply, None for a part that was stored before, and what verified it."""
        if reply is not None:
            self._retries += reply.retries
            self._resigns += reply.resigns
        self._verified.update(verified)

    def whole_is_verified(self, by: str) -> None:
        """Take what verified the whole object, whatever the parts proved."""
        self._verified = {by}

    def receipt(
        self,
        reply: Reply | None,
        *,
        size: int,
        crc: int | None,
        upload_id: str,
        parts: tuple[PartReceipt, ...],
    ) -> Receipt:
        """Sum up.

        Args:
            reply: the last one; None means that the owner completes.
            size: bytes of the object.
            crc: its CRC-64; None if it was not computed.
            upload_id: of the multipart upload; empty for one PutObject.
            parts: what it consists of.

        Raises:
            ExclusiveNotEnforcedError: it is stored, over what had to stay.
        """
        version = reply.headers.get("x-oss-version-id") if reply else None
        if version and self._target.exclusive:
            msg = (
                f"stored as version {version}, but a bucket that keeps versions ignores "
                "forbid-overwrite: what was there before is hidden now"
            )
            raise ExclusiveNotEnforcedError(
                msg, path=self._target.path, version_id=version
            )
        status = "stored" if reply else "pending"
        if reply and reply.status == CALLBACK_FAILED:
            status = "callback_failed"
        return Receipt(
            path=self._target.path,
            size=size,
            status=status,
            etag=reply.etag.strip('"') if reply else "",
            crc64=crc,
            verified=self._verified.pop() if len(self._verified) == 1 else "none",
            version_id=version,
            request_id=reply.request_id if reply else None,
            upload_id=upload_id or None,
            parts=parts,
            retries=self._retries,
            resigns=self._resigns,
            seconds=time.monotonic() - self._started,
            content_type=self._target.content_type,
        )


# Seconds that a discard waits for parts in flight before it aborts the upload.
_DRAIN, _HURRIED_DRAIN = 30.0, 3.0
# Parts of a stream that are signed first: it may well end soon.
_FIRST_BATCH = 4


def upload_source(
    client: Client,
    target: Target,
    source: Source,
    *,
    ahead: Prefetcher | None = None,
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
                from .resume import resumption_of  # noqa: PLC0415 - seldom wanted

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
        ahead: Prefetcher | None = None,
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
        self._parts_ahead: Prefetcher | None = None
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
                or steps.initiate(
                    self._client,
                    self._target,
                    Exchange(cancel=self._cancel),
                    ahead=self._opening,
                )
            )
        except NotSignedError:
            if self.plan.multipart:
                raise
            return False
        self._resumption.begin(self._upload_id)
        shutdown.add(self)
        coming = (
            self._target.part_operation(self._upload_id, number, size)
            for number, size in self.plan.cut(self._size)
            if number not in self._resumption.kept
        )
        self._parts_ahead = self._client.prefetcher(
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
        reply, verified = steps.send_body(
            self._client,
            self._target,
            self._target.part_operation(self._upload_id, number, body.size),
            body,
            self._exchange(needs_crc=self._resumption.needs_crc),
            ahead=self._parts_ahead,
        )
        part = steps.part_receipt(
            number, body.size, reply.etag, reply.crc64, self._target.path
        )
        return reply, verified, part

    def _exchange(self, *, needs_crc: bool = False) -> Exchange:
        return Exchange(
            cancel=self._cancel,
            progress=self._progress,
            with_crc=needs_crc or self._target.checksum != "none",
        )

    def _put_object(self, body: Body) -> Receipt:
        reply, verified = steps.put_object(
            self._client,
            self._target,
            body,
            self._exchange(),
            ahead=self._opening,
        )
        self._tally.count(reply, verified)
        return self._receipt(reply, body.size, reply.crc64, ())

    def _complete(self) -> Receipt:
        size, parts, crc = self._ledger.size, self._ledger.parts, self._ledger.crc64()
        if not self.granted.completes:
            return self._receipt(None, size, crc, parts)
        try:
            reply, verified = steps.complete(
                self._client,
                self._target,
                self._upload_id,
                parts,
                Exchange(cancel=self._cancel),
                crc=crc,
                granted=self.granted,
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
            steps.abort(self._client, self._target, self._upload_id, once=once)
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
