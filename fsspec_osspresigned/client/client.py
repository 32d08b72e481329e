"""Client: signs, sends and retries the operations of all filesystem methods."""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from attrs import evolve

from ..concurrency.budget import Turns, of_process
from ..concurrency.circuit import Circuit
from ..concurrency.thread_pool import Workers, run_jobs_here, runs_jobs_here
from ..concurrency.waiting import Event
from ..errors import (
    BlindAnswerWarning,
    NotSignedError,
    OSSPresignedError,
    Outcome,
    ReceiptFailedError,
)
from ..http.body import EMPTY, Body
from ..http.exchange import PLAIN, Exchange
from ..http.transport import Transport
from ..model import (
    FORBID_OVERWRITE,
    Action,
    Operation,
    Receipt,
    Reply,
    SignedRequest,
    split_path,
)
from ..options.options import Options
from ..parsing import clock_offset
from ..secret import redact
from ..signers.base import MAX_REQUESTS, Signer, distrust, sign_checked
from ..signing.canonical import is_of_s3
from ..tracebacks import warn_user
from .link_estimate import LinkEstimate, RequestWindow
from .readable_directories import LOOKS
from .retry import REAL_TIME, Attempts, Decision, RetryPolicy, Timing, Verb
from .small_request import FirstTry
from .written_objects import WrittenObjects

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from ..checkpoint.directory import Checkpoint
    from ..signers.batching import Prefetcher

    T = TypeVar("T", default=Reply)
    Job = TypeVar("Job")


_TREES = 4  # coroutines for many files that run at the same time
_LANES = 8  # calls for many files that are driven at the same time


def _itself(reply: Reply) -> Any:
    return reply


class Client:
    """Sends requests for all filesystems with equal options, signed by one signer.

    *policy* None uses the retry policy of the options. *note* is called with each
    receipt.

    Attributes:
        written: record of the objects that this process has written.
        circuits: bucket -> its circuit breaker.
        links: bucket -> estimate of its network link.
        windows: bucket -> limit of its small requests in flight.
        turns: limit of the requests in flight.
        trees: threads that each wait for many files, for calls of coroutines.
        lanes: threads that each drive many small requests (``express_lane``), and wait
            for the threads of ``files``.
        files: threads that each drive one file, and wait for its parts.
        requests: threads that each send one part. A task never waits for another one
            of the same pool, so no pool can deadlock.
        s3_buckets: buckets with signed URLs of S3-compatible stores.
        clock_offset: seconds by which this machine's clock is ahead of the store's,
            from the last reply; None before the first one.
    """

    def __init__(
        self,
        options: Options,
        signer: Signer,
        transport: Transport,
        *,
        policy: RetryPolicy | None = None,
        note: Callable[[Receipt], None] | None = None,
        checkpoint: Checkpoint | None = None,
        timing: Timing = REAL_TIME,
    ) -> None:
        self.options = options
        self.signer = signer
        self.transport = transport
        self.checkpoint = checkpoint
        self.policy = policy or RetryPolicy(
            retries=options.retries, total=options.retry_timeout
        )
        self.written = WrittenObjects()
        self.s3_buckets: set[str] = set()
        # A signer with a preflight grants by objects: one tells nothing of the next.
        self._grants_by_prefix = not hasattr(signer, "preflight")
        self.trees = Workers("osspresigned-tree", _TREES)
        self.lanes = Workers("osspresigned-lane", _LANES)
        self.files = Workers("osspresigned-file", options.connections)
        self.requests = Workers("osspresigned-part", options.most_connections)
        self.clock_offset: float | None = None
        self._timing = timing
        self.turns = Turns(of_process().requests, options.most_connections)
        self._note = note
        self.circuits: dict[str, Circuit] = {}
        self.links: defaultdict[str, LinkEstimate] = defaultdict(LinkEstimate)
        self.windows: defaultdict[str, RequestWindow] = defaultdict(
            lambda: RequestWindow(options.most_small, clock=timing.clock)
        )

    def note(self, receipt: Receipt, data: bytes | None = None) -> None:
        """Record the upload of *receipt*, and pass the receipt to the client's callback.

        *data* is the body of the object, which is kept if it is small. Raises
        ReceiptFailedError if the callback fails.
        """
        self.written.remember(receipt, data)
        if self._note is None:
            return
        try:
            with run_jobs_here():
                self._note(receipt)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if isinstance(error, OSError) and error.strerror and error.filename:
                why = f"{error.filename}: {error.strerror}"
            pending = receipt.status == "pending"  # its owner waits for the receipt
            state = "pending" if pending else "stored"
            raise ReceiptFailedError(
                f"{state}, but without a receipt: {redact(why)}",
                path=receipt.path,
                outcome=Outcome.NOT_STORED if pending else Outcome.STORED,
                receipt=receipt,
            ) from error

    def call(
        self,
        operation: Operation,
        body: Body = EMPTY,
        exchange: Exchange = PLAIN,
        *,
        parse: Callable[[Reply], T] = _itself,
        ahead: Prefetcher | None = None,
        once: bool = False,
        first: FirstTry | None = None,
    ) -> T:
        """Sign *operation*, send it with *body*, and return what *parse* returns.

        Args:
            operation: what to do.
            body: request body, sent from its start at every try.
            exchange: unsigned parts of the request.
            parse: reads a 2xx reply; an error that it raises fails the try.
            ahead: signer of the first try; the client's own signer signs the others.
            once: do not retry.
            first: the first try, if an express lane has made it.

        Raises:
            NotSignedError: the signer does not sign the operation.
            OSSPresignedError: the failure of the last try, with its ``tries``, and with
                its ``outcome`` if a try may have stored an object.
        """
        failed = first.failure if first else None
        if first is not None and failed is None:
            self.circuit(operation.bucket).note_answer()
            return cast("T", first.parsed)
        attempts = first.attempts if first else self.attempts(operation)
        cancel = exchange.cancel
        signed = first.signed if first else None
        signer: Signer = (None if first else ahead) or self.signer
        circuit = self.circuit(operation.bucket)
        while True:
            try:
                if failed is not None:
                    with circuit.turn(operation.path, sent=True):
                        raise failed
                with self.turns.take(wait=not self._is_awaited):
                    if signed is None or self.is_stale(signed):  # after the wait
                        asked, signer = signer, self.signer
                        signed = self.signed(operation, asked)
                    with circuit.turn(operation.path, cancel, sent=self._is_awaited):
                        reply = self._sent(operation, signed, body, exchange)
                        return parsed(attempts.counted(reply), parse, exchange)
            except OSSPresignedError as error:
                failure, failed = error, None
            finally:
                self.turns.tell()
            gone = cancel is not None and cancel.is_set()
            decision = self._after(operation, attempts, failure, last=once or gone)
            if decision.verb is Verb.SIGN_AGAIN:
                distrust(ahead, signed)
                distrust(self.signer, signed)
                signed = None
            elif (cancel or Event()).wait(decision.seconds):
                raise failure

    @property
    def _is_awaited(self) -> bool:
        """Whether other requests may be waiting for this thread; it must not wait then."""
        return self.lanes.is_caller or runs_jobs_here()

    def _after(
        self,
        operation: Operation,
        attempts: Attempts,
        failure: OSSPresignedError,
        *,
        last: bool,
    ) -> Decision:
        try:
            return attempts.after(failure, last=last)
        finally:
            if failure.outcome is Outcome.UNKNOWN:  # what was known may be old
                self.written.forget(operation.path)

    def _sent(
        self,
        operation: Operation,
        signed: SignedRequest,
        body: Body,
        exchange: Exchange,
    ) -> Reply:
        """Send one try of *operation*, and return its 2xx reply, or raise an error."""
        ready = self.ready(operation, signed, body)
        if exchange.path != operation.path:
            exchange = evolve(exchange, path=operation.path)
        clock = self._timing.clock
        began = clock()
        reply = self.judged(
            operation, ready, self.transport.send(ready, body, exchange)
        )
        if exchange.sink is None:
            link = self.links[operation.bucket]
            link.note(operation.action, body.size, clock() - began)
        return reply

    def attempts(self, operation: Operation) -> Attempts:
        """Return a counter for the tries of one call, of which the first begins now."""
        return Attempts(operation, self.policy, self._timing)

    def signed(self, operation: Operation, signer: Signer | None) -> SignedRequest:
        """Sign *operation*, by the client's own signer if *signer* is None."""
        return sign_checked(signer or self.signer, [operation])[0]

    def is_stale(self, signed: SignedRequest) -> bool:
        """Return whether *signed* expires too soon to be sent."""
        return signed.is_stale(self._timing.now())

    def ready(
        self, operation: Operation, signed: SignedRequest, body: Body
    ) -> SignedRequest:
        """Return *signed* as it is sent, with the checksum headers that S3 requires.

        Raises NotSignedError if *signed* may replace an object that was reported as
        missing, and the option ``unknown`` is ``error``.
        """
        if FORBID_OVERWRITE in operation.optional_headers:
            self._check_lock(operation, signed)
        if not is_of_s3(signed.url):
            return signed
        from .s3_urls import with_checksums  # noqa: PLC0415 - only for other stores

        self.s3_buckets.add(operation.bucket)
        return with_checksums(operation, signed, body)

    def _check_lock(self, operation: Operation, signed: SignedRequest) -> None:
        """Warn, or raise NotSignedError, if *signed* can replace an existing object."""
        from .error_codes import forbids_overwrite  # noqa: PLC0415 - only after a look

        if forbids_overwrite(signed) and not is_of_s3(signed.url):
            return
        if self.options.unknown == "error":
            msg = (
                "it is unknown whether the object exists, and its signature does not "
                f"include {FORBID_OVERWRITE}, so it might be replaced: give "
                "overwrite=True to permit that"
            )
            raise NotSignedError(msg, path=operation.path, action=operation.action)
        self.warn_of_replacing(operation.path, "is not signed")

    def warn_of_replacing(self, path: str, why: str) -> None:
        """Warn once per bucket that an object which no look could see may be replaced.

        *why* says why ``x-oss-forbid-overwrite`` does not prevent it.
        """
        bucket = split_path(path)[0]
        if self.written.warn_once(f"replacing in {bucket}"):
            text = (
                f"{path} was reported as missing because looking into {bucket!r} is not "
                f"signed; if it exists, it is replaced, because {FORBID_OVERWRITE} {why} "
                "(unknown='error' refuses)"
            )
            warn_user(text, BlindAnswerWarning)

    def judged(
        self, operation: Operation, signed: SignedRequest, reply: Reply
    ) -> Reply:
        """Return *reply* if it has status 2xx; raise the matching error otherwise."""
        now = self._timing.now
        ok = 200 <= reply.status < 300  # noqa: PLR2004 - HTTP status class
        if not (ok and signed.method == "GET"):  # a long body makes its Date old
            self.clock_offset = clock_offset(reply.headers, now, self.clock_offset)
        is_answer = ok or reply.status == HTTPStatus.NOT_FOUND
        if operation.action in LOOKS and is_answer and self._grants_by_prefix:
            self._note_answer(operation)
        if ok:
            return reply
        from .error_codes import from_reply  # noqa: PLC0415 - only for a failure

        failure = from_reply(
            operation, reply, signed, now=now, offset=self.clock_offset
        )
        self.windows[operation.bucket].note_failure(failure)
        raise failure

    def _note_answer(self, look: Operation) -> None:
        """Record that the store answered *look*, a HeadObject, GetObject or listing."""
        is_new = self.written.answered(look)
        is_remote = getattr(self.signer, "remote", False)
        may_wait = self.lanes.is_caller and is_remote is not False
        may_ask = not (is_remote or may_wait)
        if is_new and look.action is Action.HeadObject and may_ask:
            # To the store both are one permission; only the signer may part them.
            read = evolve(look, action=Action.GetObject)
            if self.can_sign(read):
                self.written.answered(read)

    def prefetcher(
        self, coming: Callable[[], Operation | None], *, first: int, low: int = 0
    ) -> Prefetcher | None:
        """Return a signer that signs the operations of *coming* ahead, in batches.

        *coming*, *first* and *low* are as in ``Prefetcher``. Returns None if the signer
        is in this process, so batches would save nothing.
        """
        if not getattr(self.signer, "remote", False):
            return None
        from ..signers.batching import Prefetcher  # noqa: PLC0415 - only for many at once

        now = self._timing.now
        return Prefetcher(self.signer, coming, first=first, low=low, now=now)

    def announced(
        self, jobs: Iterable[Job], opening: Callable[[Job], Operation]
    ) -> tuple[Iterator[Job], Prefetcher | None]:
        """Return *jobs*, and a prefetcher that signs their first requests in batches.

        The prefetcher is None if the signer is in this process. Up to 200 jobs are read
        ahead. *opening* returns the first request of a job.
        """
        coming: deque[Operation] = deque()
        made = self.prefetcher(
            lambda: coming.popleft() if coming else None,
            first=MAX_REQUESTS,
            low=max(self.options.connections, MAX_REQUESTS),
        )
        if made is None:
            return iter(jobs), None
        from ..signers.batching import announced  # noqa: PLC0415 - only for many at once

        return announced(jobs, opening, coming), made

    def can_sign(self, operation: Operation) -> bool:
        """Return whether the signer signs *operation*; sends nothing to the store."""
        try:
            sign_checked(self.signer, [operation])
        except NotSignedError:
            return False
        return True

    def circuit(self, bucket: str) -> Circuit:
        """Return the circuit breaker of *bucket*."""
        if bucket not in self.circuits:
            # Half of the longest wait is the mean one of a worker that tries alone.
            made = Circuit(
                self.options.connections,
                pause=self.policy.base / 2,
                longest=self.policy.cap / 2,
                clock=self._timing.clock,
            )
            self.circuits.setdefault(bucket, made)  # atomic: the first one stays
        return self.circuits[bucket]


def parsed(reply: Reply, parse: Callable[[Reply], T], exchange: Exchange) -> T:
    """Return what *parse* returns.

    If *parse* raises, the bytes sent are subtracted from the progress.
    """
    try:
        return parse(reply)
    except OSSPresignedError:
        if exchange.progress is not None:
            exchange.progress(-reply.body_bytes)
        raise


# Lock and clients of each process: after a fork the child must not touch the parent's
# locks, threads and sockets, so it begins anew.
_registries: dict[int, tuple[threading.Lock, WeakValueDictionary[object, Client]]] = {}


def shared_client(options: Options, make: Callable[[Options], Client]) -> Client:
    """Return this process's client for *options*; *make* creates it on first use.

    The client lives as long as a filesystem, a file or a call refers to it.
    """
    made = (threading.Lock(), WeakValueDictionary[object, Client]())
    lock, clients = _registries.setdefault(os.getpid(), made)
    with lock:
        found = clients.get(key := options.identity())
        if found is None:
            found = clients[key] = make(options)
        return found


def reset() -> None:
    """Drop the shared clients, for tests whose stores reuse ports.

    Cached fsspec instances keep their client, so clear that cache as well.
    """
    _registries.clear()
