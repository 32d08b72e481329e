"""A sync spreads over processes and machines, and takes no secret along."""

from __future__ import annotations

import pickle
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import pytest

from fsspec_osspresigned import ConfigurationError, UploadErrors, sync
from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.tools.cli.sync import exit_code
from fsspec_osspresigned.tools.sync import send
from fsspec_osspresigned.tools.sync.plan import Entry
from fsspec_osspresigned.tools.sync.send import Batch, BatchLimits, SyncRoute
from fsspec_osspresigned.tools.sync.source import LocalSource
from tests.tools.sync.conftest import BUCKET, FILES, write

DEST = f"{BUCKET}/backup"
OBJECTS = {f"backup/{name}": data for name, data in FILES.items()}
TOKEN = "a-made-up-token-for-sync-0"


@pytest.fixture
def service(environment, monkeypatch):
    """A destination that is signed by a service, with a token in the environment."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    policy = Policy(name="all", prefixes=(f"{BUCKET}/",), actions=frozenset(Action))
    app = create_app(KeySigner.from_options(), tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        yield OSSPresignedFileSystem(
            signer=f"http://127.0.0.1:{server.port}",
            signer_token="env:OSSPRESIGNED_TOKEN",
        )


class Recorder(ThreadPoolExecutor):
    """Keeps what would travel."""

    def __init__(self):
        super().__init__(1)
        self.pickles = []

    def submit(self, function, *arguments):
        """Take it through a pickle, as processes do."""
        data = pickle.dumps((function, arguments))
        self.pickles.append(data)
        function, arguments = pickle.loads(data)
        return super().submit(function, *arguments)


def test_process_pool_sends_all(service, owner, source, tmp_path):
    """Spawned processes; what they have sent is known and seen here."""
    state = tmp_path / "state"
    events = []
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        options = {"filesystem": service, "executor": pool, "state": state}
        result = sync(source, DEST, on_event=events.append, **options)
        again = sync(source, DEST, **options)
    assert owner.stored() == OBJECTS
    assert (result.sent, again.sent, again.same) == (5, 0, 5)
    assert service.info(f"{DEST}/a.csv")["size"] == 8
    assert {e.name for e in events if e.kind == "sent"} == set(FILES)
    blind = sync(source, DEST, filesystem=service, state=state, dry_run=True)
    assert blind.plan.send == []


def test_exclusive_files_are_looked_at_once_each(service, owner, source):
    """Signing ahead sends no HEAD: only the worker asks whether the object exists."""
    result = sync(source, DEST, filesystem=service, overwrite=False, always=True)
    assert result.sent == 5
    heads = [one.key for one in owner.oss.requests if one.action == "HeadObject"]
    assert sorted(heads) == sorted(OBJECTS)


def test_batches_are_small_and_hold_no_secret(service, owner, source, monkeypatch):
    """Paths, and the filesystem by reference."""
    monkeypatch.setattr(send, "LIMITS", BatchLimits(files=2))
    with Recorder() as pool:
        result = sync(source, DEST, filesystem=service, executor=pool)
    assert (result.sent, len(pool.pickles)) == (5, 3)
    assert owner.stored() == OBJECTS
    for data in pool.pickles:
        assert len(data) < 4_000
        assert TOKEN.encode() not in data


def test_large_files_go_alone(monkeypatch):
    """A batch holds few bytes, or one file."""
    monkeypatch.setattr(send, "LIMITS", BatchLimits(size=10))
    sizes = [3, 3, 9, 100, None, 1]
    entries = [Entry(str(size), size) for size in sizes]
    batches = send.batches_of(None, None, entries)
    found = [[entry.size for entry in batch.entries] for batch in batches]
    assert found == [[3, 3], [9], [100], [None, 1]]
    assert list(send.batches_of(None, None, [])) == []


def test_what_cannot_travel_is_refused_before_anything(owner, source):
    """An inline map is a secret; threads may have it."""
    inline = {f"{DEST}/a.csv": owner.url("backup/a.csv")}
    fs = OSSPresignedFileSystem(url_map=inline)
    options = {"filesystem": fs, "always": True, "on_error": "return"}
    with (
        ProcessPoolExecutor(1) as pool,
        pytest.raises(ConfigurationError, match="url_map= is given inline"),
    ):
        sync(source, DEST, executor=pool, **options)
    assert owner.stored() == {}
    with ThreadPoolExecutor(1) as pool:
        result = sync(source, DEST, executor=pool, **options)
    assert (result.sent, len(result.uncovered)) == (1, 4)


def test_failures_travel_back(service, owner, source):
    """Each file has its own."""
    owner.oss.faults.add(Fault(key="backup/empty", status=400, code="X"))
    with Recorder() as pool:
        result = sync(
            source, DEST, filesystem=service, executor=pool, on_error="return"
        )
    assert (list(result.failed), result.sent, exit_code(result)) == (["empty"], 4, 1)
    assert result.failed["empty"].code == "X"


def test_first_failure_stops_the_other_batches(environment, owner, source, monkeypatch):
    """If that is wanted; what was not tried is counted."""
    limits = BatchLimits(files=1, outstanding=1)
    monkeypatch.setattr(send, "LIMITS", limits)
    fs = OSSPresignedFileSystem(signer="keys")
    fault = Fault(action="PutObject", status=400, code="X", times=None)
    owner.oss.faults.add(fault)
    with Recorder() as pool:
        options = {"filesystem": fs, "executor": pool, "on_error": "return"}
        result = sync(source, DEST, fail_fast=True, **options)
        assert (len(result.failed), result.not_tried) == (1, 4)
        result = sync(source, DEST, **options)
        assert (len(result.failed), result.not_tried) == (5, 0)


def test_refusal_of_all_stops_the_other_batches(
    environment, owner, source, monkeypatch
):
    """Sixteen equal ones in a batch mean that nobody is let in."""
    write(source, {f"many/{n}": b"x" for n in range(40)})
    limits = BatchLimits(files=30, outstanding=1)
    monkeypatch.setattr(send, "LIMITS", limits)
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=1)
    fault = Fault(action="PutObject", status=403, code="AccessDenied", times=None)
    owner.oss.faults.add(fault)
    with Recorder() as pool:
        result = sync(source, DEST, filesystem=fs, executor=pool, on_error="return")
    assert (len(result.failed), result.not_tried, exit_code(result)) == (16, 29, 3)


class Odd:
    """An executor that does what a test says."""

    def __init__(self, submit):
        self.submit = submit


@pytest.mark.parametrize("fail_fast", [True, False])
def test_pool_that_died_is_a_failure_of_its_files(
    environment, source, monkeypatch, fail_fast
):
    """Whether it says so when it is given work, or later."""
    limits = BatchLimits(files=1, outstanding=2)
    monkeypatch.setattr(send, "LIMITS", limits)
    fs = OSSPresignedFileSystem(signer="keys")
    futures = []

    def submit(*_):
        if futures:
            raise BrokenProcessPool("a process in the pool has died")
        futures.append(Future())
        futures[0].set_exception(BrokenProcessPool("a process in the pool has died"))
        return futures[0]

    options = {"filesystem": fs, "fail_fast": fail_fast, "on_error": "return"}
    result = sync(source, DEST, executor=Odd(submit), **options)
    assert (len(result.failed), result.not_tried) == ((2, 3) if fail_fast else (5, 0))


def test_work_that_was_not_begun_is_cancelled(environment, source, monkeypatch):
    """After the first failure."""
    monkeypatch.setattr(send, "LIMITS", BatchLimits(files=1))
    fs = OSSPresignedFileSystem(signer="keys")
    futures = []

    def submit(*_):
        futures.append(Future())
        if len(futures) == 5:
            futures[0].set_exception(ValueError("broken"))
        return futures[-1]

    options = {"filesystem": fs, "fail_fast": True, "on_error": "return"}
    result = sync(source, DEST, executor=Odd(submit), **options)
    assert (len(result.failed), result.not_tried) == (1, 4)
    assert all(future.cancelled() for future in futures[1:])


def test_work_that_somebody_else_has_cancelled_ends_it(
    environment, source, monkeypatch
):
    """As when a cluster is closed: its files were not tried."""
    monkeypatch.setattr(send, "LIMITS", BatchLimits(files=4))

    def submit(*_):
        future = Future()
        future.cancel()
        future.set_running_or_notify_cancel()
        return future

    fs = OSSPresignedFileSystem(signer="keys")
    options = {"filesystem": fs, "on_error": "return"}
    result = sync(source, DEST, executor=Odd(submit), **options)
    assert (result.failed, result.not_tried, exit_code(result)) == ({}, 5, 1)


def test_a_cancelled_batch_is_the_last_one(environment, owner, source, monkeypatch):
    """The error says why the sync is not complete."""
    monkeypatch.setattr(send, "LIMITS", BatchLimits(files=1, outstanding=1))
    futures = []

    def submit(function, *arguments):
        future = Future()
        futures.append(future)
        if len(futures) == 2:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(function(*arguments))
        return future

    fs = OSSPresignedFileSystem(signer="keys")
    with pytest.raises(UploadErrors, match=r"1 of 5 files sent.*executor cancelled"):
        sync(source, DEST, executor=Odd(submit), filesystem=fs)
    assert len(futures) == 2
    assert len(owner.stored()) == 1


def test_ctrl_c_cancels_and_waits(environment, source, monkeypatch):
    """Nothing is left that nobody waits for."""
    monkeypatch.setattr(send, "LIMITS", BatchLimits(files=1))
    fs = OSSPresignedFileSystem(signer="keys")
    futures = []

    def submit(*_):
        if len(futures) == 2:
            raise KeyboardInterrupt
        futures.append(Future())
        return futures[-1]

    with pytest.raises(KeyboardInterrupt):
        sync(source, DEST, filesystem=fs, executor=Odd(submit))
    assert all(future.cancelled() for future in futures)


def test_dask_client_is_asked_for_an_executor(environment, owner, source):
    """Whose work is done again when it is equal."""

    class Client:
        def get_executor(self, *, pure):
            assert pure is False
            return pool

    with Recorder() as pool:
        fs = OSSPresignedFileSystem(signer="keys")
        assert sync(source, DEST, filesystem=fs, executor=Client()).sent == 5


def test_object_that_cannot_be_pickled_is_named(environment, source):
    """Among the options of the objects, say."""
    fs = OSSPresignedFileSystem(signer="keys")
    route = SyncRoute(LocalSource(str(source)), "b/", {"metadata": Secret("x")})
    with pytest.raises(ConfigurationError, match="can be pickled"):
        send.check_portable(None, fs, route)
    assert Batch(fs, route, ()).entries == ()


@pytest.mark.heavy
@pytest.mark.timeout(240)
def test_dask_cluster_sends_all(service, owner, source):
    """From the workers of a cluster; twice, for equal work is done again."""
    from distributed import Client, LocalCluster  # noqa: PLC0415 - heavy

    write(source, {f"many/{n}": b"x" * n for n in range(300)})
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        options = {"filesystem": service, "executor": client}
        assert sync(source, DEST, **options).sent == 305
        assert sync(source, DEST, always=True, **options).sent == 305
        assert sync(source, DEST, **options).same == 305
    assert len(owner.stored()) == 305
