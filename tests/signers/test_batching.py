"""Prefetching and sharing calls: few calls, few URLs that wait, and nothing hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from itertools import chain

import pytest
from attrs import evolve

from fsspec_osspresigned.engine.engine import CarriedError, blocking, current, run
from fsspec_osspresigned.errors import (
    NotCoveredError,
    SignerError,
    SignerUnavailableError,
)
from fsspec_osspresigned.model import Action, Operation, SignedRequest
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.batching import Prefetcher, announced

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Signature=x"


def part(number: int, size: int = 8) -> Operation:
    """Return one UploadPart."""
    return Operation(
        action=Action.UploadPart,
        bucket="b",
        key="k",
        upload_id="U",
        part_number=number,
        content_length=size,
    )


class Service(Signer):
    """Signs all, for *life* seconds of its own clock, and keeps what it was asked."""

    def __init__(self, life: float | None = None) -> None:
        self.calls: list[list[int | None]] = []
        self.life = life
        self.time = 1_000.0

    def sign(self, operations):
        self.calls.append([operation.part_number for operation in operations])
        ends = None if self.life is None else self.time + self.life
        return [
            SignedRequest(method="PUT", url=URL, issued_at=self.time, expires_at=ends)
            for _ in operations
        ]


def ahead_of(service, *numbers: int, first: int = 4, low: int = 0) -> Prefetcher:
    """Return one that knows that the parts *numbers* come, on the service's clock."""
    coming = iter(numbers)

    def following():
        number = next(coming, None)
        return None if number is None else part(number)

    return Prefetcher(
        service,
        following,
        first=first,
        low=low,
        now=lambda: service.time,
    )


class Gate(Service):
    """A service whose calls from a number on wait; parts from 1000 on are refused."""

    def __init__(self, waits_from: int = 1) -> None:
        super().__init__()
        self.entered, self.opened = threading.Event(), threading.Event()
        self.waits_from = waits_from

    def sign_each(self, operations):
        found = list(self.sign(operations))
        if len(self.calls) >= self.waits_from:
            self.entered.set()
            assert self.opened.wait(10)
        return [
            NotCoveredError(str(o.part_number), path="b/k", action="UploadPart")
            if (o.part_number or 0) >= 1000
            else signed
            for o, signed in zip(operations, found, strict=True)
        ]


def settle() -> None:
    """Wait until the engine does nothing, such as signing ahead."""
    end = time.monotonic() + 10
    while current().tasks:
        assert time.monotonic() < end
        time.sleep(0.001)


def sign(ahead: Prefetcher, operation: Operation) -> SignedRequest:
    """Sign, and wait until the requests that are signed ahead are complete, too."""
    try:
        return run(ahead.sign, operation)
    finally:
        settle()


def together(ahead: Prefetcher, *operations: Operation) -> list[object]:
    """Sign all at the same time; return the requests and the errors."""

    async def main():
        awaited = map(ahead.sign, operations)
        return await asyncio.gather(*awaited, return_exceptions=True)

    return run(main)


def test_stale_requests_are_signed_again_together():
    """Stale results are requested again in one call, before the next ones."""
    service = Service(life=40)
    ahead = ahead_of(service, *range(1, 100), first=8)
    sign(ahead, part(1))
    service.time += 35
    signed = sign(ahead, part(2))
    assert not signed.is_stale(service.time)
    assert service.calls[1][:1] == [2]
    for number in range(3, 9):
        sign(ahead, part(number))
    asked = list(chain.from_iterable(service.calls[1:]))
    assert asked[:7] == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (SignerError("broken", path="of/none"), SignerError),
        (ValueError("broken"), ValueError),
        (SystemExit(3), CarriedError),
        (asyncio.CancelledError(), CarriedError),
    ],
)
def test_failure_of_a_call_is_that_of_each_operation(failure, kind):
    """Each of them gets the error, with its own path, and none waits forever."""

    class Broken(Service):
        def sign(self, operations):
            raise failure

    found = together(ahead_of(Broken()), *(evolve(part(1), key=key) for key in "xyz"))
    assert [type(each) for each in found] == [kind] * 3
    if kind is SignerError:
        assert [each.path for each in found] == ["b/x", "b/y", "b/z"]


def test_an_error_comes_up_at_its_own_request():
    """A refusal of one of a batch refuses that one only, and costs no other call."""

    class Choosy(Service):
        def sign_each(self, operations):
            found = list(self.sign(operations))
            found[1] = NotCoveredError("no", path="b/k", action="UploadPart")
            return found

    service = Choosy()
    ahead = ahead_of(service, 1, 2, 3)
    sign(ahead, part(1))
    with pytest.raises(NotCoveredError, match="no"):
        sign(ahead, part(2))
    sign(ahead, part(3))
    assert service.calls == [[1, 2, 3]]


def test_a_refused_batch_is_signed_one_by_one():
    """A signer of the user that refuses a whole batch may sign the others of it."""

    class Strict(Service):
        def sign_each(self, operations):
            if part(2) in operations:
                super().sign(operations)
                raise NotCoveredError("no", path="b/k", action="UploadPart")
            return self.sign(operations)

    service = Strict()
    found = together(ahead_of(service, 1, 2, 3), *map(part, (1, 2, 3)))
    kinds = [SignedRequest, NotCoveredError, SignedRequest]
    assert [type(each) for each in found] == kinds
    assert service.calls == [[1, 2, 3], [1], [2], [3]]


def test_next_call_after_a_failed_one_is_small():
    """A failed call raises for its callers only; the next call is independent."""

    class Failing(Service):
        def sign(self, operations):
            found = super().sign(operations)
            if len(self.calls) == 1:
                raise SignerUnavailableError("down", path="b/k")
            return found

    service = Failing()
    ahead = ahead_of(service, *range(1, 4), *range(10, 1000), first=3)
    with pytest.raises(SignerUnavailableError):
        sign(ahead, part(1))
    sign(ahead, part(2))
    sign(ahead, part(3))
    assert service.calls[:2] == [[1, 2, 3], [2]]
    assert service.calls[2][:2] == [3, 10]


def test_a_shorter_last_part_is_signed_alone():
    """A stream knows the length of its last part late; no further parts are signed for it."""
    service = Service()
    ahead = ahead_of(service, *range(1, 99), first=4)
    sign(ahead, part(1))
    sign(ahead, part(2, size=3))
    assert service.calls == [[1, 2, 3, 4], [2]]


def test_a_proven_end_is_the_end_of_all_that_came_with_it():
    """If the store refuses one URL as expired, others of its age are signed again."""
    service = Service()
    ahead = ahead_of(service, *range(1, 9), first=4)
    refused = sign(ahead, part(1))
    service.time += 1
    ahead.invalidate(refused)
    for number in range(2, 9):
        assert sign(ahead, part(number)).issued_at == service.time
    assert service.calls == [[1, 2, 3, 4], [2, 3, 4, 5, 6, 7, 8]]


def test_who_is_cancelled_leaves_nothing_behind():
    """The others get their requests; nothing is signed or kept for who has gone."""
    gate = Gate()
    shared = Prefetcher(gate)

    async def main():
        tasks = [asyncio.ensure_future(shared.sign(part(n))) for n in (1, 2, 3)]
        await blocking(gate.entered.wait, 10)
        later = [asyncio.ensure_future(shared.sign(part(n))) for n in (4, 5)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        later[0].cancel()
        gate.opened.set()
        found = await asyncio.gather(*tasks, *later, return_exceptions=True)
        return [type(each) for each in found]

    gone = asyncio.CancelledError
    assert run(main) == [SignedRequest, gone, SignedRequest, gone, SignedRequest]
    assert gate.calls == [[1, 2, 3], [5]]
    sign(shared, part(2))
    assert gate.calls[2:] == [[2]]


def test_a_defect_of_the_caller_ends_the_wait():
    """An error of what comes next is raised where a request is awaited."""

    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sign(Prefetcher(Service(), broken), part(1))


def test_jobs_are_announced_up_to_two_hundred_ahead():
    """First requests are known before the jobs; a broken job announces nothing."""
    coming: deque[Operation] = deque()

    async def opening(number):
        if number == 3:
            raise OSError("gone")
        return part(number)

    async def main():
        jobs = announced(iter(range(1, 1001)), opening, coming)
        assert await anext(jobs) == [*range(1, 101)]
        assert [o.part_number for o in coming] == [1, 2, *range(4, 201)]
        return [number async for chunk in jobs for number in chunk]

    assert run(main) == list(range(101, 1001))
    assert len(coming) == 999
