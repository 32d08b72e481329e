"""Limits of one token: requests per minute, and calls that have no reply yet."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncIterator, Callable

from attrs import Factory, define, field
from starlette.exceptions import HTTPException

from ...signers.wire_protocol import MAX_REQUEST_BODY
from ...units import MIB
from .policy import Policy

_MINUTE = 60.0


@define
class _Usage:  # by calls of one token that have no reply yet
    threads: asyncio.Semaphore
    calls: int = 0
    body_bytes: int = 0


@define
class TokenBucket:
    """Token bucket of one minute, full at first; the caller must hold a lock.

    Each minute adds *tokens*, evenly; *clock* returns monotonic seconds.
    """

    tokens: float
    clock: Callable[[], float] = time.monotonic
    _paid: float = field(
        init=False,
        default=Factory(lambda self: self.clock() - _MINUTE, takes_self=True),
    )

    def wait(self) -> float:
        return max(0.0, self._after(1) - self.clock())

    def spend(self, count: float) -> None:
        """Take *count* tokens, even below zero."""
        self._paid = self._after(count)

    def _after(self, count: float) -> float:
        paid = max(self._paid, self.clock() - _MINUTE)
        return paid + count * _MINUTE / self.tokens


@define
class RateLimits:
    """Limits of each token, by the name of its policy; above one, the reply is 429.

    One batch may exceed the limit of a minute, but not two at the same time.
    """

    clock: Callable[[], float] = time.monotonic
    calls: int = 200  # without a reply
    body_bytes: int = 64 * MIB  # of the bodies of these calls
    threads: int = 4  # number of threads that answer calls; other calls wait
    _buckets: dict[str, TokenBucket] = field(factory=dict, init=False)
    _usage: dict[str, _Usage] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def charge(self, policy: Policy, cost: int = 0) -> None:
        """Charge *cost* requests to *policy*; HTTPException 429 above its limit.

        A *cost* of 0 only checks the limit.
        """
        limit = policy.requests_per_minute
        if limit is None:
            return
        with self._lock:
            new = TokenBucket(limit, self.clock)
            bucket = self._buckets.setdefault(policy.name, new)
            bucket.tokens = limit
            if wait := bucket.wait():
                raise _too_many(f"more than {limit} requests in a minute", wait)
            bucket.spend(cost)

    @contextlib.asynccontextmanager
    async def turn(
        self, policy: Policy, blocks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytes]:
        """Receive the body in *blocks*, wait for a thread, and yield the body.

        The call counts for *policy* until the block ends. Each token has a queue of its
        own, so its calls wait only for each other.

        Raises:
            HTTPException: 413 or 429, by size and number of the calls without a reply.
        """
        new = _Usage(asyncio.Semaphore(self.threads))
        usage = self._usage.setdefault(policy.name, new)
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
            for counters in (self._buckets, self._usage):
                for name in counters.keys() - names:
                    del counters[name]


def _too_many(detail: str, wait: float) -> HTTPException:
    return HTTPException(429, detail, {"Retry-After": str(math.ceil(wait))})
