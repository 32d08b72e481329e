"""The tries of one operation: how many there were, and what comes after a failure."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .errors import OSSPresignedError
from .model import Operation
from .outcome import Outcome
from .retry import Decision, RetryPolicy, Verb, may_have_acted

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
