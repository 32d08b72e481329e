"""Limits of one token: requests per minute, and calls that have no reply yet."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable

from attrs import define, field
from starlette.exceptions import HTTPException

from ...signers.wire_protocol import MAX_REQUEST_BODY
from ...units import MIB
from .policy import Policy

_MINUTE = 60.0


@define
class _Usage:
    """Usage of one token: calls without a reply yet, and requests in a minute."""

    threads: asyncio.Semaphore
    # Monotonic time until which the token's earlier requests count.
    paid: float = -math.inf
    calls: int = 0
    body_bytes: int = 0


@define
class RateLimits:
    """Limits of each token, by the name of its policy; above a limit, the reply is 429.

    A single batch may exceed the limit per minute, but not two at the same time.
    """

    clock: Callable[[], float] = time.monotonic
    calls: int = 200  # maximum calls without a reply
    body_bytes: int = 64 * MIB  # maximum bytes of the bodies of these calls
    threads: int = 4  # number of threads that answer calls; other calls wait
    _usage: dict[str, _Usage] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def charge(self, policy: Policy, cost: int = 0) -> None:
        """Charge *cost* requests to *policy*; HTTPException 429 above its limit.

        A *cost* of 0 only checks the limit.
        """
        limit = policy.requests_per_minute
        if limit is None:
            return
        step, now = _MINUTE / limit, self.clock()
        with self._lock:
            usage = self._used_by(policy)
            usage.paid = max(usage.paid, now - _MINUTE)
            if (wait := usage.paid - (now - step)) > 0:
                raise _too_many(f"more than {limit} requests in a minute", wait)
            usage.paid += cost * step

    @contextlib.asynccontextmanager
    async def turn(
        self, policy: Policy, blocks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Receive the body in *blocks*, wait for a thread, and yield the body.

        The call counts for *policy* until the block ends. Each token has a queue of its
        own, so its calls wait only for each other.

        Raises:
            HTTPException: 413 or 429 if the calls without a reply are too large or too
                many.
        """
        with self._lock:
            usage = self._used_by(policy)
        if usage.calls >= self.calls:
            raise _too_many("too many calls at the same time", 1)
        usage.calls += 1
        body = bytearray()
        try:
            async for block in blocks:
                body += block
                usage.body_bytes += len(block)
                if len(body) > MAX_REQUEST_BODY:
                    raise HTTPException(
                        413, f"the body exceeds {MAX_REQUEST_BODY} bytes"
                    )
                if usage.body_bytes > self.body_bytes:
                    raise _too_many("too many large calls at the same time", 1)
            async with usage.threads:
                yield bytes(body)
        finally:
            usage.calls -= 1
            usage.body_bytes -= len(body)

    def keep(self, names: set[str]) -> None:
        """Remove the counters of all policies except *names*."""
        with self._lock:
            for name in self._usage.keys() - names:
                del self._usage[name]

    def _used_by(self, policy: Policy) -> _Usage:
        new = _Usage(asyncio.Semaphore(self.threads))
        return self._usage.setdefault(policy.name, new)


def _too_many(detail: str, wait: float) -> HTTPException:
    return HTTPException(429, detail, {"Retry-After": str(math.ceil(wait))})
