"""State of one bucket in this process: circuit breaker, limits, and its network link."""

from __future__ import annotations

from collections.abc import Callable

from ..engine.circuit_breaker import CircuitBreaker
from ..engine.limits import RequestLimits
from ..http.body import SMALL, Body
from ..http.exchange import Exchange
from ..model import Operation
from ..options.options import Options
from .link_estimate import LATENCY_BOUND, LinkEstimate, RequestWindow
from .retry import RetryPolicy


class BucketState:
    """What the requests of one client to one bucket share.

    Attributes:
        breaker: the circuit breaker.
        window: limit of the small requests in flight.
        limits: all limits of the requests in flight.
        link: estimate of the network link.
        in_flight: number of small requests in flight.
    """

    def __init__(
        self, options: Options, policy: RetryPolicy, clock: Callable[[], float]
    ) -> None:
        # Half of the longest wait is the mean one of a worker that tries alone.
        self.breaker = CircuitBreaker(
            options.connections,
            pause=policy.base / 2,
            longest=policy.cap / 2,
            clock=clock,
        )
        self.window = RequestWindow(options.most_small, clock=clock)
        self.link = LinkEstimate()
        self.in_flight = 0
        self._large = options.most_connections
        self.limits = RequestLimits(
            small=self._most_small,
            large=self._large,
            total=options.max_concurrency or max(self._large, options.most_small),
        )

    def _most_small(self) -> int:
        """Return how many small requests may be in flight."""
        if not self.breaker.is_open:
            return self.window.size
        # They are not sent, but wait for the probe: if it fails, all fail with it.
        return max(self.window.size, self._large)

    def note(
        self,
        operation: Operation,
        body: Body,
        exchange: Exchange,
        seconds: float,
        in_flight: int,
    ) -> None:
        """Record a good reply that took *seconds* with *in_flight* small requests."""
        if body.size > SMALL or exchange.in_thread:
            if exchange.sink is None:
                self.link.note(operation.action, body.size, seconds)
            return
        least = self.window.note(seconds, in_flight)
        if in_flight == 1 and exchange.sink is None:
            self.link.note(operation.action, body.size, seconds)
        elif least is not None and body.size <= LATENCY_BOUND:
            self.link.note(operation.action, 0, least)
