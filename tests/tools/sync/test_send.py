"""A sync spreads over processes and machines, and takes no secret along."""

from __future__ import annotations

import pickle
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

import pytest

from fsspec_osspresigned import ConfigurationError, sync
from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.tools.cli.sync import exit_code
from fsspec_osspresigned.tools.sync import send
from fsspec_osspresigned.tools.sync.send import BatchLimits
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
