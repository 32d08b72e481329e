"""Many open files share memory and requests, without a deadlock."""

from __future__ import annotations

import gc
import json
import threading
import time

import pytest

from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.units import KIB, MIB
from tests.form_signer import grant_of

BUCKET = "examplebucket"
LIMIT = 4 * MIB
OPTIONS = {"signer": "keys", "memory_limit": "4MiB", "part_size": "1MiB"}


def wait_until(fact):
    """Wait for what a worker does in the background."""
    end = time.monotonic() + 10
    while not fact() and time.monotonic() < end:
        time.sleep(0.005)
    assert fact()


@pytest.fixture
def memory():
    """The memory of the process; what a test uses, it gives back."""
    one = memory_budget()
    gc.collect()
    before = one.used
    yield one
    gc.collect()
    wait_until(lambda: one.used == before)


@pytest.fixture
def fs(environment):
    """A filesystem with little memory."""
    return OSSPresignedFileSystem(**OPTIONS, max_concurrency=4)


def content(number, size):
    """Return *size* bytes that are those of no other file."""
    return (b"%08d" % number * (size // 8 + 1))[:size]


def test_hundreds_of_files_in_one_thread(fs, owner, memory):
    """Files that are written in turn are all stored, although none ends before all do."""
    sizes = [MIB + 300 * KIB if n % 12 == 0 else 90 * KIB for n in range(300)]
    data = [content(n, size) for n, size in enumerate(sizes)]
    files = [fs.open(f"{BUCKET}/many/{n}", "wb") for n in range(300)]
    before, most = memory.used, 0
    for start in range(0, max(sizes), 70 * KIB):
        for file, bytes_ in zip(files, data, strict=True):
            file.write(bytes_[start : start + 70 * KIB])
            most = max(most, memory.used)
    assert LIMIT < most - before <= LIMIT + 300 * MIN_PART
    for file in files:
        file.close()
    assert {f"many/{n}": one for n, one in enumerate(data)} == owner.stored()
    gc.collect()
    wait_until(lambda: memory.used == before)  # though all the files are still here


def written_in_turn(files, size, step, memory):
    """Write *size* bytes of each of *files* in turn; return the most memory in use."""
    most = 0
    for start in range(0, size, step):
        for number, file in enumerate(files):
            file.write(content(number, size)[start : start + step])
            most = max(most, memory.used)
    return most


@pytest.mark.parametrize("step", [10_000, 100 * KIB, MIB])
def test_files_that_go_by_one_request_wait_on_disk(oss, owner, memory, tmp_path, step):
    """One grant, and so one URL, has no parts: the same limit holds."""
    place = tmp_path / "grant.json"
    place.write_text(json.dumps(grant_of(oss, BUCKET, "in/")))
    place.chmod(0o600)
    fs = OSSPresignedFileSystem(grant=str(place), memory_limit="4MiB")
    before = memory.used
    files = [fs.open(f"{BUCKET}/in/{n}", "wb") for n in range(30)]
    most = written_in_turn(files, MIB, step, memory)
    assert most - before <= LIMIT + 30 * MIN_PART
    for file in files:
        file.close()
    assert owner.stored() == {f"in/{n}": content(n, MIB) for n in range(30)}


def test_threads_that_write_large_files(fs, owner, memory):
    """Threads that together write more than there is memory for all come to an end."""
    most, over = [0], threading.Event()

    def watch():
        while not over.wait(0.001):
            most[0] = max(most[0], memory.used)

    def work(number):
        whole = content(number, 2 * MIB + 500 * KIB)
        with fs.open(f"{BUCKET}/large/{number}", "wb") as file:
            for start in range(0, len(whole), 100 * KIB):
                file.write(whole[start : start + 100 * KIB])

    before = memory.used
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    over.set()
    watcher.join(10)
    stored = owner.stored()
    assert len(stored) == 12
    for number in range(12):
        assert stored[f"large/{number}"] == content(number, 2 * MIB + 500 * KIB)
    assert most[0] - before <= LIMIT + 12 * MIN_PART
    wait_until(lambda: memory.used == before)


class Hesitant:
    """Signs parts when *changed* is set, or a moment later."""

    def __init__(self):
        self._keys = KeySigner.from_options()
        self.changed = threading.Event()

    def sign(self, operations):
        """Wait, so that what was passed to ``write`` may change before it is sent."""
        if operations[0].action == "UploadPart":
            self.changed.wait(0.1)
        return self._keys.sign(operations)


@pytest.mark.parametrize("size", [150 * KIB, MIB, 2 * MIB + 1])
def test_a_buffer_that_changes_after_write_at_the_limit(environment, owner, size):
    """The bytes are sent from it, as no memory is left for a copy, and sent as written."""
    signer = Hesitant()
    fs = OSSPresignedFileSystem(
        signer=signer, memory_limit="1MiB", part_size="1MiB", max_concurrency=4
    )
    buffer = bytearray(size)
    with fs.open(f"{BUCKET}/full", "wb") as full:
        full.write(content(9, MIB))
        with fs.open(f"{BUCKET}/own", "wb") as file:
            for number in range(3):
                signer.changed.clear()
                buffer[:] = content(number, size)
                file.write(buffer)
                buffer[:] = bytes(size)
                signer.changed.set()
    wanted = b"".join(content(number, size) for number in range(3))
    assert owner.stored()["own"] == wanted
    assert owner.stored()["full"] == content(9, MIB)


def test_small_files_of_a_transaction_leave_the_memory_to_others(fs, owner):
    """Once closed, they wait as copies, and the parts of a large file are whole."""
    data = [content(number, 120 * KIB) for number in range(60)]
    large = content(99, 3 * MIB + 1)
    with fs.transaction:
        for number, one in enumerate(data):
            with fs.open(f"{BUCKET}/{number}", "wb") as file:
                file.write(bytearray(one))
        with fs.open(f"{BUCKET}/large", "wb") as file:
            for start in range(0, len(large), 100_000):
                file.write(bytearray(large[start : start + 100_000]))
    stored = {f"{number}": one for number, one in enumerate(data)} | {"large": large}
    assert owner.stored() == stored
    parts = [r.bytes for r in owner.oss.requests if r.action == "UploadPart"]
    assert sorted(parts) == [1, MIB, MIB, MIB]
