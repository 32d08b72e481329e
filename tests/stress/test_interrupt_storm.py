"""Exceptions from a signal handler, at random moments of all verbs, in one process.

As by Ctrl-C in a notebook, or by an alarm that bounds the time of a cell: the process
continues. ``INTERRUPTS=10000`` is a longer storm.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import signal
import sys
import time
from collections import Counter, deque

import pytest

from fsspec_osspresigned.engine.engine import current, run
from fsspec_osspresigned.engine.limits import memory_budget, request_limiter
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART
from tests.interrupts import settle
from tests.stress.walk import Walk

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(0),
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer"),
]

BUCKET = "examplebucket"
COUNT = int(os.environ.get("INTERRUPTS", "1000"))
HANG = 60.0  # seconds after which an operation is held to hang


class Storm:
    """Runs verbs, each with one interrupt, and knows what they may leave.

    Attributes:
        ends: how the operations ended, by verb.
        takes: verb -> the seconds that it takes.
    """

    def __init__(self, oss, fs, place, seed: int) -> None:
        self.oss, self.walk = oss, Walk(fs, f"{BUCKET}/d", place, seed)
        self.walk.verbs.remove(self.walk.fails)  # raises in a transaction by itself
        self.ends: Counter[tuple[str, str]] = Counter()
        self.last: deque[tuple[str, str]] = deque(maxlen=4)
        self.takes: dict[str, float] = {}
        self.armed = False

    def handle(self, *_) -> None:
        """Interrupt whatever runs."""
        if self.armed:
            self.armed = False
            # As Ctrl-C does it: asyncio's loop would lose calls by any other exception.
            signal.raise_signal(signal.SIGINT)

    def run(self) -> None:
        """Do one thing, interrupted at a random moment, and look at what is stored."""
        verb = self.walk.next()
        name, began = verb.__name__, time.monotonic()
        faulthandler.dump_traceback_later(HANG, exit=True, file=sys.__stderr__)
        try:
            try:
                # An interrupt at the end of ``asyncio.run`` leaves its own handler, which
                # would interrupt the next loop of asyncio where that loses a call.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self.armed = True
                # Some come too late, so that every verb is also seen to end well.
                moment = self.walk.draw.uniform(1e-6, 1.5 * self.takes.get(name, 0.01))
                signal.setitimer(signal.ITIMER_REAL, moment)
                verb()
                self.armed = False
                end = "done"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except (KeyboardInterrupt, asyncio.CancelledError):
            # ``asyncio.run`` raises the second one for an interrupt at its very start.
            end = "cut"
        self.ends[name, end] += 1
        self.last.append((name, end))
        if end == "cut":
            self.takes[name] = 1.1 * self.takes.get(name, 0.01)
            settle(self.oss)
        else:
            took = time.monotonic() - began
            self.takes[name] = 0.8 * self.takes.get(name, took) + 0.2 * took
        faulthandler.cancel_dump_traceback_later()
        self.check()

    def check(self) -> None:
        """Every object is one of those that it may be, whole."""
        found, may = self.oss.objects(BUCKET), self.walk.may
        assert {key.removeprefix("d/") for key in found} <= set(may)
        for name, values in may.items():
            now = bytes(found[f"d/{name}"]) if f"d/{name}" in found else None
            size = None if now is None else len(now)
            assert now in values, f"{name}: {size} bytes after {list(self.last)}"
            values.intersection_update({now})


async def in_flight() -> int:
    """Return the number of requests that the limiter counts."""
    return request_limiter().in_flight


# An exception of a finalizer or callback is logged, and goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings(
    "ignore:.*was not published:fsspec_osspresigned.errors.DiscardWarning"
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a coroutine that did not begin
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file of ``write_bytes``
@pytest.mark.parametrize("seed", range(2))
def test_storm(oss, tmp_path, capsys, monkeypatch, caplog, seed):
    """Nothing hangs, is wrong, or stays behind but what the documentation names."""
    caplog.set_level("ERROR")
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=PART, multipart_threshold=2 * PART, max_concurrency=4
    )
    storm = Storm(oss, fs, tmp_path, seed)
    before = signal.signal(signal.SIGALRM, storm.handle)
    began = time.monotonic()
    try:
        for _ in range(COUNT // 2):
            storm.run()
    finally:
        signal.signal(signal.SIGALRM, before)
    seconds = time.monotonic() - began
    for verb in storm.walk.verbs:  # all of it still works
        verb()
        storm.check()
    gc.collect()
    end = time.monotonic() + 30
    while any(one.parts for one in oss.uploads(BUCKET)) and time.monotonic() < end:
        time.sleep(0.05)
    left = oss.uploads(BUCKET)
    ends = Counter(end for _, end in storm.ends.elements())
    with capsys.disabled():
        print(  # noqa: T201 - the figures that this test is for
            f"\n{COUNT // 2} operations in {seconds:.0f} s: {dict(ends)}; "
            f"{len(left)} uploads left, {sum(bool(u.parts) for u in left)} with parts"
        )
    for verb in storm.walk.verbs:
        assert {end for name, end in storm.ends if name == verb.__name__}
    assert not any(one.parts for one in left)
    # An interrupt in the reply to Initiate leaves an upload that nobody can name.
    assert len(left) <= ends["cut"] / 25 + 2
    assert memory_budget().used == 0
    assert run(in_flight) == 0
    while current().is_busy and time.monotonic() < end:
        time.sleep(0.05)
    assert not current().is_busy
