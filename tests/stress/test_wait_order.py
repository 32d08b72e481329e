"""Calls take resources in the order of docs/architecture.md, so no circle can wait.

A mixed load runs in this process. At each point where a call may wait for a resource,
the test records what the call holds, whether it really has to wait or not. So a circle
is seen in every run, although a deadlock would happen in few. The source is searched for
points that are not known here.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback

import fsspec_osspresigned
from fsspec_osspresigned import sync
from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.congestion import CircuitBreaker
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import is_user_code
from fsspec_osspresigned.engine.limits import RequestLimiter
from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.filesystem.callbacks import SharedCallback
from fsspec_osspresigned.http.body import PartBody
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.batching import Prefetcher
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.upload.modes import Multipart
from tests.stress import mixed_load
from tests.stress.mixed_load import Plan

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
PACKAGE = Path(fsspec_osspresigned.__file__).parent
ROOT = "examplebucket"
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


# -- by the source -----------------------------------------------------------------------

# Module -> what a coroutine or a caller waits by, and how often it is written there.
# What waits only for the end of its own tasks and calls is no resource of others.
WAITS = {
    "client/client.py": {"enter": 2},  # requests, circuit
    "client/congestion.py": {"create_future": 1, "wait": 1},  # circuit
    "engine/background.py": {"SimpleQueue": 1},
    "engine/engine.py": {"Event": 1, "wait": 2, "wait_for": 2, "SimpleQueue": 2},
    "engine/limits.py": {"create_future": 1},  # requests
    "engine/scope.py": {"Lock": 1, "create_future": 1, "wait": 1},  # jobs
    "engine/threads.py": {"create_future": 1, "SimpleQueue": 1},
    "filesystem/put.py": {"Semaphore": 1},  # large
    "filesystem/read.py": {"Semaphore": 2},  # large
    "http/transport.py": {"create_future": 1, "wait": 1},
    "objects/download.py": {"Event": 1},
    "signers/batching.py": {"create_future": 1},  # batch
    "tools/sync/send.py": {"Semaphore": 2},  # large
    "upload/modes.py": {"wait": 3},  # memory
    "upload/upload.py": {"shield": 1, "wait": 4},
}
_WAITERS = {"Semaphore", "Lock", "Event", "Condition", "Queue", "Barrier", "wait"}
_WAITERS |= {"shield", "as_completed", "gather", "wait_for"}
_LAYERS = {"callers", "client", "engine", "filesystem", "http", "objects"}
_LAYERS |= {"signers", "tools/sync", "upload"}


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield name and tree of the modules that run on the loop."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if {
            name.partition("/")[0].removesuffix(".py"),
            name.rpartition("/")[0],
        } & _LAYERS:
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def called(node: ast.AST) -> str:
    """Return the name that a call has in ``WAITS``; "" if it does not wait."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return ""
    of, name = ast.unparse(node.func.value), node.func.attr
    is_waiter = of == "asyncio" and name in _WAITERS
    is_entry = name == "enter" and of in ("breaker", "limiter")
    is_other = name in ("create_future", "SimpleQueue")
    return name if is_waiter or is_entry or is_other else ""


def test_every_wait_is_known():
    """A new point where a coroutine may wait gets a place in the order."""
    found = {
        name: counts
        for name, tree in sources()
        if (counts := Counter(filter(None, map(called, ast.walk(tree)))))
    }
    assert found == WAITS


def test_no_lock_is_held_while_the_engine_works():
    """A thread that waits for the loop has no lock that another thread waits for.

    The lock of a file that is written is of the program: its threads take turns.
    """
    found = {
        name
        for name, tree in sources()
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any("lock" in ast.unparse(item).lower() for item in block.items)
        for node in ast.walk(block)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("run", "awaited")
    }
    assert found == {"upload/writer.py"}


# -- by runs -----------------------------------------------------------------------------

_held: ContextVar[tuple[str, ...]] = ContextVar("held", default=())


class Waits:
    """Record of the waits of all calls: (resource held, resource waited for)."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        self.of_user: set[str] = set()

    def note(self, wanted: str) -> None:
        """Record that the call may have to wait for *wanted* now."""
        self.seen.update((held, wanted) for held in _held.get())

    def take(self, name: str) -> None:
        """Record that the call holds *name* from now on."""
        _held.set((*_held.get(), name))

    def give(self, name: str) -> None:
        """Record that the call holds *name* no more."""
        held = list(_held.get())
        held.remove(name)
        _held.set(tuple(held))

    @contextlib.contextmanager
    def holds(self, name: str) -> Iterator[None]:
        """Record that the call holds *name* in the block."""
        self.take(name)
        try:
            yield
        finally:
            self.give(name)


class NotedLock:
    """Lock of a callback of the user."""

    def __init__(self, waits: Waits) -> None:
        self._waits, self._lock = waits, threading.Lock()

    def __enter__(self) -> None:
        self._waits.note("callback")
        self._lock.acquire()
        self._waits.take("callback")

    def __exit__(self, *_: object) -> None:
        self._waits.give("callback")
        self._lock.release()


def noted_primitive(kind: type, waits: Waits, name: str) -> type:
    """Return the class *kind* of asyncio that records waits for *name*."""

    class Noted(kind):
        async def __aenter__(self) -> None:
            if not is_user_code.get():  # it has a scope of its own
                waits.note(name)
            await super().__aenter__()
            waits.take(name)

        async def __aexit__(self, *of_error: object) -> None:
            waits.give(name)
            await super().__aexit__(*of_error)

    return Noted


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """The waits of all calls from now on."""
    waits = Waits()

    def replace(kind: type, name: str, make: Callable[[Any], Any]) -> None:
        monkeypatch.setattr(kind, name, make(getattr(kind, name)))

    for kind, name in ((asyncio.Semaphore, "large"), (asyncio.Lock, "jobs")):
        monkeypatch.setattr(asyncio, kind.__name__, noted_primitive(kind, waits, name))
    replace(
        SharedCallback,
        "__init__",
        lambda init: (
            lambda shared, callback, lock=None: init(
                shared, callback, lock or NotedLock(waits)
            )
        ),
    )
    note_memory_and_batches(waits, replace)
    note_requests(waits, replace)
    note_circuits(waits, replace)
    return waits


def note_memory_and_batches(waits: Waits, replace: Any) -> None:
    """Record the waits for parts in flight, and for batches of signatures."""

    def of_parts(function: Any) -> Any:
        async def noted(*args: Any) -> Any:
            if not is_user_code.get():
                waits.note("memory")
            return await function(*args)

        return noted

    def of_part(function: Any) -> Any:
        async def noted(parts: Any, number: int, body: Any) -> Any:
            holds = waits.holds("memory") if isinstance(body, PartBody) else None
            with holds or contextlib.nullcontext():
                return await function(parts, number, body)

        return noted

    def of_batch(function: Any) -> Any:
        async def noted(*args: Any) -> Any:
            waits.note("batch")
            return await function(*args)

        return noted

    for name in ("add", "wait", "wait_for_memory"):
        replace(Multipart, name, of_parts)
    replace(Multipart, "_send_part", of_part)
    replace(Prefetcher, "sign", of_batch)


def note_requests(waits: Waits, replace: Any) -> None:
    """Record the waits for requests; code of the user has none."""

    def of_entry(function: Any) -> Any:
        def noted(*args: Any, **kwargs: Any) -> Any:
            if is_user_code.get():
                waits.of_user.update(_held.get())
            else:
                waits.note("requests")
            may = function(*args, **kwargs)
            assert may or not is_user_code.get()
            if may:
                waits.take("requests")
            return may

        return noted

    def of_enter(function: Any) -> Any:
        async def noted(*args: Any, **kwargs: Any) -> Any:
            await function(*args, **kwargs)
            waits.take("requests")

        return noted

    def of_leave(function: Any) -> Any:
        def noted(limiter: Any, place: Any) -> None:
            if "requests" in _held.get():  # else its call was cancelled while it waited
                waits.give("requests")
            function(limiter, place)

        return noted

    replace(RequestLimiter, "enter_nowait", of_entry)
    replace(RequestLimiter, "enter", of_enter)
    replace(RequestLimiter, "leave", of_leave)


def note_circuits(waits: Waits, replace: Any) -> None:
    """Record the waits for probes; code of the user has none."""

    def of_attempt(function: Any) -> Any:
        async def noted(*args: Any, **kwargs: Any) -> Any:
            if not is_user_code.get():
                waits.note("circuit")
            with waits.holds("circuit"):
                return await function(*args, **kwargs)

        return noted

    replace(Client, "_attempt", of_attempt)


class RemoteKeys(Signer):
    """Signer that is asked by batches, as a service is, and uses a filesystem itself."""

    remote = True

    def __init__(self) -> None:
        self._keys = KeySigner.from_options()
        self._fs = OSSPresignedFileSystem(signer="keys", max_concurrency=1)
        self._fs.pipe_file(f"{ROOT}/policy", b"x")

    def sign(self, operations: Any) -> Any:
        """Sign by the keys of the environment."""
        assert self._fs.cat([f"{ROOT}/policy"] * 2)
        return self._keys.sign(operations)


class Reads(Callback):
    """Progress callback that calls the filesystem."""

    def __init__(self, fs: Any) -> None:
        super().__init__()
        self._fs = fs

    def relative_update(self, inc: int = 1) -> None:
        """Read one object and store some, one of them in parts."""
        self._fs.cat_file(f"{ROOT}/seed")
        self._fs.pipe({f"{ROOT}/a": b"a", f"{ROOT}/b": b"b"})
        with self._fs.open(f"{ROOT}/c", "wb") as file:
            file.write(bytes(3 * MIN_PART))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("remote", [False, True], ids=["keys", "remote"])
def test_waits_have_an_order(oss, waits, remote, caplog, tmp_path):
    """No call waits for a resource that comes before one that the call holds."""
    caplog.set_level("WARNING")
    signer = RemoteKeys() if remote else "keys"
    fs = OSSPresignedFileSystem(
        signer=signer, max_concurrency=4, receipts=lambda _: None, **OPTIONS
    )
    fs.pipe_file(f"{ROOT}/seed", b"x")
    run_all(fs, tmp_path)
    fs = OSSPresignedFileSystem(signer=signer, max_concurrency=4, **OPTIONS)
    oss.faults.add(Fault(status=503, rate=0.1, seed=1), Fault(hang_up=True, rate=0.3))
    run_all(fs, tmp_path)
    names = order()
    wrong = {
        pair for pair in waits.seen if names.index(pair[0]) >= names.index(pair[1])
    }
    assert not wrong
    assert {
        *(("large", "memory"), ("large", "requests"), ("memory", "requests")),
        *(("requests", "circuit"), ("circuit", "callback")),
    } <= waits.seen
    assert ("memory", "batch") in waits.seen or not remote
    assert {"large", "requests", "circuit", "callback"} <= waits.of_user


def run_all(fs: Any, place: Path) -> None:
    """Run all verbs at the same time, then uploads with a callback that calls *fs*."""
    verbs = list(mixed_load.VERBS)
    mixed_load.run(Plan(verbs, [*mixed_load.GATHERED, "large"], size=9 * MIN_PART), fs)
    memory = fsspec.filesystem("memory")
    for number in range(6):
        (place / f"{number}").write_bytes(bytes(number * MIN_PART))
        memory.pipe_file(f"/source/{number}", bytes(number * MIN_PART))
    sources = [str(place / f"{number}") for number in range(6)]
    fs.put(sources, [f"{ROOT}/{n}" for n in range(6)], callback=Reads(fs))
    fs.get([f"{ROOT}/{n}" for n in range(6)], f"{place}/got/", callback=Reads(fs))
    sync("memory://source", f"{ROOT}/synced", filesystem=fs)


@pytest.mark.parametrize("width", [1, 2])
def test_callback_uses_the_filesystem_while_all_places_are_taken(oss, tmp_path, width):
    """Each request in flight waits for a callback, which sends requests of all kinds."""
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=width, **OPTIONS)
    fs.pipe_file(f"{ROOT}/seed", b"x")
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(bytes(3 * MIN_PART))
    sources = [str(tmp_path / f"{number}") for number in range(3)]
    fs.put(sources, [f"{ROOT}/{n}" for n in range(3)], callback=Reads(fs))
    assert {len(value) for value in oss.objects(ROOT).values()} == {1, 3 * MIN_PART}


# -- code of the user --------------------------------------------------------------------


def breaker() -> CircuitBreaker:
    """Return a circuit breaker that one failure opens."""
    made = CircuitBreaker(1, pause=0.0, longest=0.0)
    made.leave(NetworkError("no answer", path="b/k"), probes=False)
    assert made.is_open
    return made
