"""When everything fails, many workers ask no more than one would."""

from __future__ import annotations

import threading
import time

import pytest

from fsspec_osspresigned.client import client as clients
from fsspec_osspresigned.concurrency.circuit import Circuit
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import (
    NetworkError,
    NetworkTimeoutError,
    ObjectNotFoundError,
    StoreUnavailableError,
    UploadDiscardedError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

PATH = "b/k"


class Clock:
    """Stands still until it is set, and knows the threads that have looked at it."""

    now = 100.0

    def __init__(self) -> None:
        self.seen_by: set[int] = set()

    def __call__(self) -> float:
        self.seen_by.add(threading.get_ident())
        return self.now


def circuit_of(threshold: int, clock=None) -> Circuit:
    """Return a circuit whose pauses are over at once, or pass by *clock*."""
    pause = 0.0 if clock is None else 4.0
    return Circuit(threshold, pause=pause, longest=10.0, clock=clock or Clock())


def fail(circuit: Circuit, kind=StoreUnavailableError, **facts) -> None:
    """Fail once."""
    with pytest.raises(kind), circuit.turn(PATH):
        raise kind("down", path=PATH, **facts)


def is_open(circuit: Circuit) -> bool:
    """Return whether a second request would have to wait for the first."""
    gone = threading.Event()
    gone.set()
    with circuit.turn(PATH):
        try:
            with circuit.turn("b/other", gone):
                return False
        except (StoreUnavailableError, NetworkError) as error:
            return error.path == "b/other" and "not sent" in error.message


def test_opens_after_failures_in_a_row_only():
    """A success between failures begins the count anew."""
    circuit = circuit_of(3)
    fail(circuit)
    fail(circuit)
    with circuit.turn(PATH):
        pass
    fail(circuit)
    fail(circuit, NetworkTimeoutError)
    assert not is_open(circuit)  # which itself succeeds twice
    for _ in range(3):
        fail(circuit, NetworkTimeoutError)
    assert is_open(circuit)


def test_an_answer_closes_it():
    """A refusal is an answer: the store works."""
    circuit = circuit_of(1)
    fail(circuit)
    with pytest.raises(ObjectNotFoundError), circuit.turn(PATH):
        raise ObjectNotFoundError("no", path=PATH, status=404)
    assert not is_open(circuit)


def test_what_is_no_answer_changes_nothing():
    """A caller that gives up in the middle neither closes nor blocks it."""
    circuit = circuit_of(1)
    fail(circuit)
    for error in (UploadDiscardedError("given up", path=PATH), KeyboardInterrupt()):
        with pytest.raises(type(error)), circuit.turn(PATH):
            raise error
    assert is_open(circuit)


def test_probe_that_is_lost_is_replaced():
    """After a minute another request is let through in its place."""
    clock = Clock()
    circuit = circuit_of(1, clock)
    fail(circuit)
    clock.now += 5.0
    lost = circuit.turn(PATH)
    lost.__enter__()
    gone = threading.Event()
    gone.set()
    with pytest.raises(StoreUnavailableError), circuit.turn(PATH, gone):
        pass
    clock.now += 61.0
    with circuit.turn(PATH, gone):
        pass
    lost.__exit__(None, None, None)
    assert not is_open(circuit)


@pytest.mark.parametrize("succeeds", [True, False])
def test_others_wait_for_the_one_that_is_let_through(succeeds):
    """If it succeeds they are sent; if it fails they fail alike, without sending."""
    clock = Clock()
    circuit = Circuit(1, pause=0.0, longest=10.0, clock=clock)
    fail(circuit, retry_after=1.5)
    inside, leave = threading.Event(), threading.Event()
    found: list[object] = []

    def probe():
        with (
            pytest.raises(StoreUnavailableError) if not succeeds else circuit.turn(PATH)
        ):
            if succeeds:
                inside.set()
                leave.wait(10)
                return
            with circuit.turn(PATH):
                inside.set()
                leave.wait(10)
                raise StoreUnavailableError("down", path=PATH, retry_after=1.5)

    def other():
        try:
            with circuit.turn("b/other"):
                found.append("sent")
        except StoreUnavailableError as error:
            found.append(error.retry_after)

    threads = [threading.Thread(target=probe)]
    threads[0].start()
    assert inside.wait(10)
    threads += [threading.Thread(target=other) for _ in range(3)]
    for thread in threads[1:]:
        thread.start()
    while not {thread.ident for thread in threads} <= clock.seen_by:
        time.sleep(0.001)
    time.sleep(0.15)  # beyond one glance of those who wait
    assert found == []
    leave.set()
    for thread in threads:
        thread.join(10)
    assert found == (["sent"] * 3 if succeeds else [1.5] * 3)


def test_next_request_waits_for_a_pause_that_grows():
    """Within the pause everybody waits, and nobody fails for it."""
    clock = Clock()
    circuit = circuit_of(1, clock)
    fail(circuit)
    fail(circuit)  # the one that is let through
    for pause in (4.0, 8.0, 10.0, 10.0):
        clock.now += pause - 0.5
        sent = threading.Event()

        def wait(sent=sent):
            with (
                pytest.raises(NetworkError),
                circuit.turn(PATH),
            ):
                sent.set()
                raise NetworkError("down", path=PATH)

        waiter = threading.Thread(target=wait)
        waiter.start()
        assert not sent.wait(0.02)
        clock.now += 0.5
        waiter.join(10)
        assert sent.is_set()
    clock.now += 10.0
    with circuit.turn(PATH):
        pass
    fail(circuit)
    fail(circuit)
    clock.now += 4.0
    with circuit.turn(PATH):
        pass


def test_an_outage_is_asked_by_one(monkeypatch):
    """Sixteen workers with five retries each would send 96 requests; they do not."""
    with Emulator() as oss:
        key = oss.credentials
        monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
        monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
        fs = OSSPresignedFileSystem(
            signer="keys",
            endpoint=oss.url,
            region="cn-hangzhou",
            max_concurrency=16,
            retries=5,
        )
        fs.client.policy = clients.RetryPolicy(retries=5, base=0.02)
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


def test_request_that_was_sent_does_not_wait():
    """Its result counts, and it is no probe."""
    circuit = circuit_of(2)
    assert not circuit.is_open
    for _ in range(2):
        with (
            pytest.raises(StoreUnavailableError),
            circuit.turn(PATH, sent=True),
        ):
            raise StoreUnavailableError("down", path=PATH)
    assert circuit.is_open
    with circuit.turn(PATH, sent=True):
        pass
    assert not circuit.is_open
