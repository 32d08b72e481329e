"""Signs, sends and retries one operation: the step that all verbs are made of."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from ..concurrency.budget import Turns, of_process
from ..concurrency.circuit import Circuit
from ..concurrency.workers import Workers
from ..errors import NotSignedError, OSSPresignedError, Outcome
from ..http.body import EMPTY, Body
from ..http.transport import Exchange, Sink, Transport
from ..model import Operation, Receipt, Reply, SignedRequest
from ..options.options import Options
from ..parsing import clock_offset
from ..signers.base import Signer, sign_checked
from .retry import Decision, RetryPolicy, Verb, may_have_acted
from .written import Known

if TYPE_CHECKING:
    from ..checkpoint.directory import Checkpoint
    from ..signers.batching import Ahead


# The tries of one operation: how many there were, and what comes after a failure.

_log = logging.getLogger(__name__)


class Attempts:
    """Counts tries by the clock, and lets the policy decide.

    Attributes:
        resigns: how often the operation was to be signed again.

    Args:
        operation: what is tried.
        policy: decides.
        clock: seconds that only grow.
        draw: uniform in [0, 1), for jitter.
    """

    def __init__(
        self,
        operation: Operation,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        """Begin the first try."""
        self.resigns = 0
        self._operation = operation
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._started = clock()
        self._count = 1
        self._doubtful = False

    @property
    def retries(self) -> int:
        """Tries after the first one that were not to be signed again."""
        return self._count - 1 - self.resigns

    def after(self, failure: OSSPresignedError, *, last: bool) -> Decision:
        """Return what to do after *failure*; the next try begins with it.

        Args:
            failure: of this try.
            last: whether there must be no other one.

        Raises:
            OSSPresignedError: *failure*, with its ``tries``, and with its ``outcome`` if
                any of the tries may have stored an object.
        """
        decision = self._policy.decide(
            failure,
            attempt=self._count - self.resigns,
            elapsed=self._clock() - self._started,
            draw=self._draw(),
            resigned=self.resigns > 0,
        )
        failure.tries = self._count
        self._doubtful = self._doubtful or may_have_acted(failure)
        if self._doubtful and self._operation.action.publishes:
            failure.outcome = Outcome.UNKNOWN
        if decision.verb is Verb.GIVE_UP or last:
            if self._count > 1:
                spent = self._clock() - self._started
                failure.add_note(
                    f"{self._operation}: {self._count} tries in {spent:.1f} s"
                )
            raise failure
        _log.info("%s: %s; %s", self._operation, failure.message, decision.verb.value)
        self._count += 1
        self.resigns += decision.verb is Verb.SIGN_AGAIN
        return decision


class Client:
    """What all filesystems with equal options share in one process.

    Attributes:
        options: the validated options.
        signer: where signed requests come from.
        transport: how they are sent.
        checkpoint: journals of uploads to go on with; None if nobody wants any.
        known: what this process has uploaded.
        trees: workers that wait for many files.
        files: workers that drive one file each, and wait for its parts.
        clock_offset: seconds that this machine's clock is ahead of the store's, as its
            last reply told; None before the first one.
        requests: workers that send one part each. No task ever waits for another one
            of its own kind, so no pool can lock itself up.
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
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Start no thread and open no connection yet.

        Args:
            options: the validated options.
            signer: where signed requests come from.
            transport: how they are sent.
            policy: when to try again; None takes it from the options.
            note: called with each receipt; None for nobody.
            checkpoint: journals of uploads to go on with; None if nobody wants any.
            clock: seconds that only grow, for waiting.
            now: seconds since the epoch, for expiry.
            draw: uniform in [0, 1), for jitter.
        """
        self.options = options
        self.signer = signer
        self.transport = transport
        self.checkpoint = checkpoint
        self.known = Known()
        self.trees = Workers("osspresigned-tree", 4)
        self.files = Workers("osspresigned-file", options.max_concurrency)
        self.requests = Workers("osspresigned-part", options.max_concurrency)
        self._policy = policy or RetryPolicy(
            retries=options.retries, total=options.retry_timeout
        )
        self._turns = Turns(of_process().requests, options.max_concurrency)
        self._note = note
        self._circuits: dict[str, Circuit] = {}
        self._refused: set[tuple[str, str]] = set()
        self._clock = clock
        self._now = now
        self._draw = draw
        self.clock_offset: float | None = None

    def note(self, receipt: Receipt, data: bytes | None = None) -> None:
        """Remember a finished upload and tell whoever asked for receipts."""
        self.known.add(receipt, data)
        if self._note is not None:
            self._note(receipt)

    def call(
        self,
        operation: Operation,
        body: Body = EMPTY,
        *,
        ahead: Ahead | None = None,
        cancel: threading.Event | None = None,
        progress: Callable[[int], None] | None = None,
        check: Callable[[Reply], None] | None = None,
        free: Mapping[str, str] | None = None,
        sink: Sink | None = None,
        with_crc: bool = False,
        once: bool = False,
    ) -> Reply:
        """Sign *operation*, send it with *body*, and return its 2xx reply.

        Args:
            operation: what to do.
            body: sent from its start at every try.
            ahead: signs the first try; None leaves it to the client's signer, as do all
                other tries.
            cancel: set by another thread to give up between blocks and waits.
            progress: called with the bytes of each block, negative when taken back.
            check: looks at a 2xx reply; what it raises counts as the failure of a try.
            free: headers that no signature covers, such as Range.
            sink: takes the body of a 2xx reply, from its start at every try.
            with_crc: whether to compute the CRC-64 of what is sent.
            once: do not try again.

        Raises:
            NotSignedError: the signer will not sign it.
            OSSPresignedError: the failure of the last try, its ``tries`` filled in, and
                its ``outcome``, if any of the tries may have stored an object.
        """
        self._refuse_early(operation)
        exchange = Exchange(
            path=operation.path,
            with_crc=with_crc,
            cancelled=cancel.is_set if cancel else None,
            progress=progress,
            free_headers=free or {},
            sink=sink,
        )
        attempts = Attempts(operation, self._policy, clock=self._clock, draw=self._draw)
        signed: SignedRequest | None = None
        signer: Signer = ahead or self.signer
        while True:
            try:
                with self._turns:
                    # Only here, for the wait may outlast a short life.
                    if signed is None or signed.is_stale(self._now()):
                        asked, signer = signer, self.signer
                        signed = self._sign(asked, operation)
                    with self._circuit(operation).turn(operation.path, cancel):
                        reply = self.transport.send(signed, body, exchange)
                        self._judge(operation, reply, signed, check, progress)
            except OSSPresignedError as error:
                failure = error
            else:
                if not attempts.retries and not attempts.resigns:
                    return reply
                return evolve(reply, retries=attempts.retries, resigns=attempts.resigns)
            gone = cancel is not None and cancel.is_set()
            decision = attempts.after(failure, last=once or gone)
            if decision.verb is Verb.SIGN_AGAIN:
                if ahead is not None and signed is not None:
                    ahead.distrust(signed)
                signed = None
            elif (cancel or threading.Event()).wait(decision.seconds):
                raise failure

    def ahead(
        self, coming: Callable[[], Operation | None], *, first: int, low: int = 0
    ) -> Ahead | None:
        """Return what signs *coming* in batches; None where that spares no call.

        See :class:`Ahead` for the arguments.
        """
        if not getattr(self.signer, "remote", False):
            return None
        from ..signers.batching import Ahead  # noqa: PLC0415 - only for many at once

        return Ahead(self.signer, coming, first=first, low=low, now=self._now)

    def can_sign(self, operation: Operation) -> bool:
        """Return whether the signer signs *operation*; asks it, without sending."""
        try:
            self._refuse_early(operation)
            self._sign(self.signer, operation)
        except NotSignedError:
            return False
        return True

    def _sign(self, signer: Signer, operation: Operation) -> SignedRequest:
        try:
            return sign_checked(signer, [operation])[0]
        except NotSignedError as error:
            if error.final:
                self._refused.add((operation.action, operation.bucket))
            raise

    def _refuse_early(self, operation: Operation) -> None:
        """Spare the call where the signer grants the action nowhere in the bucket."""
        if (operation.action, operation.bucket) in self._refused:
            msg = f"{operation.action} is not granted in {operation.bucket}"
            raise NotSignedError(
                msg, path=operation.path, action=operation.action, final=True
            )

    def _circuit(self, operation: Operation) -> Circuit:
        bucket = operation.bucket
        if bucket not in self._circuits:
            # Half of the longest wait is the mean one of a worker that tries alone.
            made = Circuit(
                self.options.max_concurrency,
                pause=self._policy.base / 2,
                longest=self._policy.cap / 2,
                clock=self._clock,
            )
            # Who comes second here gets the first one's: setdefault is atomic.
            self._circuits.setdefault(bucket, made)
        return self._circuits[bucket]

    def _judge(
        self,
        operation: Operation,
        reply: Reply,
        signed: SignedRequest,
        check: Callable[[Reply], None] | None,
        progress: Callable[[int], None] | None,
    ) -> None:
        ok = 200 <= reply.status < 300  # noqa: PLR2004 - HTTP status class
        if not (ok and signed.method == "GET"):  # a long body makes its Date old
            self.clock_offset = clock_offset(
                reply.headers, self._now, self.clock_offset
            )
        if not ok:
            from .failures import error_for  # noqa: PLC0415 - only for a failure

            raise error_for(
                operation, reply, signed, now=self._now, offset=self.clock_offset
            )
        if check is None:
            return
        try:
            check(reply)
        except OSSPresignedError:
            if progress is not None:
                progress(-reply.body_bytes)
            raise


class _Registry:
    """The clients of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: dict[object, Client] = {}


# Keyed by process: after a fork the child must not touch the parent's locks, threads
# and sockets, so it begins with a registry of its own.
_registries: dict[int, _Registry] = {}


def shared_client(options: Options, make: Callable[[Options], Client]) -> Client:
    """Return this process's client for *options*, made by *make* if it is the first."""
    registry = _registries.setdefault(os.getpid(), _Registry())
    key = options.identity()
    with registry.lock:
        client = registry.clients.get(key)
        if client is None:
            client = registry.clients[key] = make(options)
        return client


def reset() -> None:
    """Forget the shared clients, so that equal options make a new one.

    For tests, whose stores reuse ports. Instances that fsspec caches keep their client:
    call ``OSSPresignedFileSystem.clear_instance_cache()`` as well.
    """
    _registries.clear()
