"""The express lane: many small objects by one thread, and all that may go wrong."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from attrs import evolve
from fsspec.callbacks import Callback

from fsspec_osspresigned import OSSPresignedFileSystem, sync, sync_down
from fsspec_osspresigned.client.express_lane import ExpressLane
from fsspec_osspresigned.client.link_estimate import RequestWindow
from fsspec_osspresigned.concurrency.job_runner import Transfers
from fsspec_osspresigned.concurrency.waiting import Event
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    NetworkError,
    OSSPresignedError,
    UploadErrors,
)
from fsspec_osspresigned.http.lane import Lane
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.units import KIB
from tests.client.conftest import ROOT, stored, values
from tests.form_signer import grant_of

pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def make(oss) -> Any:
    """Make filesystems that sign here, and wait little before they try again."""

    def one(**options: Any) -> OSSPresignedFileSystem:
        fs = OSSPresignedFileSystem(**{"signer": "keys", **options})
        fs.client.policy = evolve(fs.client.policy, base=0.01, cap=0.1)
        return fs

    return one


@pytest.fixture(params=["keys", "grant"])
def storing(make, oss, request) -> Any:
    """Make filesystems that send small objects in PUTs, or in forms."""
    if request.param == "keys":
        return make
    grant = grant_of(oss, ROOT, "")
    return lambda **options: make(signer=None, grant=grant, **options)


def test_small_objects_go_by_the_lane(storing, oss, tries, tmp_path):
    """Values, files and transactions do, over as many connections as the options say."""
    fs, given = storing(max_concurrency=4), values(60)
    receipts = fs.pipe(given)
    assert [one.path for one in receipts] == list(given)
    assert {one.verified for one in receipts} == {"crc64"}
    assert len(tries) == 60
    for number in range(20):
        (tmp_path / f"f{number}").write_bytes(b"%d" % number)
    fs.put(f"{tmp_path}/f*", f"{ROOT}/files/")
    assert len(tries) == 80
    with fs.transaction:
        for number in range(10):
            fs.pipe_file(f"{ROOT}/held/{number}", b"x")
    assert len(tries) >= 89  # the last one is sent alone
    sync(str(tmp_path), f"{ROOT}/synced", filesystem=fs, state=str(tmp_path / "s"))
    assert len(tries) >= 109
    assert given.items() <= stored(oss).items()
    assert len(stored(oss)) == 110


@pytest.fixture
def at_once(monkeypatch) -> list[int]:
    """How many tries were in the lane, after each that was sent."""
    under_way, most = 0, []
    send, wait = Lane.send, Lane.wait

    def sent(self, *some):
        nonlocal under_way
        for _ in some:
            under_way += 1
            most.append(under_way)
        send(self, *some)

    def waited(self, seconds):
        nonlocal under_way
        ended = wait(self, seconds)
        under_way -= len(ended)
        return ended

    monkeypatch.setattr(Lane, "send", sent)
    monkeypatch.setattr(Lane, "wait", waited)
    return most


def test_the_lane_is_as_wide_as_its_window(make, oss, at_once):
    """By default a bucket gets as many small requests as it was seen to bear."""
    fs = make()
    fs.client.windows[ROOT] = RequestWindow(40, first=40)
    assert len(fs.pipe(values(150))) == 150
    assert max(at_once) == 40
    assert len(fs.pipe(values(150), batch_size=20)) == 150
    assert max(at_once[150:]) == 20


def test_no_more_at_once_than_the_options_say(make, oss, at_once):
    """A window never grows beyond ``max_concurrency``."""
    fs = make(max_concurrency=3)
    assert len(fs.pipe(values(60))) == 60
    assert max(at_once) == 3


def test_a_refusal_halves_the_window(make, oss):
    """The refused object is tried again by a worker, and fewer are in flight."""
    fs = make()
    fs.client.windows[ROOT] = window = RequestWindow(40, first=40)
    oss.faults.add(Fault(status=503, code="QpsLimitExceeded", times=1, retry_after=0))
    assert len(fs.pipe(values(60))) == 60
    assert window.size < 40
    assert len(stored(oss)) == 60


def test_a_refusal_of_a_retry_halves_the_window_too(make, oss):
    """The first try breaks in the lane; a worker's retry meets the refusal."""
    fs = make()
    fs.client.windows[ROOT] = window = RequestWindow(40, first=40)
    oss.faults.add(
        Fault(key="030", cut_after=0, times=1),
        Fault(key="030", status=429, times=1, retry_after=0),
    )
    assert len(fs.pipe(values(60))) == 60
    assert window.size < 40
    assert len(stored(oss)) == 60


def test_replies_tell_the_round_trip(make, oss):
    """The estimate of the link learns from the lane, too."""
    fs = make()
    fs.pipe(values(60))
    link = fs.client.links[ROOT]
    link.note(Action.UploadPart, 2048 * KIB, 0.1)
    assert link.link.round_trip > 0


def test_no_more_at_once_than_the_call_says(make, oss, at_once):
    """``batch_size`` bounds the requests of one call, in the lane as everywhere."""
    make().pipe(values(50), batch_size=3)
    assert max(at_once) == 3


def test_large_objects_and_small_ones_in_one_call(make, oss, tries):
    """Each goes its way: parts and large bodies by workers, small bodies by the lane."""
    fs = make(max_concurrency=3, multipart_threshold=1024 * KIB, part_size=1024 * KIB)
    sizes = [10, 3000 * KIB, 256 * KIB, 256 * KIB + 1, 0, 2000 * KIB, 7]
    given = {f"{ROOT}/{n}": bytes([n]) * size for n, size in enumerate(sizes)}
    receipts = fs.pipe(given)
    assert [one.size for one in receipts] == sizes
    assert sorted(one.body.size for one in tries) == [0, 7, 10, 256 * KIB]
    assert {path: fs.cat(path) for path in given} == given


FAULTS = [
    Fault(status=500, times=3),
    Fault(status=503, times=3, retry_after=0),
    Fault(reset=True, times=3),
    Fault(reset=True, drop_reply=True, times=3),
    Fault(hang_up=True, times=3),
    Fault(cut_after=10, times=3),
    Fault(cut_reply_after=20, times=3),
    Fault(status=403, code="RequestTimeTooSkewed", times=1),
    Fault(refuse="expired", times=1),
    Fault(wrong_crc=True, times=1),
    Fault(error_body=True, status=400, code="MalformedXML", times=1),
    Fault(interim=(100, 102), times=9),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_failures_are_left_to_the_client(storing, oss, fault):
    """Each failed first try counts as one, and the others are not concerned."""
    oss.faults.add(fault)
    fs, given = storing(), values(40)
    found = fs.pipe(given, on_error="return")
    failed = [one for one in found if isinstance(one, Exception)]
    final = fault.wrong_crc or fault.status == 400
    assert len(failed) <= (1 if final else 0)
    kept = stored(oss)
    for path, one in zip(given, found, strict=True):
        if not isinstance(one, Exception):
            assert (one.path, kept[path]) == (path, given[path])


@pytest.mark.parametrize("first", [{}, {"wrong_crc": True}, {"error_body": True}])
def test_an_object_that_stalls_delays_no_other(storing, oss, first):
    """All others are stored while its first try stalls, or a retry of it."""
    fs, given = storing(max_concurrency=2, retries=1), values(40)
    if first:
        oss.faults.add(Fault(key="007", times=1, **first))
    oss.faults.add(Fault(key="007", stall_after=0, stall_for=None, times=None))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(fs.pipe, given, on_error="return")
        try:
            others = given.keys() - {f"{ROOT}/007"}
            while not (oss.held and others <= stored(oss).keys()):
                assert not call.done()
                Event().wait(0.01)
        finally:
            oss.stop()
        found = call.result()
    assert [n for n, one in enumerate(found) if isinstance(one, Exception)] == [7]


def test_refusals_are_told_by_path(storing, oss):
    """A refused object is named, and stops the others only if that was asked for."""
    oss.faults.add(Fault(key="007", status=403, code="AccessDenied", times=None))
    fs, given = storing(), values(40)
    found = fs.pipe(given, on_error="return")
    (failed,) = (one for one in found if isinstance(one, Exception))
    assert isinstance(failed, AccessDeniedError)
    assert (failed.path, failed.tries) == (f"{ROOT}/007", 1)
    assert len(stored(oss)) == 39
    oss.faults.add(Fault(status=403, code="AccessDenied", times=None))
    with pytest.raises(UploadErrors, match="16 equal refusals"):
        fs.pipe(values(200), on_error="omit")


@pytest.mark.parametrize("seed", range(5))
def test_any_weather_leaves_each_object_whole_or_one_error(storing, oss, seed):
    """Which requests are struck, and how, is seeded: a property."""
    dice = random.Random(seed)  # noqa: S311 - repeatable
    kinds: list[dict[str, Any]] = [
        {"status": 500},
        {"reset": True},
        {"reset": True, "drop_reply": True},
        {"hang_up": True},
        {"cut_reply_after": dice.randrange(200)},
        {"cut_after": dice.randrange(60)},
        {"status": 403, "code": "AccessDenied"},
        {"delay": 0.05},
    ]
    for number, kind in enumerate(dice.sample(kinds, 5)):
        oss.faults.add(Fault(rate=0.12, seed=seed * 10 + number, **kind))
    fs = storing(retries=3, max_concurrency=8)
    given = {path: dice.randbytes(1 + n * 37) for n, path in enumerate(values(90))}
    found = fs.pipe(given, on_error="return")
    kept = stored(oss)
    assert len(found) == len(given)
    for path, one in zip(given, found, strict=True):
        if isinstance(one, Exception):
            assert isinstance(one, OSSPresignedError)
            assert one.path == path
            assert kept.get(path, given[path]) == given[path]
        else:
            assert (one.path, one.size, kept[path]) == (
                path,
                len(given[path]),
                given[path],
            )


def test_store_that_is_gone_fails_each_object_once(make, oss):
    """The circuit opens, and what is left waits for its probes, not for a lane."""
    fs = make(retries=1)
    oss.stop()
    found = fs.pipe(values(40), on_error="return")
    assert [type(one) for one in found] == [NetworkError] * 40


def test_callback_may_use_the_filesystem(make, oss):
    """What it asks for takes no turn that the lane holds, whatever thread asks."""
    fs = make(max_concurrency=2)
    fs.pipe_file(f"{ROOT}/there", b"x")
    asked = []

    class Curious(Callback):
        def relative_update(self, inc=1):
            super().relative_update(inc)
            if len(asked) < 3:
                asked.append(
                    fs.cat([f"{ROOT}/there"]) if asked else fs.exists(f"{ROOT}/no")
                )

    os.makedirs("source")
    for number in range(12):
        with open(f"source/{number}", "wb") as file:
            file.write(b"abc")
    fs.put("source/", f"{ROOT}/t/", recursive=True, callback=Curious())
    assert len(asked) == 3
    assert len(stored(oss)) == 13


def test_calls_share_the_turns(make, oss):
    """A call with more objects than can ever end keeps no other one from its turn."""
    fs = make(max_concurrency=2)
    over = threading.Event()

    class Endless(dict):
        def items(self) -> Iterator[tuple[str, bytes]]:
            number = 0
            while not over.is_set():
                yield f"{ROOT}/{number % 50:03}", b"x"
                number += 1

    call = threading.Thread(target=fs.pipe, args=(Endless(),))
    call.start()
    try:
        assert len(fs.pipe(values(10))) == 10
        assert fs.pipe_file(f"{ROOT}/one", b"x").size == 1
    finally:
        over.set()
        call.join()


def test_slow_source_is_read_by_threads(make, oss, tries):
    """After 64 objects that took long to read, workers do the others."""
    fs = make(max_concurrency=4)
    call = fs.client

    def work(path, cancel):
        yield None
        return path

    lane = ExpressLane(call, slow=-1.0)
    run = Transfers(call.files, 4, work, str, driver=lane)
    assert run.outcomes(range(300)) == list(range(300))
    assert not tries


def test_no_more_large_objects_than_workers(make, oss):
    """The next large object is begun when a worker has ended one."""
    fs = make()
    fs.client.windows[ROOT] = RequestWindow(40, first=40)
    oss.faults.add(Fault(key="large*", delay=0.3))
    ended: list[int] = []

    class Mixed(dict):
        def items(self) -> Iterator[tuple[str, bytes]]:
            yield f"{ROOT}/small", b"x"
            for number in range(20):
                ended.append(len(oss.objects(ROOT).keys() - {"small"}))
                yield f"{ROOT}/large{number:02}", bytes(300 * KIB)

    assert len(fs.pipe(Mixed())) == 21
    assert ended[fs.client.options.connections] > 0


def test_mistakes_of_a_source_end_the_call(make, oss):
    """What its iterator raises is raised when the objects under way are stored."""

    class Broken(dict):
        def items(self):
            yield from values(20).items()
            raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        make().pipe(Broken())
    assert len(stored(oss)) == 20


def test_interrupt_of_a_source_ends_the_call(make, oss):
    """What is no Exception gives the rest up, and is raised as itself."""

    class Stopped(Callback):
        def relative_update(self, inc=1):
            raise SystemExit(3)

    os.makedirs("source")
    for number in range(30):
        with open(f"source/{number}", "wb") as file:
            file.write(b"abc")
    with pytest.raises(SystemExit):
        make().put("source/", f"{ROOT}/t/", recursive=True, callback=Stopped())


def test_no_descriptors_no_lane(make, oss, monkeypatch):
    """Where no lane can be had, workers do all."""

    def refuse(*_):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Lane, "__init__", refuse)
    assert len(make().pipe(values(20))) == 20
    assert len(stored(oss)) == 20


def test_receipts_for_a_function_go_by_workers(make, oss, tries):
    """A function of the caller that takes receipts is called by workers."""
    told = []
    assert len(make(receipts=told.append).pipe(values(20))) == 20
    assert len(told) == 20
    assert not tries


def by_paths(call: Any) -> dict[str, Any]:
    """Return path -> result or error of a call for many."""
    try:
        found: dict[str, Any] = call()
    except UploadErrors as error:
        return dict(error.failures)
    except OSSPresignedError as error:
        return {error.path or "": error}
    return found


def test_reads_and_deletions_go_by_the_lane(make, oss, tries):
    """Small bodies do; what is large, or tells no size, is read by workers."""
    fs, given = make(max_concurrency=3), values(60)
    large = {f"{ROOT}/large{n}": bytes([n]) * (256 * KIB + 1) for n in range(12)}
    fs.pipe({**given, **large})
    tries.clear()
    assert fs.cat(list(given)) == given
    assert {one.signed.method for one in tries} == {"GET"}
    assert len(tries) == 60
    found = fs.cat([*given, *large])
    assert found == {**given, **large}
    assert len(tries) < 60 + 60 + 12  # a large one tells of the next
    tries.clear()
    fs.rm([*given, *large])
    assert [one.signed.method for one in tries] == ["DELETE"] * 72
    assert not stored(oss)


def test_downloads_go_by_the_lane(make, oss, tries, tmp_path):
    """So do small ranges; large objects, and what is not there, are left to workers."""
    fs, given = make(max_concurrency=3), values(50)
    large = {f"{ROOT}/large{n}": bytes([n]) * (256 * KIB + 1) for n in range(6)}
    fs.pipe({**given, **large})
    tries.clear()
    fs.get(list(given), f"{tmp_path}/small/")
    assert len(tries) == 50
    fs.get([*given, *large], f"{tmp_path}/all/")
    for path, data in {**given, **large}.items():
        assert (tmp_path / "all" / path.rpartition("/")[2]).read_bytes() == data
    tries.clear()
    found = fs.cat_ranges(list(given) * 2, [0] * 50 + [1] * 50, [3] * 100, max_gap=None)
    assert found == [d[0:3] for d in given.values()] + [d[1:3] for d in given.values()]
    assert len(tries) == 100
    tries.clear()
    sync_down(f"{ROOT}", tmp_path / "down", filesystem=fs, filters=["- large*"])
    assert len(tries) == 50
    for path, data in given.items():
        assert (tmp_path / "down" / path.rpartition("/")[2]).read_bytes() == data
    with pytest.raises(FileNotFoundError):
        fs.get([f"{ROOT}/000", f"{ROOT}/none"], f"{tmp_path}/none/")


def test_files_that_are_slow_to_create_are_left_to_threads(
    make, oss, tries, tmp_path, monkeypatch
):
    """After 64 of them, workers download the others."""
    monkeypatch.setattr("fsspec_osspresigned.filesystem.read.SLOW_FILE", 0.0)
    fs, given = make(max_concurrency=3), values(150)
    fs.pipe(given)
    tries.clear()
    fs.get(list(given), f"{tmp_path}/")
    assert 64 <= len(tries) < 100
    assert {
        f"{ROOT}/{one.name}": one.read_bytes() for one in tmp_path.iterdir()
    } == given


@pytest.mark.parametrize("verb", ["get", "sync", "ranges"])
@pytest.mark.parametrize("seed", range(2))
def test_no_weather_damages_a_download(make, oss, tmp_path, verb, seed):
    """Each file and range is whole, or it has one error and no file."""
    dice = random.Random(seed)  # noqa: S311 - repeatable
    fs = make(retries=2, max_concurrency=8)
    given = {path: dice.randbytes(1 + n * 37) for n, path in enumerate(values(60))}
    fs.pipe(given)
    for number, fault in enumerate(READ_FAULTS):
        again = {"times": None, "rate": 0.06, "seed": seed * 10 + number}
        oss.faults.add(evolve(fault, action="GetObject", **again))
    if verb == "ranges":
        ends = [len(data) // 2 for data in given.values()]
        found = fs.cat_ranges(list(given), [0] * 60, ends, on_error="return")
        for data, end, one in zip(given.values(), ends, found, strict=True):
            assert isinstance(one, OSError) or one == data[:end]
        return
    failed: set[str] = set()
    if verb == "get":
        call = by_paths(lambda: fs.get(list(given), f"{tmp_path}/") or {})
        failed = {path.rpartition("/")[2] for path in call}
    else:
        how = {"filesystem": fs, "on_error": "return"}
        failed = set(sync_down(ROOT, tmp_path, **how).failed)
    kept = {one.name: one.read_bytes() for one in tmp_path.iterdir()}
    assert not failed & kept.keys()
    assert all(given[f"{ROOT}/{name}"] == data for name, data in kept.items())
    assert verb == "get" or len(failed) + len(kept) == 60


def test_checks_of_a_sync_go_by_the_lane(make, oss, tries, tmp_path):
    """So do its deletions; each difference is found all the same."""
    for number in range(30):
        (tmp_path / f"{number:02}").write_bytes(b"%02d" % number)
    fs = make()
    sync(tmp_path, f"{ROOT}/in", filesystem=fs)
    tries.clear()
    (tmp_path / "07").write_bytes(b"xx")
    (tmp_path / "08").unlink()
    how = {"filesystem": fs, "compare": "checksum", "delete": True}
    result = sync(tmp_path, f"{ROOT}/in", **how)
    assert [item.entry.name for item in result.plan.send] == ["07"]
    assert result.deleted == ["08"]
    methods = [one.signed.method for one in tries]
    assert methods.count("HEAD") == 29
    assert stored(oss)[f"{ROOT}/in/07"] == b"xx"


READ_FAULTS = [
    Fault(status=500, times=3),
    Fault(status=503, times=3, retry_after=0),
    Fault(reset=True, times=3),
    Fault(hang_up=True, times=3),
    Fault(cut_reply_after=20, times=3),
    Fault(cut_reply_after=400, times=3),
    Fault(refuse="expired", times=1),
    Fault(wrong_crc=True, times=1),
    Fault(interim=(100, 102), times=9),
]


@pytest.mark.parametrize("fault", READ_FAULTS, ids=str)
def test_no_cut_or_damaged_body_is_returned(make, oss, fault):
    """A first try that fails is made again by the client, with its count."""
    fs, given = make(), values(40)
    fs.pipe(given)
    oss.faults.add(evolve(fault, action="GetObject"))
    found = by_paths(lambda: fs.cat(list(given), on_error="return"))
    assert found == given
    oss.faults.clear()
    if not fault.wrong_crc:
        oss.faults.add(evolve(fault, action="DeleteObject"))
    fs.rm(list(given))
    assert not stored(oss)


@pytest.mark.parametrize("seed", range(4))
def test_any_weather_answers_each_request_once(make, oss, seed):
    """Each path has its own bytes or one error: a property, with seeded faults."""
    dice = random.Random(seed)  # noqa: S311 - repeatable
    fs = make(retries=2, max_concurrency=8)
    given = {path: dice.randbytes(1 + n * 37) for n, path in enumerate(values(90))}
    fs.pipe(given)
    kinds: list[dict[str, Any]] = [
        {"status": 500},
        {"reset": True},
        {"hang_up": True},
        {"cut_reply_after": dice.randrange(300)},
        {"status": 403, "code": "AccessDenied"},
        {"delay": 0.05},
    ]
    for action in ("GetObject", "DeleteObject"):
        for number, kind in enumerate(dice.sample(kinds, 4)):
            oss.faults.add(
                Fault(action=action, rate=0.12, seed=seed * 10 + number, **kind)
            )
    wanted = list(given)
    dice.shuffle(wanted)
    found = fs.cat(wanted, on_error="return")
    assert set(found) == set(given)
    for path, one in found.items():
        if isinstance(one, Exception):
            assert isinstance(one, OSError)
        else:
            assert one == given[path]
    failed = by_paths(lambda: fs.rm(wanted, on_error="return") or {})
    kept = stored(oss)
    assert all(kept[path] == given[path] for path in kept)
    assert not failed


@contextlib.contextmanager
def broken(ready: threading.Event | None = None) -> Iterator[None]:
    """Within the block, let lanes fail once their first requests are sent.

    They wait for *ready* first.
    """

    def fail(*_):
        assert ready is None or ready.wait(30)
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "wait", fail)
        yield


def test_a_lane_that_breaks_ends_its_call(make, oss):
    """The call raises the error; what was sent and what waited keep no turn."""
    fs, given = make(max_concurrency=3), values(9)
    turns = fs.client.turns
    held = [turns.take(wait=False) for _ in range(2)]  # so that some wait for a turn
    with broken(), pytest.raises(MemoryError):
        fs.pipe(given)
    for turn in held:
        turn.close()
    assert turns.in_flight == 0
    assert len(fs.pipe(given)) == 9
    assert stored(oss) == given


def test_workers_end_before_a_broken_lane(make, oss):
    """The call raises only when nothing of it runs any more."""
    fs, begun, closed = make(max_concurrency=4), threading.Event(), threading.Event()
    first, ended = [], []

    def work(path, _):
        yield None
        first.append(path)
        begun.set()
        assert closed.wait(30)
        Event().wait(0.2)
        ended.append(path)
        return path

    def close(self):
        closing(self)
        closed.set()

    closing = Lane.close
    run = Transfers(fs.client.files, 4, work, str, driver=ExpressLane(fs.client))
    with broken(begun), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "close", close)
        with pytest.raises(MemoryError):
            run.outcomes(range(50))
    assert ended
    assert sorted(first) == sorted(ended)


def test_large_bodies_are_read_by_workers(make, oss, tries):
    """Their size shows in the reply; each of them is asked for again, and whole."""
    large = {f"{ROOT}/{n}": bytes([n]) * (1024 * KIB) for n in range(6)}
    make().pipe(large)
    tries.clear()
    assert make(max_concurrency=2).cat(list(large)) == large
    assert tries


def test_an_answer_to_the_lane_ends_a_row_of_failures(make, oss, tries):
    """The circuit opens after failures in a row, and these were not in a row."""
    fs = make(max_concurrency=4)
    circuit = fs.client.circuit(ROOT)

    def fail(times):
        for _ in range(times):
            with pytest.raises(NetworkError), circuit.turn(f"{ROOT}/a"):
                raise NetworkError("no reply")

    fail(3)
    fs.pipe(values(5))
    fail(3)
    assert len(tries) == 5
    assert not circuit.is_open
    fail(1)
    assert circuit.is_open
