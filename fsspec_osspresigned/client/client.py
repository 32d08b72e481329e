"""Client: signs, sends and retries the operations of all filesystem methods."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from attrs import evolve

from ..engine.engine import blocking, call_user, shielded
from ..engine.limits import RequestPlace, request_limiter
from ..engine.warn import warn_user
from ..errors import (
    ExistenceNotVerifiedWarning,
    NetworkError,
    NotCoveredError,
    OSSPresignedError,
    Outcome,
    ReceiptFailedError,
    UploadDiscardedError,
)
from ..http.body import EMPTY, SMALL, Body
from ..http.transfer import PLAIN, Exchange, LargeReplyError
from ..http.transport import Transport
from ..model import (
    FORBID_OVERWRITE,
    Operation,
    Receipt,
    Reply,
    SignedRequest,
    split_path,
    stored_note,
)
from ..options.options import Options
from ..options.target import ObjectOptions
from ..parsing import clock_offset
from ..secret import redact
from ..signers.base import MAX_REQUESTS, Grant, Signer, sign_checked
from ..signing.canonical import is_of_s3
from .congestion import BucketState, LargeWindow, RequestWindow
from .local_index import LocalIndex
from .retry import (
    REAL_TIME,
    Attempts,
    Decision,
    RetryPolicy,
    Timing,
    Verb,
)

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ..signers.batching import Prefetcher

    T = TypeVar("T", default=Reply)
    Job = TypeVar("Job")
    R = TypeVar("R")


def _itself(reply: Reply) -> Any:
    return reply


def never() -> bool:
    """Return False; the default of *is_over*, for calls that no caller ends early."""
    return False


class Client:
    """Signs and sends the requests of all filesystems with equal options.

    *policy* None uses the retry policy of the options. *note* is called with each
    receipt.

    Attributes:
        written: index of the objects that this process has written.
        buckets: bucket -> its circuit breaker and limits.
        s3_buckets: buckets for which URLs of S3-compatible stores were signed.
        grant_of_all: the signer's grant for all objects, if it permits every kind of
            upload; otherwise None.
        clock_offset: seconds by which this machine's clock is ahead of the store's,
            from the first reply or the last refusal; None before the first reply.
    """

    def __init__(
        self,
        options: Options,
        signer: Signer,
        transport: Transport,
        *,
        policy: RetryPolicy | None = None,
        note: Callable[[Receipt], None] | None = None,
        timing: Timing = REAL_TIME,
    ) -> None:
        self.options = options
        self.signer = signer
        self.transport = transport
        self.policy = policy or RetryPolicy(
            retries=options.retries, total=options.retry_timeout
        )
        self.written = LocalIndex()
        self.s3_buckets: set[str] = set()
        # Calls without options of their own share these options, and all values derived
        # from them.
        self.object_options = ObjectOptions(options)
        self.clock_offset: float | None = None
        self._timing = timing
        self._note = note
        self.grant_of_all = signer.grant_of_all
        self._batches = self.prefetcher(lambda: None, first=MAX_REQUESTS)
        self.buckets: defaultdict[str, BucketState] = defaultdict(
            lambda: BucketState(self, options, self.policy, timing.clock)
        )

    @property
    def holds_keys(self) -> bool:
        """True if this process signs every request with an access key that it holds."""
        if self.options.signer != "keys":
            return False
        from ..signers.keys import KeySigner  # noqa: PLC0415 - loaded together with the signer

        return isinstance(self.signer, KeySigner)

    @property
    def asks_service(self) -> bool:
        """True if a signer service signs the requests."""
        from ..signers.http import HTTPSigner  # noqa: PLC0415 - loaded together with the signer

        return isinstance(self.signer, HTTPSigner)

    async def note(self, receipt: Receipt, data: bytes | None = None) -> None:
        """Record the upload of *receipt*, and pass the receipt to the client's callback.

        *data* is the body of the object, which is kept if it is small. Raises
        ReceiptFailedError if the callback fails.
        """
        self.written.remember(receipt, data)
        if self._note is None:
            return
        try:
            await call_user(self._note, receipt)
        except asyncio.CancelledError as error:
            error.add_note(stored_note(receipt))
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if isinstance(error, OSError) and error.strerror and error.filename:
                why = f"{error.filename}: {error.strerror}"
            # the caller that owns the receipt waits for it
            pending = receipt.status == "pending"
            state = "pending" if pending else "stored"
            raise ReceiptFailedError(
                f"{state}, but without a receipt: {redact(why)}",
                path=receipt.path,
                outcome=Outcome.NOT_STORED if pending else Outcome.STORED,
                receipt=receipt,
            ) from error

    async def call(
        self,
        operation: Operation,
        body: Body = EMPTY,
        exchange: Exchange = PLAIN,
        *,
        parse: Callable[[Reply], T] = _itself,
        prefetcher: Prefetcher | None = None,
        once: bool = False,
        is_over: Callable[[], bool] = never,
    ) -> T:
        """Sign *operation*, send it with *body*, and return what *parse* returns.

        Each try sends *body* from its start. *parse* reads a 2xx reply; an error that
        it raises fails the try. *prefetcher* signs the first try, and the client's own
        signer all later ones. *once* permits no retry. *is_over* is called before each
        retry; if it returns True, the call ends.

        Raises:
            UploadDiscardedError: *is_over* has returned True.
            NotCoveredError: the signer does not sign the operation.
            OSSPresignedError: the failure of the last try, with its ``tries``, and with
                its ``outcome`` if a try may have stored an object.
        """
        limiter, began = request_limiter(), self._timing.clock()
        bucket = self.buckets[operation.bucket]
        is_small = body.size <= SMALL and not exchange.in_thread
        place = bucket.place_of_small if is_small else bucket.place_of_large
        attempts: Attempts | None = None  # None until the first failure
        signed, ahead = None, prefetcher
        while True:
            try:
                is_old = signed is not None
                if signed is None:
                    first, ahead = ahead, None
                    quick = first is None and self.signer.sign_at_once(operation)
                    signed = quick or await self._signed_ahead(operation, first)
                if not limiter.enter_nowait(place):
                    await limiter.enter(place)
                    is_old = True
                try:
                    if signed is None or (
                        is_old and signed.is_stale(self._timing.now())
                    ):
                        signed = await self.signed(operation)
                    return await self._attempt(
                        operation, signed, body, exchange, parse, attempts, place
                    )
                finally:
                    limiter.leave(place)
            except LargeReplyError:
                exchange = evolve(exchange, in_thread=True)
                place = bucket.place_of_large
                continue
            except BaseException as error:  # noqa: BLE001 - ``_decided`` raises it
                attempts = attempts or Attempts(
                    operation, self.policy, self._timing, began
                )
                decision = self._decided(operation, error, attempts, once=once)
                # Other idle connections may be broken, too.
                if isinstance(error, NetworkError):
                    exchange = evolve(exchange, is_fresh=True)
            signed = await self._prepare_retry(decision, attempts, signed, prefetcher)
            if is_over():
                msg = "the upload was discarded before its next try"
                raise UploadDiscardedError(msg, path=operation.path)

    async def _signed_ahead(
        self, operation: Operation, prefetcher: Prefetcher | None
    ) -> SignedRequest | None:
        """Sign *operation* before it has a place; None if it must have a place first.

        A signer of the user takes a worker thread for each call, so it only signs
        requests that have a place.
        """
        if prefetcher is not None:
            return await prefetcher.sign(operation)
        if self.signer.remote or not self.signer.waits:
            return await self.signed(operation)
        return None

    async def _prepare_retry(
        self,
        decision: Decision,
        attempts: Attempts,
        signed: SignedRequest | None,
        prefetcher: Prefetcher | None,
    ) -> SignedRequest | None:
        """Prepare the next try; return *signed*, or None if it must be signed again."""
        try:
            if decision.verb is Verb.WAIT:
                await self._timing.sleep(decision.seconds)
                return signed
            await self._invalidate(signed, prefetcher)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            attempts.raise_foreign(error)
        return None

    async def _invalidate(
        self, refused: SignedRequest | None, prefetcher: Prefetcher | None
    ) -> None:
        if refused is None:
            return
        if prefetcher is not None:
            prefetcher.invalidate(refused)
        await _ask(self.signer.waits, self.signer.invalidate, refused)

    def _decided(
        self,
        operation: Operation,
        error: BaseException,
        attempts: Attempts,
        *,
        once: bool,
    ) -> Decision:
        """Return how to retry *operation* after *error*: later, or with a new signature.

        Raises *error* if there is no retry; *once* permits none.
        """
        if not isinstance(error, OSSPresignedError):
            # an error of the body or of code of the user, or an interrupt
            attempts.raise_foreign(error)
        try:
            return attempts.after(error, last=once)
        finally:
            if error.outcome is Outcome.UNKNOWN:  # the index may be outdated
                self.written.doubt(operation.path)

    async def _attempt(
        self,
        operation: Operation,
        signed: SignedRequest,
        body: Body,
        exchange: Exchange,
        parse: Callable[[Reply], T],
        attempts: Attempts | None,
        place: RequestPlace,
    ) -> T:
        bucket = self.buckets[operation.bucket]
        breaker = bucket.breaker
        probes = breaker.is_open and await breaker.enter(operation.path)
        reply: Reply | None = None
        error: BaseException | None = None
        try:
            if FORBID_OVERWRITE in operation.optional_headers or is_of_s3(signed.url):
                signed = await self._prepared(operation, signed, body)
            if place.is_small:
                bucket.small.in_flight += 1
                began, in_flight = self._timing.clock(), bucket.small.in_flight
                try:
                    reply = await self.transport.send(
                        signed, body, exchange, operation.path
                    )
                finally:
                    bucket.small.in_flight -= 1
                if is_good := reply.is_good:
                    bucket.small.note(self._timing.clock() - began, in_flight)
            else:
                reply = await self._send_large(
                    operation, signed, body, exchange, place, bucket
                )
                is_good = reply.is_good
            if not is_good or (self.clock_offset is None and "date" in reply.headers):
                window = bucket.small if place.is_small else bucket.large
                self._raise_for_status(operation, signed, reply, window)
            has_more = signed.location is not None or signed.assumed_etag is not None
            if has_more or attempts is not None:
                reply = _completed(reply, signed, attempts)
            if place.is_small and exchange.progress is None:
                return parse(reply)
            return await _parsed(reply, parse, exchange, in_thread=not place.is_small)
        except BaseException as caught:
            error = caught
            self._note_effect(caught, operation, reply)
            raise
        finally:
            breaker.leave(error, probes=probes)
            del error  # the traceback of the error would keep the body in memory

    def _note_effect(
        self, error: BaseException, operation: Operation, reply: Reply | None
    ) -> None:
        """If *error* says nothing about the object, doubt the index, and quote *reply*."""
        if isinstance(error, OSSPresignedError) or not operation.action.changes:
            return
        self.written.doubt(operation.path)  # the server may have executed the request
        if reply is not None:
            error.add_note(f"{operation} was answered with HTTP {reply.status}")

    async def _prepared(
        self, operation: Operation, signed: SignedRequest, body: Body
    ) -> SignedRequest:
        if FORBID_OVERWRITE in operation.optional_headers:
            self._check_lock(operation, signed)
        if is_of_s3(signed.url):
            return await self._with_checksums(operation, signed, body)
        return signed

    async def _send_large(
        self,
        operation: Operation,
        signed: SignedRequest,
        body: Body,
        exchange: Exchange,
        place: RequestPlace,
        bucket: BucketState,
    ) -> Reply:
        # a read has no body: the size of its range
        size = body.size or self.options.piece_size
        with bucket.watching(place, size):
            reply = await self.transport.send(signed, body, exchange, operation.path)
        if reply.is_good:
            is_awaited = request_limiter().is_awaited(place)
            bucket.large.note(size, is_awaited=is_awaited)
        return reply

    async def signed(self, operation: Operation) -> SignedRequest:
        """Return *operation*, signed by the client's signer."""
        if self._batches is not None:
            return await self._batches.sign(operation)
        waits = self.signer.waits
        return (await _ask(waits, sign_checked, self.signer, [operation]))[0]

    async def grant(self, path: str) -> Grant:
        """Return the signer's ``Grant`` for *path*: the ways to upload that it permits."""
        grant = self.grant_of_all
        if grant is None:
            grant = await _ask(self.signer.waits, self.signer.grant, path)
        return grant

    async def preflight(self, operation: Operation) -> None:
        """Raise the signer's error if it is certain to refuse *operation*.

        Nothing is sent to the store.
        """
        await _ask(self.signer.waits, self.signer.preflight, operation)

    async def _with_checksums(
        self, operation: Operation, signed: SignedRequest, body: Body
    ) -> SignedRequest:
        from ..signers.s3_checksums import with_checksums  # noqa: PLC0415 - needed only for other stores

        self.s3_buckets.add(operation.bucket)
        return await blocking(with_checksums, operation, signed, body)

    def _check_lock(self, operation: Operation, signed: SignedRequest) -> None:
        from .error_codes import forbids_overwrite  # noqa: PLC0415 - needed only after a check by HeadObject

        if forbids_overwrite(signed) and not is_of_s3(signed.url):
            return
        if self.options.if_unverifiable == "error":
            msg = (
                "it is unknown whether the object exists, and its signature does not "
                f"include {FORBID_OVERWRITE}, so it might be replaced: give "
                "overwrite=True to permit that"
            )
            raise NotCoveredError(msg, path=operation.path, action=operation.action)
        self.warn_of_replacing(operation.path, "is not signed")

    def warn_of_replacing(self, path: str, why: str) -> None:
        """Warn once per bucket that storing *path* may replace an object that is hidden.

        The object is hidden because the token has no permission to check for it. *why*
        is the reason why ``x-oss-forbid-overwrite`` does not prevent the replacement.
        """
        bucket = split_path(path)[0]
        if self.written.warn_once(f"replacing in {bucket}"):
            text = (
                f"{path} was reported as missing, because HeadObject or listing is not "
                f"granted in {bucket!r}; if it exists, it is replaced, because "
                f"{FORBID_OVERWRITE} {why} (if_unverifiable='error' raises an error instead)"
            )
            warn_user(text, ExistenceNotVerifiedWarning)

    def _raise_for_status(
        self,
        operation: Operation,
        signed: SignedRequest,
        reply: Reply,
        window: RequestWindow | LargeWindow,
    ) -> None:
        now = self._timing.now
        # The Date of a long reply may be too old.
        if not (reply.is_good and signed.method == "GET"):
            self.clock_offset = clock_offset(reply.headers, now, self.clock_offset)
        if reply.is_good:
            return
        from .error_codes import from_reply  # noqa: PLC0415 - needed only after a failure

        failure = from_reply(
            operation,
            reply,
            signed,
            now=now,
            offset=self.clock_offset,
            by_keys=self.holds_keys,
            by_signer=self.asks_service,
            is_ours=self.written.receipt(operation.path) is not None,
        )
        window.note_failure(failure)
        raise failure

    def prefetcher(
        self, coming: Callable[[], Operation | None], *, first: int, low: int = 0
    ) -> Prefetcher | None:
        """Return a prefetcher, which signs requests in batches; None for a local signer.

        A signer in this process answers at once, so batches save nothing. *coming*,
        *first* and *low* are as in ``Prefetcher``.
        """
        if not self.signer.remote:
            return None
        from ..signers.batching import Prefetcher  # noqa: PLC0415 - needed only for many objects

        now = self._timing.now
        return Prefetcher(self.signer, coming, first=first, low=low, now=now)

    def announced(
        self,
        jobs: Iterable[Job],
        opening: Callable[[Job], Awaitable[Operation]],
    ) -> tuple[Iterable[Job] | AsyncIterator[list[Job]], Prefetcher | None]:
        """Return *jobs*, and a prefetcher that signs their first requests in batches.

        *opening* returns the first request of a job. The returned jobs come in chunks,
        because up to 200 are read in advance. If the signer is in this process, *jobs*
        are returned unchanged, and the prefetcher is None.
        """
        first_requests: deque[Operation] = deque()
        prefetcher = self.prefetcher(
            lambda: first_requests.popleft() if first_requests else None,
            first=MAX_REQUESTS,
            low=max(self.options.connections, MAX_REQUESTS),
        )
        if prefetcher is None:
            return jobs, None
        from ..signers.batching import announced  # noqa: PLC0415 - needed only for many objects

        return announced(jobs, opening, first_requests), prefetcher

    async def can_sign(self, operation: Operation) -> bool:
        """Return whether the signer signs *operation*; sends nothing to the store."""
        try:
            await self.signed(operation)
        except NotCoveredError:
            return False
        return True


async def _ask(waits: bool, function: Callable[..., R], *args: Any) -> R:
    if not waits:
        return function(*args)
    # A cancelled caller does not wait, because a signer service may be silent for a
    # minute.
    return await shielded(call_user(function, *args))


def _completed(reply: Reply, signed: SignedRequest, attempts: Attempts | None) -> Reply:
    if signed.location:
        reply = evolve(reply, location=signed.location)
    if signed.assumed_etag and not reply.etag:
        reply = evolve(reply, headers={**reply.headers, "etag": signed.assumed_etag})
    return reply if attempts is None else attempts.counted(reply)


async def _parsed(
    reply: Reply, parse: Callable[[Reply], T], exchange: Exchange, *, in_thread: bool
) -> T:
    try:
        return await blocking(parse, reply) if in_thread else parse(reply)
    except OSSPresignedError:
        if exchange.progress is not None:
            # the bytes of a failed try do not count as progress
            await call_user(exchange.progress, -reply.body_bytes)
        raise


# Lock and clients of each process: after a fork the child must not touch the parent's
# locks, threads and sockets, so it starts over.
_registries: dict[int, tuple[threading.Lock, WeakValueDictionary[object, Client]]] = {}


def shared_client(options: Options, make: Callable[[Options], Client]) -> Client:
    """Return this process's client for *options*; *make* creates it on first use.

    The client lives as long as a filesystem, a file or a call refers to it.
    """
    new = (threading.Lock(), WeakValueDictionary[object, Client]())
    lock, clients = _registries.setdefault(os.getpid(), new)
    key = options.identity()
    with lock:
        client = clients.get(key)
    if client is None:
        # The lock is released first, because the user's signer may itself use
        # filesystems.
        made = make(options)
        with lock:
            client = clients.setdefault(key, made)
    return client


def reset() -> None:
    """Drop the shared clients, for tests whose stores reuse ports.

    Cached fsspec instances keep their client, so clear that cache as well.
    """
    _registries.clear()
