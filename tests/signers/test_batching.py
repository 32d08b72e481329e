"""Prefetching and sharing calls: few calls, few URLs that wait, and nothing hangs."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import evolve

from fsspec_osspresigned.errors import (
    NotSignedError,
    SignerError,
    SignerUnavailableError,
)
from fsspec_osspresigned.model import Action, Operation, SignedRequest
from fsspec_osspresigned.signers import batching
from fsspec_osspresigned.signers.base import sign_each
from fsspec_osspresigned.signers.batching import Prefetcher, announced
from tests.interrupts import Interrupt, at_line

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


class Service:
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
        clock=lambda: service.time,
        now=lambda: service.time,
    )


def test_batches_grow_up_to_a_full_call():
    """First what goes out at once, then up to one hundred a call, each part once."""
    service = Service()
    ahead = ahead_of(service, *range(1, 301))
    for number in range(1, 301):
        assert len(ahead.sign([part(number)])) == 1
    assert [len(call) for call in service.calls] == [4, 32, 100, 100, 64]
    assert list(itertools.chain.from_iterable(service.calls)) == list(range(1, 301))


def test_batches_are_what_is_used_up_in_half_a_life():
    """A slow link holds few URLs, so that they do not end before they are sent."""
    service = Service(life=40)
    ahead = ahead_of(service, *range(1, 200))
    for number in range(1, 60):
        ahead.sign([part(number)])
        service.time += 4  # seconds a part: five in half of a life
    assert [len(call) for call in service.calls][:4] == [4, 5, 5, 5]


def test_stale_requests_are_signed_again_together():
    """What waited too long is asked for anew in one call, before what comes next."""
    service = Service(life=40)
    ahead = ahead_of(service, *range(1, 100), first=8)
    ahead.sign([part(1)])
    service.time += 35
    signed = ahead.sign([part(2)])[0]
    assert not signed.is_stale(service.time)
    assert service.calls[1][:1] == [2]
    for number in range(3, 9):
        ahead.sign([part(number)])
    asked = list(itertools.chain.from_iterable(service.calls[1:]))
    assert asked[:7] == [2, 3, 4, 5, 6, 7, 8]


def test_another_length_is_signed_alone():
    """The last part of a stream is shorter than was foreseen."""
    service = Service()
    ahead = ahead_of(service, 1, 2, 3)
    ahead.sign([part(1)])
    ahead.sign([part(2, size=5)])
    assert service.calls == [[1, 2, 3], [2]]


def test_what_nobody_announced_is_signed_alone():
    """An operation that was not foreseen is signed like any other."""
    service = Service()
    ahead = ahead_of(service)
    ahead.sign([part(9)])
    assert service.calls == [[9]]


def test_next_batch_is_asked_for_while_some_are_left():
    """With a low mark the call is made before others would have to wait for it."""
    service = Service()
    ahead = ahead_of(service, *range(1, 9), first=4, low=2)
    ahead.sign([part(1)])
    ahead.sign([part(2)])
    assert len(service.calls) == 1
    ahead.sign([part(3)])
    assert service.calls == [[1, 2, 3, 4], [5, 6, 7, 8]]
    for number in range(4, 9):
        ahead.sign([part(number)])
    assert len(service.calls) == 2


def test_what_is_signed_already_costs_no_wait():
    """A caller that must not wait takes what is there, and learns what to ask for."""
    service = Service()
    ahead = ahead_of(service, *range(1, 9), first=4, low=2)
    assert ahead.signed_already(part(1)) is None
    assert not service.calls
    assert ahead.wants_more()
    ahead.request_more()
    assert service.calls == [[1, 2, 3, 4]]
    assert not ahead.wants_more()
    for number in (1, 2, 3):
        assert isinstance(ahead.signed_already(part(number)), SignedRequest)
    assert ahead.signed_already(part(3)) is None
    assert ahead.wants_more()
    ahead.request_more()
    assert all(map(ahead.signed_already, map(part, (4, 8))))
    assert ahead.sign_each([part(5), part(6), part(7)])
    assert service.calls == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert not ahead.wants_more()  # no more is known to come


def test_batches_are_full_while_much_is_prefetched():
    """A low mark of a whole batch makes no batch smaller, if the URLs live long."""
    service = Service(life=3600)
    ahead = ahead_of(service, *range(1, 501), first=100, low=100)
    for number in range(1, 501):
        while ahead.wants_more():
            ahead.request_more()
        assert ahead.signed_already(part(number)) is not None
        service.time += 0.001
    assert [len(call) for call in service.calls] == [100] * 5


def test_many_at_once_share_calls():
    """Operations that were not foreseen are signed in one call, each with its outcome."""
    service = Service()
    ahead = ahead_of(service)
    found = ahead.sign_each([part(number) for number in range(1, 6)])
    assert [type(one) for one in found] == [SignedRequest] * 5
    assert service.calls == [[1, 2, 3, 4, 5]]


def test_failure_of_a_call_is_that_of_each_operation():
    """Each of them gets an error of its own, with its own path."""

    class Broken(Service):
        def sign(self, operations):
            raise SignerError("broken", path="of/none")

    ahead = ahead_of(Broken())
    found = ahead.sign_each([evolve(part(1), key=key) for key in "xyz"])
    assert len({id(one) for one in found}) == 3
    assert [type(one) for one in found] == [SignerError] * 3
    assert {one.path for one in found[1:]} == {"b/y", "b/z"}


def test_an_error_comes_up_at_its_own_request():
    """A refusal of one of a batch refuses that one only, and costs no other call."""

    class Choosy(Service):
        def sign_each(self, operations):
            found = list(self.sign(operations))
            found[1] = NotSignedError("no", path="b/k", action="UploadPart")
            return found

    service = Choosy()
    ahead = ahead_of(service, 1, 2, 3)
    ahead.sign([part(1)])
    with pytest.raises(NotSignedError, match="no"):
        ahead.sign([part(2)])
    ahead.sign([part(3)])
    assert service.calls == [[1, 2, 3]]


def test_dropped_demanded_header_is_found_in_a_batch_too():
    """What is signed ahead is checked like everything else."""
    wanted = Operation(
        action=Action.PutObject, bucket="b", key="k", headers={"x-oss-meta-a": "1"}
    )
    ahead = Prefetcher(Service(), iter([wanted, None]).__next__, first=2)
    with pytest.raises(NotSignedError, match="x-oss-meta-a"):
        ahead.sign([wanted])


def test_failed_call_leaves_each_to_sign_alone():
    """When a call fails, who asked gets the error; the others are signed alone."""

    class Failing(Service):
        def sign(self, operations):
            found = super().sign(operations)
            if len(operations) > 1:
                raise SignerUnavailableError("down", path="b/k")
            return found

    service = Failing()
    ahead = ahead_of(service, 1, 2, 3)
    with pytest.raises(SignerUnavailableError):
        ahead.sign([part(1)])
    ahead.sign([part(2)])
    ahead.sign([part(1)])
    assert service.calls == [[1, 2, 3], [2], [1]]


def test_threads_share_a_call():
    """Sixteen threads that begin together wait for one call of sixteen."""
    service = Service()
    ahead = ahead_of(service, *range(1, 17), first=16)
    gate = threading.Barrier(16)
    asked: list[int] = []

    slow = service.sign

    def sign(operations):
        asked.append(len(operations))
        threading.Event().wait(0.05)
        return slow(operations)

    service.sign = sign
    done: list[SignedRequest] = []

    def work(number):
        gate.wait()
        done.extend(ahead.sign([part(number)]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == [16]
    assert len(done) == 16


def test_low_mark_does_not_wait_for_a_call_under_way():
    """Who has its request goes on while another one asks for the next batch."""
    service = Service()
    ahead = ahead_of(service, *range(1, 30), first=4, low=4)
    entered, leave = threading.Event(), threading.Event()
    plain = service.sign

    def sign(operations):
        if operations[0].part_number == 5:
            entered.set()
            assert leave.wait(10)
        return plain(operations)

    service.sign = sign
    asker = threading.Thread(target=ahead.sign, args=([part(1)],))
    asker.start()
    # The first one takes part 1, sees the low mark and asks for more.
    second = threading.Thread(target=ahead.sign, args=([part(2)],))
    second.start()
    assert entered.wait(10)
    ahead.sign([part(3)])
    leave.set()
    asker.join(10)
    second.join(10)


def test_each_of_a_plain_signer_falls_back_to_single_calls():
    """A signer that only raises is asked for each alone, so one refusal stays one."""

    class Picky(Service):
        def sign(self, operations):
            found = super().sign(operations)
            if any(operation.part_number == 2 for operation in operations):
                raise NotSignedError("no", path="b/k", action="UploadPart")
            return found

    service = Picky()
    found = sign_each(service, [part(1), part(2), part(3)])
    assert [type(outcome) for outcome in found] == [
        SignedRequest,
        NotSignedError,
        SignedRequest,
    ]
    assert service.calls == [[1, 2, 3], [1], [2], [3]]


def test_each_of_a_broken_signer_is_an_error():
    """A signer that answers another number of requests is not asked again."""

    class Short:
        def sign(self, operations):
            return []

    with pytest.raises(SignerError, match="answered 0 requests to 2"):
        sign_each(Short(), [part(1), part(2)])


def test_a_proven_end_is_the_end_of_all_that_came_with_it():
    """When the store calls one URL over, the others of its age are signed anew."""
    service = Service()
    ahead = ahead_of(service, *range(1, 9), first=4)
    refused = ahead.sign([part(1)])[0]
    service.time += 1
    ahead.distrust(refused)
    for number in range(2, 9):
        assert ahead.sign([part(number)])[0].issued_at == service.time
    assert service.calls == [[1, 2, 3, 4], [2, 3, 4, 5, 6, 7, 8]]


def test_errors_that_wait_are_not_distrusted():
    """A refusal that was signed along stays one: it has no life."""

    class Refusing(Service):
        def sign_each(self, operations):
            found = list(self.sign(operations))
            found[1] = NotSignedError("no", path="b/k", action="UploadPart")
            return found

    service = Refusing()
    ahead = ahead_of(service, 1, 2)
    ahead.distrust(ahead.sign([part(1)])[0])
    with pytest.raises(NotSignedError):
        ahead.sign([part(2)])
    assert service.calls == [[1, 2]]


class Gate(Service):
    """A service whose first call waits until it is let through; odd thousands fail."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.opened = threading.Event()

    def sign_each(self, operations):
        found = list(self.sign(operations))
        self.entered.set()
        assert self.opened.wait(10)
        return [
            NotSignedError(str(o.part_number), path="b/k", action="UploadPart")
            if (o.part_number or 0) >= 1000
            else signed
            for o, signed in zip(operations, found, strict=True)
        ]


def waiting(shared: Prefetcher, count: int) -> None:
    """Return when *count* operations wait."""
    while shared.waiting < count:
        threading.Event().wait(0.001)


def shared_by(service: Gate) -> Prefetcher:
    """Return one that foresees nothing, and shares calls among threads."""
    return Prefetcher(service)


def test_requests_that_come_during_a_call_share_the_next_one():
    """One call is under way; the others go out with the next one."""
    gate = Gate()
    shared = shared_by(gate)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(shared.sign, [part(1)])
        assert gate.entered.wait(10)
        rest = [pool.submit(shared.sign, [part(n)]) for n in range(2, 9)]
        waiting(shared, 8)
        gate.opened.set()
        assert len(first.result(10)) == 1
        assert [len(f.result(10)) for f in rest] == [1] * 7
    assert [len(call) for call in gate.calls] == [1, 7]


def test_each_thread_gets_its_own_failure():
    """A refused operation does not hurt the others of its call."""
    gate = Gate()
    shared = shared_by(gate)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(shared.sign, [part(1)])
        assert gate.entered.wait(10)
        bad = pool.submit(shared.sign, [part(1000)])
        well = pool.submit(shared.sign, [part(3)])
        waiting(shared, 3)
        gate.opened.set()
        assert first.result(10)
        assert well.result(10)
        with pytest.raises(NotSignedError, match="1000"):
            bad.result(10)
    assert [len(call) for call in gate.calls] == [1, 2]


def test_two_threads_ask_for_one_part_of_two_lengths():
    """The same part in two lengths is signed twice, each for its own thread."""
    service = Service()
    ahead = ahead_of(service, 1, 2)
    assert len(ahead.sign([part(2, size=5), part(1), part(2)])) == 3
    assert service.calls == [[1, 2], [2], [2]]


def test_a_shared_call_that_fails_fails_for_all():
    """The exception reaches each thread of the call, and the next call works."""
    gate = Gate()
    shared = shared_by(gate)
    plain = gate.sign
    calls: list[int] = []

    def sign(operations):
        calls.append(len(operations))
        if len(calls) == 2:
            raise SignerUnavailableError("down", path="b/k")
        return plain(operations)

    gate.sign = sign
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.sign, [part(1)])
        assert gate.entered.wait(10)
        rest = [pool.submit(shared.sign, [part(n)]) for n in (2, 3)]
        waiting(shared, 3)
        gate.opened.set()
        assert first.result(10)
        for one in rest:
            with pytest.raises(SignerUnavailableError):
                one.result(10)
    assert shared.sign([part(4)])
    assert calls == [1, 2, 1]


def test_an_interrupt_ends_one_thread_only():
    """Ctrl-C in the thread that makes the call leaves the others to the next call."""
    gate = Gate()
    shared = shared_by(gate)
    plain = gate.sign
    calls: list[int] = []

    def sign(operations):
        calls.append(len(operations))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(operations)

    gate.sign = sign
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared.sign, [part(1)])
        assert gate.entered.wait(10)
        rest = [pool.submit(shared.sign, [part(n)]) for n in (2, 3, 4)]
        waiting(shared, 4)
        gate.opened.set()
        assert first.result(10)
        ends = [one.exception(10) for one in rest]
    assert [type(end) for end in ends if end] == [KeyboardInterrupt]
    assert calls == [1, 3, 2]


def interrupt():
    """Raise as a signal handler does."""
    raise Interrupt


def interrupted_at(line, pool):
    """Interrupt a request before *line*; return whether there is such a line."""
    others = []

    class Joined(Service):
        def sign(self, operations):
            if not others:
                others.append(pool.submit(shared.sign, [part(7)]))
                waiting(shared, 2)
            return super().sign(operations)

    shared = Prefetcher(Joined())
    try:
        with at_line(batching.__file__, line, interrupt):
            shared.sign([part(1)])
        cut = False
    except Interrupt:
        cut = True
    assert all(other.result(10) for other in others)
    assert pool.submit(shared.sign, [part(2)]).result(10)
    return cut


def test_interrupt_at_each_line():
    """An interrupted thread takes no request of another thread with it."""
    with ThreadPoolExecutor(2) as pool:
        lines = itertools.takewhile(
            lambda line: interrupted_at(line, pool), itertools.count()
        )
        assert len(list(lines)) > 10


def test_interrupted_waiter_leaves_the_queue():
    """A waiter that is interrupted during the call of another thread is not signed."""
    gate, raised = Gate(), threading.Event()
    shared = shared_by(gate)

    def handle(*_):
        if not raised.is_set():
            raised.set()
            raise KeyboardInterrupt

    def press():
        waiting(shared, 2)
        while not raised.wait(0.1):  # one may come just before the wait begins
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, handle)
    try:
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(shared.sign, [part(1)])
            assert gate.entered.wait(10)
            pressed = pool.submit(press)
            with pytest.raises(KeyboardInterrupt):
                shared.sign([part(2)])
            gate.opened.set()
            assert first.result(10)
            pressed.result(10)
    finally:
        signal.signal(signal.SIGINT, before)
    assert shared.sign([part(3)])
    assert gate.calls == [[1], [3]]


def test_a_forked_child_begins_anew(monkeypatch):
    """The calling thread of the parent does not exist in the child."""
    gate = Gate()
    shared = shared_by(gate)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(shared.sign, [part(1)])
        assert gate.entered.wait(10)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        gate.opened.set()
        assert shared.sign([part(2)])
        assert first.result(10)


def test_jobs_are_announced_up_to_two_hundred_ahead():
    """First requests are known before the jobs; a broken job announces nothing."""
    coming: deque[Operation] = deque()

    def opening(number):
        if number == 3:
            raise OSError("gone")
        return part(number)

    jobs = announced(iter(range(1, 1001)), opening, coming)
    assert next(jobs) == 1
    assert [o.part_number for o in coming] == [1, 2, *range(4, 201)]
    assert list(jobs) == list(range(2, 1001))
    assert len(coming) == 999
