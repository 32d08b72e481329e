"""When to try again: one frozen policy, decisions only, no sleeping."""

from __future__ import annotations

import enum

from attrs import frozen

from .errors import (
    DamagedBodyError,
    IntegrityError,
    NetworkError,
    OSSPresignedError,
    SignerUnavailableError,
    StoreUnavailableError,
    URLExpiredError,
)


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

# Failure -> how often it is worth another try; first match counts. What is missing
# here is final. Damage on the way is retried once: twice is no accident.
_WORTH: tuple[tuple[type[OSSPresignedError], int], ...] = (
    (StoreUnavailableError, 1_000),
    (NetworkError, 1_000),
    (SignerUnavailableError, 1_000),
    (DamagedBodyError, 1),
    (IntegrityError, 1),
)
_NOT_IMPLEMENTED = 501


# Statuses that may stand for a request that was carried out all the same: the answer
# of a gateway, or of a server that failed late. 503 and 429 refuse before they begin.
_LATE_FAILURES = (500, 502, 504)


def may_have_acted(failure: OSSPresignedError) -> bool:
    """Return whether the server may have done what it did not confirm."""
    if isinstance(failure, NetworkError):
        return failure.sent
    if isinstance(failure, StoreUnavailableError):
        return failure.status in _LATE_FAILURES
    return False


@frozen(kw_only=True)
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
        worth = next((n for kind, n in _WORTH if isinstance(failure, kind)), 0)
        if attempt > min(self.retries, worth) or failure.status == _NOT_IMPLEMENTED:
            return GIVE_UP
        wait = draw * min(self.cap, self.base * 2 ** (attempt - 1))
        asked = failure.retry_after or 0.0
        wait = max(wait, asked)
        if elapsed + wait > self.total:
            return GIVE_UP
        return Decision(Verb.WAIT, wait)
