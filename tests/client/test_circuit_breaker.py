"""While everything fails, many workers send no more requests than one would."""

from __future__ import annotations

import asyncio

import pytest

from fsspec_osspresigned.client.congestion import CircuitBreaker
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import call_user, run
from fsspec_osspresigned.errors import (
    NetworkError,
    NetworkTimeoutError,
    StoreUnavailableError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

PATH = "b/k"


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def breaker_of(threshold: int, clock: Clock | None = None) -> CircuitBreaker:
    """Return a breaker whose pauses are over at once, or pass by *clock*."""
    pause = 0.0 if clock is None else 4.0
    return CircuitBreaker(threshold, pause=pause, longest=10.0, clock=clock or Clock())


async def request(breaker, error=None, *, path=PATH, until=None):
    """Send a request through *breaker*, which waits until an event; it may fail."""
    probes = await breaker.enter(path)
    try:
        if until is not None:
            await until.wait()
        if error is not None:
            raise error
    except BaseException as caught:
        breaker.leave(caught, probes=probes)
        raise
    breaker.leave(None, probes=probes)


def down(kind=StoreUnavailableError, **facts):
    """Return an error of a store that does not work."""
    return kind("down", path=PATH, **facts)


async def fail(breaker, kind=StoreUnavailableError, **facts):
    """Fail once."""
    with pytest.raises(kind):
        await request(breaker, down(kind, **facts))


async def settle():
    """Let all tasks go on as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


def in_engine(test):
    """Make a test of a coroutine function, which may not wait forever."""

    async def within_time():
        async with asyncio.timeout(20):
            await test()

    def call():
        run(within_time)

    call.__doc__ = test.__doc__
    return call


@in_engine
async def test_opens_after_failures_in_a_row_only():
    """A success between failures begins the count again."""
    breaker = breaker_of(3)
    for _ in range(2):
        await fail(breaker)
    await request(breaker)
    await fail(breaker)
    await fail(breaker, NetworkTimeoutError)
    assert not breaker.is_open
    await fail(breaker, NetworkTimeoutError)
    assert breaker.is_open


@pytest.mark.parametrize("succeeds", [True, False])
def test_others_wait_for_the_probe(succeeds):
    """If it succeeds they are sent; if it fails they fail alike, without sending."""

    async def main():
        breaker, go = breaker_of(1), asyncio.Event()
        await fail(breaker, retry_after=1.5)
        error = None if succeeds else down(retry_after=1.5)
        probe = asyncio.create_task(request(breaker, error, until=go))
        await settle()
        others = [
            asyncio.create_task(request(breaker, path=f"b/{n}")) for n in range(3)
        ]
        await settle()
        assert not any(other.done() for other in others)
        go.set()
        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(probe, *others, return_exceptions=True)
        if succeeds:
            assert outcomes == [None] * 4
            return
        assert outcomes[0] is error
        for number, each in enumerate(outcomes[1:]):
            assert isinstance(each, StoreUnavailableError)
            assert (each.path, each.retry_after) == (f"b/{number}", 1.5)
            assert "not sent" in each.message

    run(main)


@in_engine
async def test_errors_of_those_that_were_not_sent():
    """They say so, for their callers decide by it whether an object may be stored."""
    breaker, go = breaker_of(1), asyncio.Event()
    await fail(breaker, NetworkError)
    error = down(NetworkError)
    error.sent = True
    probe = asyncio.create_task(request(breaker, error, until=go))
    await settle()
    other = asyncio.create_task(request(breaker))
    await settle()
    go.set()
    outcomes = await asyncio.gather(probe, other, return_exceptions=True)
    assert [each.sent for each in outcomes] == [True, False]


@in_engine
async def test_next_request_waits_for_a_pause_that_grows():
    """During the pause all callers wait, and none of them fails for it."""
    clock = Clock()
    breaker = breaker_of(1, clock)
    await fail(breaker)
    await fail(breaker, NetworkError)  # the one that is let through
    for pause in (4.0, 8.0, 10.0, 10.0):
        clock.now += pause - 0.05
        waiter = asyncio.create_task(fail(breaker, NetworkError))
        await settle()
        assert not waiter.done()
        clock.now += 0.05
        await waiter  # it looks again when the rest of the pause is over
    clock.now += 10.0
    await request(breaker)
    await fail(breaker)
    await fail(breaker)
    clock.now += 4.0
    await request(breaker)
    assert not breaker.is_open


def test_user_code_does_not_wait():
    """The probe may be waiting for it. Its result counts."""
    breaker = breaker_of(1)

    async def inner():
        await fail(breaker)

    async def probe():
        assert await breaker.enter(PATH)
        async with asyncio.timeout(10):
            await call_user(run, inner)
        breaker.leave(None, probes=True)

    run(inner)
    run(probe)
    assert not breaker.is_open


def test_an_outage_is_asked_by_one(oss):
    """Sixteen workers with five retries each would send 96 requests; they do not."""
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=16)
    fs.client.policy = RetryPolicy(retries=5, base=0.02)
    oss.faults.add(
        Fault(action="PutObject", status=503, code="ServiceUnavailable", times=None)
    )
    with pytest.raises(OSError, match="transfers failed"):
        fs.pipe({f"examplebucket/{n}": b"x" for n in range(64)})
    sent = [record for record in oss.requests if record.action == "PutObject"]
    assert 16 <= len(sent) <= 40
    oss.faults.clear()
    fs.pipe({f"examplebucket/{n}": b"x" for n in range(64)})
    assert len(oss.objects("examplebucket")) == 64
