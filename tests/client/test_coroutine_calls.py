"""Single calls that are made at the same time: one lane, and each has its own end."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from typing import Any

import pytest
from attrs import evolve

from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.client.coroutine_calls import GatheredCalls
from fsspec_osspresigned.concurrency.waiting import CancelledError, Event
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import AccessDeniedError, UploadDiscardedError
from fsspec_osspresigned.http.lane import Lane
from fsspec_osspresigned.units import KIB
from tests.client.conftest import ROOT, stored, values


@pytest.fixture
def broken(monkeypatch) -> list[Lane]:
    """The lane that breaks: the first one that sends, when it waits for the replies."""
    lanes: list[Lane] = []
    send, wait = Lane.send, Lane.wait

    def noted(self, *some):
        if some and not lanes:
            lanes.append(self)
        send(self, *some)

    def fail(self, seconds):
        if self in lanes:
            raise MemoryError
        return wait(self, seconds)

    monkeypatch.setattr(Lane, "send", noted)
    monkeypatch.setattr(Lane, "wait", fail)
    return lanes


@pytest.fixture
def fs(oss) -> OSSPresignedFileSystem:
    """A filesystem that waits little before it tries again."""
    made = OSSPresignedFileSystem(signer="keys", asynchronous=True, max_concurrency=4)
    made.client.policy = evolve(made.client.policy, base=0.01, cap=0.1)
    return made


@pytest.fixture
def calls(fs) -> GatheredCalls:
    """Calls of that filesystem's client."""
    return GatheredCalls(fs.client, slow=math.inf)


def gathered(*made) -> list[Any]:
    """Await coroutines together; return results and exceptions."""

    async def main():
        return await asyncio.gather(*made, return_exceptions=True)

    return asyncio.run(main())


def test_gathered_values_and_files_go_by_the_lane(fs, oss, tries, tmp_path):
    """Each coroutine returns the receipt of its own object."""
    given = values(60)
    receipts = gathered(*(fs._pipe_file(*pair) for pair in given.items()))
    assert [one.path for one in receipts] == list(given)
    assert {one.verified for one in receipts} == {"crc64"}
    assert len(tries) == 60
    assert stored(oss) == given
    for number in range(20):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    files = (
        fs._put_file(str(tmp_path / f"{n}"), f"{ROOT}/files/{n}") for n in range(20)
    )
    assert [one.size for one in gathered(*files)] == [1] * 10 + [2] * 10
    assert len(tries) == 80


def test_gathered_reads_go_by_the_lane(fs, oss, tries):
    """Each coroutine gets its own bytes; a range and a missing object, too."""
    given = values(60)
    gathered(*(fs._pipe_file(*pair) for pair in given.items()))
    tries.clear()
    made = [fs._cat_file(path) for path in given]
    found = gathered(
        *made, fs._cat_file(f"{ROOT}/none"), fs._cat_file(f"{ROOT}/001", 2, 5)
    )
    assert found[:60] == list(given.values())
    assert isinstance(found[60], FileNotFoundError)
    assert found[61] == given[f"{ROOT}/001"][2:5]
    assert len(tries) == 62


def test_gathered_infos_go_by_the_lane(fs, oss, tries):
    """Objects by one HEAD each; directories and what is missing as ``info`` says."""
    given = values(60)
    gathered(*(fs._pipe_file(*pair) for pair in given.items()))
    tries.clear()
    made = (*given, ROOT, f"{ROOT}/none")
    *found, root, missing = gathered(*map(fs._info, made))
    assert [one["name"] for one in found] == list(given)
    assert {one["size"] for one in found} == {len(data) for data in given.values()}
    assert root["type"] == "directory"
    assert isinstance(missing, FileNotFoundError)
    assert len(tries) == 61
    assert gathered(fs._exists(f"{ROOT}/000"), fs._exists(f"{ROOT}/none")) == [
        True,
        False,
    ]


def test_a_cancelled_read_ends_at_once(fs, oss, tries):
    """The coroutine does not wait for the reply; the next read gets its own bytes."""
    gathered(fs._pipe_file(f"{ROOT}/a", b"a"), fs._pipe_file(f"{ROOT}/b", b"b"))
    tries.clear()
    oss.faults.add(Fault(key="a", action="GetObject", delay=2.0, times=1))

    def sent():
        while not tries:
            Event().wait(0.01)

    async def main():
        task = asyncio.create_task(fs._cat_file(f"{ROOT}/a"))
        await asyncio.to_thread(sent)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        is_answered = tries[0].reply is not None
        return is_answered, await fs._cat_file(f"{ROOT}/b")

    assert asyncio.run(main()) == (False, b"b")


def test_large_gathered_reads_go_by_workers(fs, oss, tries):
    """After one large object, no other is asked for in vain; a small one turns back."""
    large = bytes(256 * KIB + 1)
    given = {
        **dict.fromkeys((f"{ROOT}/{n}" for n in range(4)), large),
        f"{ROOT}/s": b"s",
    }
    fs.pipe(given)
    tries.clear()
    for path in [*given, f"{ROOT}/s"]:
        assert gathered(fs._cat_file(path)) == [given[path]]
    assert [one.exchange.path for one in tries] == [f"{ROOT}/0", f"{ROOT}/s"]
    assert gathered(fs._cat_file(f"{ROOT}/0", 0, len(large))) == [large]
    assert len(tries) == 2


def test_large_values_and_transactions_go_by_workers(fs, oss, tries):
    """The lane takes neither what is large nor what is published later."""
    large = bytes(256 * KIB + 1)
    (receipt,) = gathered(fs._pipe_file(f"{ROOT}/large", large))
    assert receipt.size == len(large)

    async def main():
        with fs.transaction:
            await asyncio.gather(*(fs._pipe_file(*pair) for pair in given.items()))
            assert f"{ROOT}/000" not in stored(oss)

    given = values(5)
    assert not tries
    asyncio.run(main())
    assert stored(oss) == given | {f"{ROOT}/large": large}


def test_failures_are_those_of_their_own_calls(fs, oss):
    """A refusal, a missing file and a lost reply concern no other coroutine."""
    oss.faults.add(Fault(key="003", status=403, code="AccessDenied", times=None))
    oss.faults.add(Fault(key="005", reset=True, drop_reply=True, times=1))
    given = values(20)
    made = [fs._pipe_file(*pair) for pair in given.items()]
    found = gathered(*made, fs._put_file("missing", f"{ROOT}/missing"))
    assert isinstance(found[3], AccessDeniedError)
    assert isinstance(found[-1], FileNotFoundError)
    assert sum(isinstance(one, Exception) for one in found) == 2
    assert stored(oss) == {p: d for p, d in given.items() if not p.endswith("/003")}


def test_an_object_is_not_replaced_in_create_mode(fs, oss):
    """Of two coroutines for one object, one gets the error."""
    made = (fs._pipe_file(f"{ROOT}/a", b"x", mode="create") for _ in range(2))
    found = gathered(*made)
    assert sum(isinstance(one, FileExistsError) for one in found) == 1


def test_cancelled_coroutines_publish_nothing_more(fs, oss):
    """What has not begun is never sent; the others are stored."""
    oss.faults.add(Fault(delay=0.05, times=None))
    given = values(40)

    async def main():
        tasks = [asyncio.create_task(fs._pipe_file(*pair)) for pair in given.items()]
        await tasks[0]
        for task in tasks[20:]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        kept = stored(oss)
        return done, kept

    done, kept = asyncio.run(main())
    gone = [one for one in done if isinstance(one, asyncio.CancelledError)]
    assert len(gone) == 20
    assert kept.items() >= {p: given[p] for p in list(given)[:20]}.items()
    assert stored(oss) == kept
    assert len(kept) < 40


def test_calls_after_a_rest_get_a_new_thread(fs, oss):
    """The thread ends when nothing comes, and what comes then is done all the same."""
    for number in range(3):
        Event().wait(0.6 * number)
        assert gathered(fs._pipe_file(f"{ROOT}/{number}", b"x"))[0].size == 1
    assert len(stored(oss)) == 3


def test_calls_of_several_loops_share_a_lane(fs, oss):
    """Each thread has its own event loop."""
    found: list[Any] = []

    def run(number):
        made = (fs._pipe_file(f"{ROOT}/{number}-{n}", b"x") for n in range(20))
        found.extend(gathered(*made))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stored(oss)) == len({one.path for one in found}) == 60


def test_no_descriptors_no_lane(fs, oss, monkeypatch):
    """Where no lane can be had, workers do all."""

    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Lane, "__init__", refuse)
    given = values(20)
    found = gathered(*(fs._pipe_file(*pair) for pair in given.items()))
    assert [one.path for one in found] == list(given)


def test_slow_calls_are_left_to_workers(fs, oss):
    """After 64 calls that kept the lane waiting, workers do what waits."""
    calls = GatheredCalls(fs.client, slow=-1.0)

    def steps(number):
        yield None
        return number

    made = [calls.start(lambda n=n: steps(n)) for n in range(200)]
    assert [one.result(30) for one in made] == list(range(200))


def test_steps_run_in_the_context_of_their_caller(calls):
    """So what a callback of the caller reads there is what the caller set."""
    variable = contextvars.ContextVar("variable", default=0)

    def steps():
        before = variable.get()
        yield None
        return before, variable.get()

    variable.set(7)
    made = calls.start(steps)
    variable.set(8)
    assert made.result(30) == (7, 7)


def test_an_exit_ends_its_own_call_only(calls):
    """What is no Exception is raised as itself; the calls after it are done."""

    def leave():
        raise SystemExit(3)
        yield

    def stay():
        yield None
        return 1

    left, kept = calls.start(leave), [calls.start(stay) for _ in range(9)]
    assert isinstance(left.exception(30), SystemExit)
    assert [one.result(30) for one in kept] == [1] * 9


def test_cancelled_calls_do_not_begin(calls):
    """A call that waits for its turn to begin can be taken back."""
    begun, go = Event(), Event()

    def first():
        begun.set()
        go.wait(30)
        return 1
        yield

    def second():
        raise AssertionError("it was cancelled")
        yield

    one = calls.start(first)
    begun.wait(30)
    two = calls.start(second)
    assert two.cancel()
    go.set()
    assert one.result(30) == 1
    with pytest.raises(CancelledError):
        two.result(30)


def test_calls_that_come_together_wake_the_lane_once(calls, monkeypatch):
    """The first one that waits wakes it, and the lane takes the others with it."""
    begun, go, woken = Event(), Event(), []
    wake, me = Lane.wake, threading.get_ident()

    def noted(lane):
        woken.append(threading.get_ident())
        wake(lane)

    def first():
        begun.set()
        go.wait(30)
        return 0
        yield

    def other():
        return 1
        yield

    monkeypatch.setattr(Lane, "wake", noted)
    made = [calls.start(first)]
    begun.wait(30)
    made += [calls.start(other) for _ in range(50)]
    assert woken.count(me) == 1
    go.set()
    assert [one.result(30) for one in made] == [0] + [1] * 50


def test_calls_of_a_lane_that_broke_fail(fs, oss, broken):
    """Each call ends: those under way with an error, the others as usual."""
    given = values(40)
    found = gathered(*(fs._pipe_file(*pair) for pair in given.items()))
    assert len(broken) == 1
    failed = {
        p for p, one in zip(given, found, strict=True) if isinstance(one, OSError)
    }
    assert failed
    for path, one in zip(given, found, strict=True):
        if path in failed:
            assert isinstance(one, UploadDiscardedError)
        else:
            assert (one.path, stored(oss)[path]) == (path, given[path])
    assert len(gathered(*(fs._pipe_file(*pair) for pair in given.items()))) == 40
    assert stored(oss) == given


def test_files_of_a_transaction_go_by_workers(fs, oss, tries, tmp_path):
    """They are published at its end, and not by the lane of the calls."""
    (tmp_path / "a").write_bytes(b"a")

    async def main():
        with fs.transaction:
            made = (fs._put_file(str(tmp_path / "a"), f"{ROOT}/{n}") for n in range(3))
            assert await asyncio.gather(*made) == [None] * 3
            assert not stored(oss)
            assert not tries

    asyncio.run(main())
    assert stored(oss) == {f"{ROOT}/{n}": b"a" for n in range(3)}


def test_calls_with_a_callback_for_receipts_go_by_workers(oss, tries):
    """The callback may wait, and the lane must not."""
    told = []
    fs = OSSPresignedFileSystem(signer="keys", asynchronous=True, receipts=told.append)
    given = values(5)
    gathered(*(fs._pipe_file(*pair) for pair in given.items()))
    assert sorted(one.path for one in told) == list(given)
    assert stored(oss) == given
    assert not tries
