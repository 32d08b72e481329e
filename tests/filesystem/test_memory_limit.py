"""Many files at once: memory and requests are shared, and nobody locks up."""

from __future__ import annotations

import gc
import http.server
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.checksums import md5_of
from fsspec_osspresigned.model import MIN_PART, SignedRequest
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


def in_child(check):
    """Return whether *check* is true in a forked child that lives ten seconds at most."""
    pid = os.fork()
    if not pid:  # pragma: no cover - another process
        code = 1
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


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


def test_first_write_costs_the_same_with_many_open_files(environment, memory):
    """It calls as many functions with a hundred open files as with two."""
    fs = OSSPresignedFileSystem(signer="keys")
    files, calls = [], []

    def count(frame: object, event: str, arg: object) -> None:
        calls[-1] += event in ("call", "c_call")

    for number in range(100):
        files.append(fs.open(f"{BUCKET}/many/{number}", "wb"))
        calls.append(0)
        sys.setprofile(count)
        files[-1].write(bytes(5_000))
        sys.setprofile(None)
    for file in files:
        file.discard()
    assert min(calls[1:10]) == min(
        calls[90:]
    )  # a collection of garbage may come between


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


CHILD = """
import sys, threading
from fsspec_osspresigned.engine.limits import memory_budget
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

COUNT, SIZE, STEP, MIB = 300, 3_000_000, 100_000, 2**20

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def content(number, start):
    return (b"%016d" % (number * SIZE + start)) * (STEP // 16)

fs = OSSPresignedFileSystem(signer="keys", memory_limit="32MiB")
fs.pipe({f"examplebucket/warm/{n}": bytes(300_000) for n in range(40)})
memory, before, most, over = memory_budget(), resident(), [0, 0], threading.Event()

def watch():
    while not over.wait(0.002):
        most[:] = max(most[0], memory.used), max(most[1], resident() - before)

watcher = threading.Thread(target=watch)
watcher.start()
files = [fs.open(f"examplebucket/many/{n}", "wb") for n in range(COUNT)]
for start in range(0, SIZE, STEP):
    for number, file in enumerate(files):
        file.write(content(number, start))
for file in files:
    file.close()
over.set()
watcher.join()
for number in (0, 150, 299):
    whole = b"".join(content(number, start) for start in range(0, SIZE, STEP))
    assert fs.cat_file(f"examplebucket/many/{number}") == whole
print(*most)
"""


@pytest.mark.slow
def test_300_files_of_3_mb_by_32_mib(oss, environment):
    """The figures of the page on scale: buffers, and the memory of the process."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.stderr == ""
    buffers, resident = map(int, done.stdout.split())
    assert 30 * MIB < buffers <= 32 * MIB + 300 * MIN_PART
    # Threads, connections and the bytes under way take some, whatever is open.
    assert resident <= 32 * MIB + 300 * MIN_PART + 32 * MIB


def test_closed_and_failed_files_hold_nothing(fs, oss, memory):
    """Neither a file that is kept nor the error of one that failed keeps a buffer."""
    before, kept = memory.used, []
    oss.faults.add(
        Fault(action="UploadPart", times=None, status=403, code="AccessDenied")
    )
    for number in range(3):
        file = fs.open(f"{BUCKET}/{number}", "wb")
        with pytest.raises(PermissionError) as caught:
            file.write(bytearray(3 * MIB))
            file.close()
        with pytest.raises(PermissionError):
            file.close()
        kept += [file, caught.value]
    gc.collect()
    wait_until(lambda: memory.used == before)
    del caught


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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_has_memory_of_its_own(fs, owner, memory):
    """A forked child writes with all its memory, whatever its parent holds."""
    files = [fs.open(f"{BUCKET}/parent/{n}", "wb") for n in range(100)]
    for file in files:
        file.write(b"a" * 60 * KIB)
    assert memory.used >= LIMIT

    def check():
        mine = memory_budget()
        assert mine is not memory
        assert mine.used == 0
        one = OSSPresignedFileSystem(**OPTIONS, skip_instance_cache=True)
        with one.open(f"{BUCKET}/child", "wb") as file:
            file.write(content(1, 3 * MIB))
        files.clear()
        gc.collect()
        return one.cat_file(f"{BUCKET}/child") == content(1, 3 * MIB)

    assert in_child(check)
    assert owner.stored()["child"] == content(1, 3 * MIB)
    parts = [r.bytes for r in owner.oss.requests if r.action == "UploadPart"]
    assert parts == [MIB] * 3
    for file in files:
        file.close()
    assert len(owner.stored()) == 101


# -- requests ---------------------------------------------------------------------------


class Counted(http.server.ThreadingHTTPServer):
    """Counts the PUTs that are there at the same time."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.order = []


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers a PUT after a moment."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        """Count, and be slow."""
        server = self.server
        with server.lock:
            server.now += 1
            server.most = max(server.most, server.now)
            server.order.append(self.path.split("/")[1])
        data = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.005)
        with server.lock:
            server.now -= 1
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("ETag", f'"{md5_of(MemoryBody.of(data))}"')
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


class Plain:
    """Signs by naming the place."""

    def __init__(self, origin):
        self.origin = origin

    def sign(self, operations):
        return [
            SignedRequest(
                method=o.action.method,
                url=f"{self.origin}/{o.bucket}/{o.key}?x-oss-signature=a",
                headers=o.headers,
            )
            for o in operations
        ]


@pytest.fixture
def counted():
    """A server that counts."""
    with Counted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def test_a_retry_uses_no_other_kept_connection(oss, environment):
    """All of them may be broken, as after a change of the network."""
    fs = OSSPresignedFileSystem(signer="keys", retries=1)
    oss.faults.add(Fault(action="PutObject", delay=0.1, times=8))
    fs.pipe({f"{BUCKET}/{number}": b"x" for number in range(8)})
    oss.faults.add(Fault(reused=True, reset=True, times=None))
    for number in range(3):
        fs.pipe_file(f"{BUCKET}/{number}", b"y")
    assert [*oss.objects(BUCKET).values()].count(b"y") == 3
    assert len({record.connection for record in oss.requests}) > 8


def test_failed_requests_count_no_longer_as_in_flight(oss, environment):
    """Otherwise a client that sends one request at a time would seem to send many."""
    fs = OSSPresignedFileSystem(signer="keys", retries=0)
    fs.pipe_file(f"{BUCKET}/first", b"x")
    for _ in range(60):
        oss.faults.add(Fault(action="PutObject", reset=True))
        with pytest.raises(OSError, match="connection"):
            fs.pipe_file(f"{BUCKET}/failed", b"x")
        fs.pipe_file(f"{BUCKET}/stored", b"x")
    oss.clear()
    oss.faults.add(Fault(action="PutObject", delay=1.0, times=None))
    values = {f"{BUCKET}/{number}": b"x" for number in range(100)}
    thread = threading.Thread(target=fs.pipe, args=(values,), daemon=True)
    thread.start()
    most = count = 0
    while not oss.requests:  # the first reply
        most, count = max(most, count), oss.under_way
        time.sleep(0.002)
    oss.faults.clear()
    thread.join(50)
    assert not thread.is_alive()
    assert most <= 16


@pytest.mark.parametrize("widths", [(4, 4), (3, 8), (1, 6), (1, 1)])
def test_filesystems_share_what_is_in_flight(counted, owner, widths):
    """Two filesystems have no more in flight than one, and one more; neither starves."""
    origin = f"http://127.0.0.1:{counted.server_port}"
    filesystems = [
        OSSPresignedFileSystem(
            signer=Plain(origin), max_concurrency=width, skip_instance_cache=True
        )
        for width in widths
    ]
    count = 60

    def work(name, fs):
        fs.pipe({f"{name}/{n}": b"x" for n in range(count)})

    threads = [
        threading.Thread(target=work, args=(f"b{n}ucket", fs), daemon=True)
        for n, fs in enumerate(filesystems)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
        assert not thread.is_alive()
    for fs in filesystems:
        fs.client.transport.close()
    assert Counter(counted.order) == {"b0ucket": count, "b1ucket": count}
    assert counted.most <= max(widths) + 1
    # While both have something to send, both send: whoever is first never waits for
    # the other to end.
    firsts = {name: counted.order.index(name) for name in ("b0ucket", "b1ucket")}
    lasts = {
        name: len(counted.order) - counted.order[::-1].index(name) for name in firsts
    }
    assert max(firsts.values()) < min(lasts.values())
    runs = [len([*group]) for _, group in itertools.groupby(counted.order)]
    assert len(runs) > 4
    owner.wait_for_engine()
