"""Threads take resources in the order of docs/architecture.md, so no circle can wait.

A mixed load runs in this process. At each point where a thread may wait for a resource,
the test records what the thread holds, whether it really has to wait or not. So a circle
is seen in every run, although a deadlock would happen in few.
"""

from __future__ import annotations

import contextlib
import re
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.callbacks import Callback

from fsspec_osspresigned.concurrency.budget import Turns
from fsspec_osspresigned.concurrency.circuit import Circuit
from fsspec_osspresigned.concurrency.thread_pool import Workers, runs_jobs_here
from fsspec_osspresigned.concurrency.waiting import Future, LoopWaiter
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.filesystem.progress import SharedCallback
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.signers.batching import Prefetcher
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.upload.parts_in_flight import PartsInFlight
from tests.stress import mixed_load
from tests.stress.mixed_load import Plan

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
POOLS = {
    "osspresigned-tree": "trees",
    "osspresigned-lane": "lanes",
    "osspresigned-file": "files",
    "osspresigned-part": "requests",
    "osspresigned-send": "senders",
}
OPTIONS = {"part_size": MIN_PART, "multipart_threshold": MIN_PART}


def order() -> list[str]:
    """Return the resources in the order in which the page says they are taken."""
    block = re.search(
        r"^## Order of waits$.*?^```text$\n(.*?)^```$",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert block, "docs/architecture.md has no order of waits"
    return [line.split()[0] for line in block[1].splitlines()]


class Waits:
    """Record of the waits of all threads: (resource held, resource waited for)."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = {("memory", "requests")}  # parts free it
        self.pools: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._here = threading.local()

    @property
    def mine(self) -> list[Any]:
        """Names of resources, and tokens of turns, that the calling thread holds."""
        if not hasattr(self._here, "mine"):
            self._here.mine = []
        return self._here.mine

    def held(self) -> Iterator[str]:
        """Yield the names of what the calling thread holds."""
        pool = threading.current_thread().name.rpartition("-")[0]
        if pool in POOLS:
            yield POOLS[pool]
        for one in self.mine:
            if isinstance(one, str):
                yield one
            elif not one.closed:
                yield "turns"

    def note(self, wanted: str) -> None:
        """Record that the calling thread may have to wait for *wanted* now."""
        self.seen.update((held, wanted) for held in self.held())

    @contextlib.contextmanager
    def holds(self, name: str) -> Iterator[None]:
        """Record that the calling thread holds *name* in the block."""
        self.mine.append(name)
        try:
            yield
        finally:
            self.mine.remove(name)

    def keep(self, token: Any) -> Any:
        """Record that the calling thread has the turn *token*, if it is one."""
        self.mine[:] = [
            one for one in self.mine if isinstance(one, str) or not one.closed
        ]
        if token is not None:
            self.mine.append(token)
        return token


class NotedLock:
    """Lock of a callback of the user."""

    def __init__(self, waits: Waits) -> None:
        self._waits, self._lock = waits, threading.Lock()
        self._blocks = threading.local()

    def __enter__(self) -> None:
        self._waits.note("callback")
        self._lock.acquire()
        self._blocks.held = self._waits.holds("callback")
        self._blocks.held.__enter__()

    def __exit__(self, *_: object) -> None:
        self._blocks.held.__exit__(None, None, None)
        self._lock.release()


Replace = Callable[[type, str, Callable[[Any], Any]], None]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """The waits of all threads from now on."""
    waits = Waits()

    def replace(kind: type, name: str, make: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(kind, name, make(getattr(kind, name)))

    note_jobs(waits, replace)
    note_senders(waits, replace)
    note_parts_and_batches(waits, replace)
    note_turns(waits, replace)
    note_locks(waits, replace)
    return waits


def note_parts_and_batches(waits: Waits, replace: Replace) -> None:
    """Record the waits for parts, for their memory, and for batches of signatures."""

    def of_parts(function: Any) -> Any:
        def noted(parts: Any, *args: Any) -> Any:
            if not runs_jobs_here():
                waits.note("requests")
                waits.note("memory")
            return function(parts, *args)

        return noted

    def of_batches(function: Any) -> Any:
        def noted(*args: Any) -> Any:
            waits.note("batch")
            with waits.holds("batch"):
                return function(*args)

        return noted

    replace(PartsInFlight, "enter", of_parts)
    replace(PartsInFlight, "drain", of_parts)
    replace(Prefetcher, "sign_each", of_batches)
    replace(Prefetcher, "request_more", of_batches)


def note_jobs(waits: Waits, replace: Replace) -> None:
    """Record the waits for jobs of pools."""

    def queued(function: Any) -> Any:
        def noted(pool: Workers, *args: Any, **kwargs: Any) -> Any:
            here = threading.current_thread().name
            if here.startswith("osspresigned-lane"):
                waits.seen.add(("lanes", POOLS[pool.name]))  # its end waits for the job
            future = function(pool, *args, **kwargs)
            waits.pools[future] = POOLS[pool.name]
            return future

        return noted

    def of_future(function: Any) -> Any:
        def noted(future: Any, *args: Any) -> Any:
            if future in waits.pools:
                waits.note(waits.pools[future])
            return function(future, *args)

        return noted

    def of_loop(function: Any) -> Any:
        def noted(waiter: Any, work: Any) -> Any:
            if not work.done():  # else the calling thread has done it
                waits.note(waits.pools.get(work, "lanes"))
            return function(waiter, work)

        return noted

    replace(Workers, "queue", queued)
    replace(Future, "wait", of_future)
    replace(LoopWaiter, "wait_for", of_loop)


def note_senders(waits: Waits, replace: Replace) -> None:
    """Record the waits of the main thread for the thread that sends."""

    def queued(function: Any) -> Any:
        def noted(pool: Workers, *args: Any, **kwargs: Any) -> Any:
            if POOLS[pool.name] == "senders":
                waits.note("senders")
            return function(pool, *args, **kwargs)

        return noted

    replace(Workers, "queue", queued)


def note_turns(waits: Waits, replace: Replace) -> None:
    """Record the waits for turns and circuits."""

    def of_turns(function: Any) -> Any:
        def noted(turns: Any, *, wait: bool = True) -> Any:
            if wait:
                waits.note("turns")
            return waits.keep(function(turns, wait=wait))

        return noted

    def of_circuit(function: Any) -> Any:
        @contextlib.contextmanager
        def noted(circuit: Any, *args: Any, sent: bool = False) -> Iterator[None]:
            if sent:
                with function(circuit, *args, sent=True):
                    yield
                return
            waits.note("circuit")
            with waits.holds("circuit"), function(circuit, *args):
                yield

        return noted

    replace(Turns, "take", of_turns)
    replace(Turns, "take_free", lambda free: lambda *args: waits.keep(free(*args)))
    replace(Circuit, "turn", of_circuit)


def note_locks(waits: Waits, replace: Replace) -> None:
    """Record the waits for callbacks."""
    replace(
        SharedCallback,
        "__init__",
        lambda init: (
            lambda shared, callback, lock=None: init(
                shared, callback, lock or NotedLock(waits)
            )
        ),
    )


class RemoteKeys:
    """Signer that is asked by batches, as a service is."""

    remote = True

    def __init__(self) -> None:
        self._keys = KeySigner.from_options()

    def sign(self, operations: Any) -> Any:
        """Sign by the keys of the environment."""
        return self._keys.sign(operations)


class Reads(Callback):
    """Progress callback that calls the filesystem."""

    def __init__(self, fs: Any) -> None:
        super().__init__()
        self._fs = fs

    def relative_update(self, inc: int = 1) -> None:
        """Read one object and store two."""
        self._fs.cat_file("examplebucket/seed")
        self._fs.pipe({"examplebucket/a": b"a", "examplebucket/b": b"b"})


@pytest.mark.slow
@pytest.mark.parametrize("remote", [False, True], ids=["keys", "remote"])
def test_waits_have_an_order(oss, waits, remote, caplog, tmp_path):
    """No thread waits for a resource that comes before one that the thread holds."""
    caplog.set_level("WARNING")
    signer = RemoteKeys() if remote else "keys"
    fs = OSSPresignedFileSystem(
        signer=signer, max_concurrency=4, receipts=lambda _: None, **OPTIONS
    )
    fs.pipe_file("examplebucket/seed", b"x")
    run_all(fs, tmp_path)
    fs = OSSPresignedFileSystem(signer=signer, max_concurrency=4, **OPTIONS)
    oss.faults.add(Fault(status=503, rate=0.2, seed=1), Fault(hang_up=True, rate=0.3))
    run_all(fs, tmp_path)
    names = order()
    wrong = {
        pair for pair in waits.seen if names.index(pair[0]) >= names.index(pair[1])
    }
    assert not wrong
    assert {
        *(("lanes", "turns"), ("files", "turns"), ("requests", "turns")),
        *(("trees", "lanes"), ("lanes", "files"), ("files", "requests")),
        *(("turns", "circuit"), ("circuit", "callback"), ("turns", "senders")),
    } <= waits.seen
    assert ("turns", "batch") in waits.seen or not remote


def run_all(fs: Any, place: Path) -> None:
    """Run all verbs at the same time, then uploads with a callback that calls *fs*."""
    verbs = list(mixed_load.VERBS)
    mixed_load.run(Plan(verbs, [*mixed_load.GATHERED, "large"], size=9 * MIN_PART), fs)
    for number in range(6):
        (place / f"{number}").write_bytes(bytes(number * MIN_PART))
    sources = [str(place / f"{number}") for number in range(6)]
    fs.put(sources, [f"examplebucket/{n}" for n in range(6)], callback=Reads(fs))
