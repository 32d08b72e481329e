"""Retry policy: decides whether a failed call is sent again.

``RULES`` decides by the class of a failure and its HTTP status, never by text:
``error_codes.MEANINGS`` gives the class of a reply. A failure without a rule is final.

Every call may be repeated. Reading twice changes nothing. A second upload of a part or
an object replaces it with the same bytes. A second Abort or Delete does nothing. A
second Initiate leaves an empty upload behind, because the first ID was lost. Only a
second Complete (NoSuchUpload) or exclusive PUT (FileAlreadyExists) fails if the first
one succeeded. After a call that publishes or deletes, the outcome is therefore
*unknown* (:class:`Attempts`), and ``operations`` checks an object that may be
published.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

from attrs import evolve, frozen

from ..engine.logs import Logger
from ..errors import (
    BodyCorruptedError,
    IntegrityError,
    NetworkError,
    NetworkTimeoutError,
    OSSPresignedError,
    Outcome,
    OutcomeUnknownError,
    SignerUnavailableError,
    SourceChangedError,
    StoreUnavailableError,
    URLExpiredError,
)
from ..model import Operation, Reply
from ..secret import redact

_log = Logger(__name__)


class Verb(enum.Enum):
    WAIT = "wait"
    SIGN_AGAIN = "sign again"
    GIVE_UP = "give up"


@frozen
class Decision:
    verb: Verb
    seconds: float = 0.0  # seconds from WAIT to the start of the next try


GIVE_UP = Decision(Verb.GIVE_UP)
SIGN_AGAIN = Decision(Verb.SIGN_AGAIN)
OFTEN = 1_000  # practically unlimited: the policy's limits are reached first


@frozen
class RetryRule:
    """Rule for retries after one kind of failure."""

    kind: type[OSSPresignedError]
    retries: int  # maximum number
    acted: bool  # True: even if the server may have executed the request
    # the rule's statuses; empty means any status, or no reply
    statuses: tuple[int, ...] = ()

    def covers(self, failure: OSSPresignedError) -> bool:
        fits = not self.statuses or failure.status in self.statuses
        return fits and isinstance(failure, self.kind)


# The first rule that matches a failure applies. URLExpiredError has no rule: it gets
# one new signature, and no retry with the old one.
RULES: tuple[RetryRule, ...] = (
    RetryRule(StoreUnavailableError, 0, acted=False, statuses=(501,)),
    # Replies of a gateway, or of a server that failed late. Replies 503 and 429 come
    # before the server acts.
    RetryRule(StoreUnavailableError, OFTEN, acted=True, statuses=(500, 502, 504)),
    RetryRule(StoreUnavailableError, OFTEN, acted=False),
    RetryRule(NetworkError, OFTEN, acted=True),
    RetryRule(SignerUnavailableError, OFTEN, acted=False),
    # Damage in transit. If it occurs twice, it is no accident.
    RetryRule(BodyCorruptedError, 1, acted=False),
    RetryRule(IntegrityError, 1, acted=True),
    RetryRule(OSSPresignedError, 0, acted=False),
)


def _rule(failure: OSSPresignedError) -> RetryRule:
    return next(rule for rule in RULES if rule.covers(failure))


def may_have_acted(failure: OSSPresignedError) -> bool:
    """Return whether the server may have executed the request without confirming it."""
    if isinstance(failure, NetworkError) and not failure.sent:
        return False
    return _rule(failure).acted


@frozen(kw_only=True, eq=False)
class RetryPolicy:
    """Limits of the retries of a call: their number, their time and their delays."""

    retries: int = 5  # maximum number; 0 disables retries
    total: float = 300.0  # no retry starts later than these seconds after the first try
    # maximum of the first delay in seconds; it doubles with each try
    base: float = 0.25
    # maximum of any delay in seconds; a longer Retry-After ends the retries
    cap: float = 20.0

    def decide(
        self,
        failure: OSSPresignedError,
        *,
        attempt: int,
        elapsed: float,
        draw: float,
        resigned: bool = False,
    ) -> Decision:
        """Return the decision after *failure*, the error of try number *attempt*.

        *elapsed* seconds have passed since the first try began. *draw* is a uniform
        random number in [0, 1). The delay is proportional to it (full jitter), so that
        the retries of many clients spread out. *resigned* means that the request was
        signed again already.
        """
        if isinstance(failure, URLExpiredError):
            return GIVE_UP if resigned else SIGN_AGAIN
        wait = draw * min(self.cap, self.base * 2 ** (attempt - 1))
        wait = max(wait, failure.retry_after or 0.0)
        max_retries = min(self.retries, _rule(failure).retries)
        if attempt > max_retries or elapsed + wait > self.total:
            return GIVE_UP
        return Decision(Verb.WAIT, wait)


@frozen
class Timing:
    """Clocks and random numbers of a client."""

    clock: Callable[[], float] = time.monotonic  # monotonic clock, for waiting
    now: Callable[[], float] = time.time  # seconds since the epoch, for expiry
    # uniform random numbers in [0, 1), for jitter
    draw: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep


REAL_TIME = Timing()


def unrepeatable(
    operation: Operation, error: Exception, tries: int
) -> OutcomeUnknownError:
    """Return the error of a call that may have acted, and cannot be repeated or checked.

    *error* is the reason, such as a body that has changed or cannot be read.
    """
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, SourceChangedError):
        why = "its source has changed since"  # its own message says "not published"
    return OutcomeUnknownError(
        f"whether the object is stored is unknown: it was sent, and not confirmed, and "
        f"cannot be sent again: {redact(why)}",
        path=operation.path,
        action=operation.action,
        tries=tries,
    )


class Attempts:
    """Counts the tries of one operation, and asks the retry policy after a failure.

    *started* is the time of the first try, by ``timing.clock``.
    """

    def __init__(
        self, operation: Operation, policy: RetryPolicy, timing: Timing, started: float
    ) -> None:
        self._resigns = 0
        self._operation = operation
        self._policy = policy
        self._timing = timing
        self._started = started
        self._count = 1
        self._doubtful = self._is_late = False

    @property
    def _is_doubtful(self) -> bool:
        """True if a try may have published or deleted the object without confirming it."""
        return self._doubtful and self._operation.action.changes

    def raise_foreign(self, error: BaseException) -> NoReturn:
        """Raise *error*, which ends the call, and is no error of this package.

        If an earlier try may have acted, an interrupt gets a note, and any other error
        is replaced by OutcomeUnknownError.
        """
        if not self._is_doubtful:
            raise error
        if isinstance(error, Exception):
            raise unrepeatable(self._operation, error, self._count) from error
        error.add_note(
            f"whether {self._operation} took effect is unknown: an earlier try was sent, "
            "and not answered"
        )
        raise error

    def counted(self, reply: Reply) -> Reply:
        if self._count == 1:
            return reply
        retries = self._count - 1 - self._resigns
        return evolve(reply, retries=retries, resigns=self._resigns)

    def after(self, failure: OSSPresignedError, *, last: bool) -> Decision:
        """Return the decision after *failure*, and count the next try.

        Raises *failure* if there is no retry or this try is the *last*. It then has its
        ``tries``, and its ``outcome`` if a try may have stored an object.
        """
        spent = self._timing.clock() - self._started
        decision = self._policy.decide(
            failure,
            attempt=self._count - self._resigns,
            elapsed=spent,
            draw=self._timing.draw(),
            resigned=self._resigns > 0,
        )
        failure.tries = self._count
        self._doubtful = self._doubtful or may_have_acted(failure)
        if isinstance(failure, NetworkTimeoutError) and failure.sent:
            self._is_late = True
        failure.is_late = self._is_late
        if self._is_doubtful:
            if isinstance(failure, SourceChangedError):
                raise unrepeatable(self._operation, failure, self._count) from failure
            failure.outcome = Outcome.UNKNOWN
        if decision.verb is Verb.GIVE_UP or last:
            if self._count > 1:
                failure.add_note(
                    f"{self._operation}: {self._count} tries in {spent:.1f} s"
                )
            raise failure
        manner = "with a new signature"
        if decision.verb is Verb.WAIT:
            manner = f"in {decision.seconds:.1f} s"
        _log.info("%s: %s; retrying %s", self._operation, failure.message, manner)
        self._count += 1
        self._resigns += decision.verb is Verb.SIGN_AGAIN
        return decision
