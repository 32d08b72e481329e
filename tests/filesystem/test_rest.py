"""A filesystem works again after a rest in which its threads have ended."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsspec_osspresigned import sync
from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.engine import engine
from fsspec_osspresigned.errors import UploadErrors
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART, Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from tests.filesystem.conftest import BUCKET

ROUNDS = 10
DATA = os.urandom(4 * MIN_PART)


def put(fs, root, place):
    """Upload files in parts."""
    names = [place / f"{number}" for number in range(3)]
    for name in names:
        name.write_bytes(DATA)
    fs.put([str(name) for name in names], [f"{root}/{n.name}" for n in names])
    return {name.name: DATA for name in names}


def pipe(fs, root, _):
    """Upload many small values."""
    values = {f"{number}": b"x" * number for number in range(40)}
    fs.pipe({f"{root}/{key}": value for key, value in values.items()})
    return values


def get(fs, root, place):
    """Download a file in ranges."""
    fs.pipe_file(f"{root}/source", DATA)
    fs.get_file(f"{root}/source", str(place / "target"))
    assert (place / "target").read_bytes() == DATA
    return {"source": DATA}


def stream(fs, root, _):
    """Write a stream in parts."""
    with fs.open(f"{root}/stream", "wb") as file:
        for start in range(0, len(DATA), MIN_PART):
            file.write(DATA[start : start + MIN_PART])
    return {"stream": DATA}


def transaction(fs, root, _):
    """Publish several objects at once."""
    with fs.transaction:
        for number in range(3):
            with fs.open(f"{root}/{number}", "wb") as file:
                file.write(DATA[: 2 * MIN_PART + number])
    return {f"{number}": DATA[: 2 * MIN_PART + number] for number in range(3)}


def synchronize(fs, root, place):
    """Upload a directory."""
    source = place / "tree"
    source.mkdir(exist_ok=True)
    for number in range(5):
        (source / f"{number}").write_bytes(DATA[: number * MIN_PART])
    sync(source, root, filesystem=fs)
    return {f"{number}": DATA[: number * MIN_PART] for number in range(5)}


def little(fs, root, _):
    """Give each pool fewer jobs than it has threads."""
    fs.pipe({f"{root}/0": b"0", f"{root}/1": b"1"})
    fs.pipe_file(f"{root}/2", DATA[: 2 * MIN_PART])
    return {"0": b"0", "1": b"1", "2": DATA[: 2 * MIN_PART]}


VERBS = [put, pipe, get, stream, transaction, synchronize]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    """Let idle threads end soon."""
    monkeypatch.setattr(engine, "IDLE", 0.01)
    monkeypatch.setattr(engine, "_IDLE_CHECK_INTERVAL", 0.005)


@pytest.fixture
def rested(environment):
    """A filesystem of small parts."""
    return OSSPresignedFileSystem(signer="keys", part_size=MIN_PART)


@pytest.fixture
def serviced(environment, monkeypatch):
    """A filesystem of small parts, signed by a signer service."""
    token = "a-made-up-token-1"
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", token)
    policy = Policy(name="all", prefixes=(f"{BUCKET}/",), actions=frozenset(Action))
    app = create_app(KeySigner.from_options(), tokens={hash_token(token): policy})
    with LoopbackServer(app) as server:
        yield OSSPresignedFileSystem(
            signer=f"http://127.0.0.1:{server.port}",
            signer_token="env:OSSPRESIGNED_TOKEN",
            part_size=MIN_PART,
        )


def threads_of_engine():
    """Return the threads that the package has for its work.

    An interrupt in the start of a thread leaves one in the list that never began.
    """
    ours = "osspresigned-engine", "osspresigned-worker"
    return [
        one for one in threading.enumerate() if one.ident and one.name.startswith(ours)
    ]


def do(fs, owner, place, verb, threads):
    """Do *verb* in some threads, and compare what is stored."""

    def one(number):
        folder = place / f"{verb.__name__}-{number}"
        folder.mkdir(exist_ok=True)
        root = f"{verb.__name__}/{number}"
        stored = verb(fs, f"{BUCKET}/{root}", folder)
        return {f"{root}/{key}": value for key, value in stored.items()}

    wanted = {}
    if threads == 1:
        wanted.update(one(0))
    else:
        with ThreadPoolExecutor(threads) as pool:
            for stored in pool.map(one, range(threads)):
                wanted.update(stored)
    assert wanted.items() <= owner.stored().items()


def work(fs, owner, place, verb, threads):
    """Do *verb* in some threads, compare what is stored, and rest."""
    do(fs, owner, place, verb, threads)
    end = time.monotonic() + 20
    while left := threads_of_engine():
        assert time.monotonic() < end, left
        time.sleep(0.001)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_verb_after_a_rest(rested, owner, tmp_path, verb, threads):
    """A verb works ten times with a rest between, from one and several threads."""
    for _ in range(ROUNDS):
        work(rested, owner, tmp_path, verb, threads)
        work(rested, owner, tmp_path, little, 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_service_after_a_rest(serviced, owner, tmp_path, threads):
    """Likewise where a signer service signs."""
    for number in range(ROUNDS):
        work(serviced, owner, tmp_path, VERBS[number % len(VERBS)], threads)
        work(serviced, owner, tmp_path, little, 1)


@pytest.fixture
def only_threads(monkeypatch):
    """Let the engine have no more than so many threads at a time, within a block."""
    real = threading.Thread.start

    @contextlib.contextmanager
    def limit(most):
        places = threading.Semaphore(most)

        def counted(run):
            def running():
                try:
                    run()
                finally:
                    places.release()

            return running

        def start(thread):
            ours = thread.name.startswith("osspresigned")
            if ours and not places.acquire(blocking=False):
                raise RuntimeError("can't start new thread")
            if ours:
                thread.run = counted(thread.run)
            real(thread)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            patch.setattr(engine, "IDLE", 25)  # an end and a start need two threads
            yield

    return limit


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize(
    "verb", [put, pipe, get, stream, synchronize], ids=lambda verb: verb.__name__
)
def test_verb_with_few_threads(rested, owner, tmp_path, only_threads, verb, most):
    """Where few threads can be started, those that there are do the rest."""
    work(rested, owner, tmp_path, little, 1)
    with only_threads(most):
        do(rested, owner, tmp_path, verb, 1)
    work(rested, owner, tmp_path, little, 1)


def test_transaction_with_few_threads(rested, owner, tmp_path, only_threads):
    """The end of each file needs a thread; what was published is named."""
    work(rested, owner, tmp_path, little, 1)
    before = owner.stored()
    with only_threads(1), pytest.raises(UploadErrors) as caught:
        do(rested, owner, tmp_path, transaction, 1)
    published = {f"{BUCKET}/{key}" for key in owner.stored().keys() - before.keys()}
    assert published == {receipt.path for receipt in caught.value.receipts}
    work(rested, owner, tmp_path, transaction, 1)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_verb_without_a_thread(rested, owner, tmp_path, only_threads, verb):
    """Where no thread can be started, the calling thread does the work.

    A file of a transaction needs a worker thread, so nothing is published then.
    """
    work(rested, owner, tmp_path, little, 1)
    before = owner.stored()
    with only_threads(0):
        if verb is transaction:
            with pytest.raises(UploadErrors):
                do(rested, owner, tmp_path, verb, 1)
            assert owner.stored() == before
        else:
            work(rested, owner, tmp_path, verb, 1)
    work(rested, owner, tmp_path, verb, 1)
