"""When to try again: one frozen policy, decisions only, no sleeping.

Everything is in ``TABLE``: the class of a failure and its HTTP status say how often the
call is worth another try, and whether the server may have done it all the same. Text is
never looked at; which class an answer gets is decided by EC, code and status in
:mod:`~fsspec_osspresigned.reply_error`. A failure that is not in the table is final.

The call does not matter, for each of ours may be made twice:

==================================  ===================================================
call                                what a second one finds, if the first was done
==================================  ===================================================
HeadObject, GetObject, ListParts,   nothing has changed
ListObjectsV2
UploadPart, UploadPartCopy          its part, which it replaces by the same bytes
PutObject, CopyObject               its object, which it replaces by the same bytes
the same, forbid-overwrite          FileAlreadyExists, which is looked into
CompleteMultipartUpload             NoSuchUpload, which is looked into
InitiateMultipartUpload             an upload without parts, which stays: its ID was lost
AbortMultipartUpload, DeleteObject  nothing to do, which is fine
==================================  ===================================================

*Looked into*: where a call publishes and any of its tries may have been carried out, its
final error has the outcome *unknown* (:class:`Attempts`), and ``upload.steps``
finds out what became of the object.
"""

from __future__ import annotations

import enum
import logging
import random
import time
from collections.abc import Callable

from attrs import frozen

from ..errors import (
    DamagedBodyError,
    IntegrityError,
    NetworkError,
    OSSPresignedError,
    Outcome,
    SignerUnavailableError,
    StoreUnavailableError,
    URLExpiredError,
)
from ..model import Operation

_log = logging.getLogger(__name__)


class Verb(enum.Enum):
    """What to do after a failure."""

    WAIT = "wait"
    SIGN_AGAIN = "sign again"
    GIVE_UP = "give up"


@frozen
class Decision:
    """A verb, and for WAIT how many seconds."""

    verb: Verb
    seconds: float = 0.0


GIVE_UP = Decision(Verb.GIVE_UP)
SIGN_AGAIN = Decision(Verb.SIGN_AGAIN)

OFTEN = 1_000  # the policy's own limits come first
ONCE = 1  # damage on the way: twice is no accident
NEVER = 0

_LATE = frozenset({500, 502, 504})
_NOT_IMPLEMENTED = frozenset({501})


@frozen(eq=False)
class Rule:
    """What one kind of failure means.

    Attributes:
        kind: of the failure, and of those derived from it.
        again: how often it is worth another try.
        acted: whether the server may have carried the request out.
        statuses: that the rule is for; None for all, and for none at all.
    """

    kind: type[OSSPresignedError]
    again: int
    acted: bool
    statuses: frozenset[int] | None = None

    def covers(self, failure: OSSPresignedError) -> bool:
        """Return whether the rule is about *failure*."""
        fits = self.statuses is None or failure.status in self.statuses
        return fits and isinstance(failure, self.kind)


# The first rule that covers a failure counts. URLExpiredError stands apart: it is worth
# one new signature, and no try with the old one.
TABLE: tuple[Rule, ...] = (
    # Answers of a gateway, or of a server that failed late. 503 and 429 refuse before
    # they begin, and 501 will be 501 tomorrow.
    Rule(StoreUnavailableError, NEVER, acted=False, statuses=_NOT_IMPLEMENTED),
    Rule(StoreUnavailableError, OFTEN, acted=True, statuses=_LATE),
    Rule(StoreUnavailableError, OFTEN, acted=False),
    # Only a request that went out whole (``NetworkError.sent``) can have been acted upon.
    Rule(NetworkError, OFTEN, acted=True),
    Rule(SignerUnavailableError, OFTEN, acted=False),
    Rule(DamagedBodyError, ONCE, acted=False),
    Rule(IntegrityError, ONCE, acted=False),
    Rule(OSSPresignedError, NEVER, acted=False),
)


def _rule(failure: OSSPresignedError) -> Rule:
    return next(rule for rule in TABLE if rule.covers(failure))


def may_have_acted(failure: OSSPresignedError) -> bool:
    """Return whether the server may have done what it did not confirm."""
    if isinstance(failure, NetworkError) and not failure.sent:
        return False
    return _rule(failure).acted


@frozen(kw_only=True, eq=False)
class RetryPolicy:
    """How long to go on.

    Attributes:
        retries: tries after the first one; 0 turns retrying off.
        total: seconds from the first try after which no other one starts.
        base: seconds of the first wait at most; doubles with each try.
        cap: seconds of any wait at most; a longer Retry-After ends it instead.
    """

    retries: int = 5
    total: float = 300.0
    base: float = 0.25
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
        """Decide what to do after *failure*.

        Args:
            failure: what happened.
            attempt: tries made so far, 1 or more.
            elapsed: seconds since the first try began.
            draw: uniform in [0, 1): full jitter, so that many clients spread out.
            resigned: whether the request was signed again already.
        """
        if isinstance(failure, URLExpiredError):
            return GIVE_UP if resigned else SIGN_AGAIN
        if attempt > min(self.retries, _rule(failure).again):
            return GIVE_UP
        wait = draw * min(self.cap, self.base * 2 ** (attempt - 1))
        asked = failure.retry_after or 0.0
        wait = max(wait, asked)
        if elapsed + wait > self.total:
            return GIVE_UP
        return Decision(Verb.WAIT, wait)


@frozen
class Timing:
    """Clocks and random numbers of a client.

    Attributes:
        clock: monotonic seconds, for waiting.
        now: seconds since the epoch, for expiry.
        draw: uniform in [0, 1), for jitter.
    """

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random


REAL_TIME = Timing()


class Attempts:
    """Tries of one operation: counts them, and lets the policy decide what comes next.

    Attributes:
        resigns: how often the operation was to be signed again.
    """

    def __init__(
        self, operation: Operation, policy: RetryPolicy, timing: Timing
    ) -> None:
        self.resigns = 0
        self._operation = operation
        self._policy = policy
        self._timing = timing
        self._started = timing.clock()
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
        spent = self._timing.clock() - self._started
        decision = self._policy.decide(
            failure,
            attempt=self._count - self.resigns,
            elapsed=spent,
            draw=self._timing.draw(),
            resigned=self.resigns > 0,
        )
        failure.tries = self._count
        self._doubtful = self._doubtful or may_have_acted(failure)
        if self._doubtful and self._operation.action.publishes:
            failure.outcome = Outcome.UNKNOWN
        if decision.verb is Verb.GIVE_UP or last:
            if self._count > 1:
                failure.add_note(
                    f"{self._operation}: {self._count} tries in {spent:.1f} s"
                )
            raise failure
        _log.info("%s: %s; %s", self._operation, failure.message, decision.verb.value)
        self._count += 1
        self.resigns += decision.verb is Verb.SIGN_AGAIN
        return decision
