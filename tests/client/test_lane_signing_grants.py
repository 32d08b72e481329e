"""Small forms by a grant: the lane sends them, and never waits for the grant's server."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.concurrency.waiting import Event
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    IntegrityError,
    NetworkError,
    NotSignedError,
    SignerError,
    SignerUnavailableError,
)
from fsspec_osspresigned.http.lane import Lane
from fsspec_osspresigned.model import Reply
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signers.post_grant import FetchedGrant, PostGrantSigner
from tests.client.conftest import ROOT, stored, values
from tests.form_signer import grant_of

pytestmark = pytest.mark.usefixtures("patient")

EXPIRED = {"status": 403, "code": "AccessDenied", "ec": "0006-00000213"}


class GrantServer:
    """Answers with grants of *make*, and keeps the names of the threads that asked."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.threads: list[str] = []

    def __call__(self, method, url, headers, body, limit) -> Reply:
        """Answer as the exchange with a server does."""
        self.threads.append(threading.current_thread().name.rpartition("-")[0])
        text = json.dumps(self.make())
        return Reply(
            status=200,
            headers={"content-type": "application/json"},
            body=text.encode(),
        )


@pytest.fixture
def server(oss) -> GrantServer:
    """A server with a grant for the whole bucket."""
    return GrantServer(lambda: grant_of(oss, ROOT, ""))


def filesystem(server: GrantServer, **options: Any) -> OSSPresignedFileSystem:
    """Make a filesystem by the grants of *server* that waits little between tries."""
    source = FetchedGrant("http://127.0.0.1/grant", exchange=server)
    fs = OSSPresignedFileSystem(signer=PostGrantSigner(source), **options)
    fs.client.policy = evolve(fs.client.policy, base=0.01, cap=0.1)
    return fs


@pytest.fixture(params=["a mapping", "a file", "a variable", "a server"])
def fs(oss, server, request, tmp_path, monkeypatch) -> OSSPresignedFileSystem:
    """A filesystem by a grant, wherever the grant comes from."""
    if request.param == "a server":
        return filesystem(server)
    grant: Any = grant_of(oss, ROOT, "")
    if request.param == "a file":
        place = tmp_path / "grant.json"
        place.write_text(json.dumps(grant))
        place.chmod(0o600)
        grant = str(place)
    elif request.param == "a variable":
        monkeypatch.setenv("A_GRANT", json.dumps(grant))
        grant = "env:A_GRANT"
    return OSSPresignedFileSystem(grant=grant)


def test_small_forms_go_by_the_lane(fs, oss, tries, server):
    """Each costs one request, proved by its CRC-64; a server is asked once, by a worker."""
    given = values(60)
    receipts = fs.pipe(given)
    assert [one.path for one in receipts] == list(given)
    assert {one.verified for one in receipts} == {"crc64"}
    assert len(tries) == len(oss.requests) == 60
    assert {record.action for record in oss.requests} == {"PostObject"}
    assert stored(oss) == given
    assert server.threads in ([], ["osspresigned-file"])


def test_gathered_coroutines_share_the_lane(fs, oss, tries):
    """Those that zarr and dask await together do."""

    async def store():
        return await asyncio.gather(*(fs._pipe_file(*one) for one in given.items()))

    given = values(30)
    asyncio.run(store())
    assert len(tries) == 30
    assert stored(oss) == given


def test_a_wrong_checksum_fails_its_object(fs, oss):
    """The object is named with what was published; the others are stored."""
    oss.faults.add(Fault(key="007", wrong_crc=True, times=None))
    found, given = fs.pipe(values(40), on_error="return"), values(40)
    failed = [one for one in found if isinstance(one, Exception)]
    assert [(type(one), one.path) for one in failed] == [
        (IntegrityError, f"{ROOT}/007")
    ]
    assert stored(oss) == given


def test_what_a_grant_refuses_fails_its_object(oss, tries):
    """It is named and nothing of it is sent; the others are stored."""
    for make in (
        lambda: OSSPresignedFileSystem(grant=grant_of(oss, ROOT, "in/")),
        lambda: filesystem(GrantServer(lambda: grant_of(oss, ROOT, "in/"))),
    ):
        tries.clear()
        given = {f"{ROOT}/{'out' if n == 7 else 'in'}/{n}": b"x" for n in range(20)}
        found = make().pipe(given, on_error="return")
        failed = [one for one in found if isinstance(one, Exception)]
        assert [(type(one), one.path) for one in failed] == [
            (NotSignedError, f"{ROOT}/out/7")
        ]
        assert len(tries) == 19


def test_an_expired_grant_is_renewed_on_the_way(oss, server):
    """One refusal of the store costs one more call, by a worker; all are stored."""
    oss.faults.add(Fault(key="030", times=1, **EXPIRED))
    given = values(80)
    assert len(filesystem(server).pipe(given)) == 80
    assert server.threads == ["osspresigned-file"] * 2
    assert stored(oss) == given


def test_a_grant_that_ends_soon_is_renewed_ahead(oss, server, tries):
    """A worker fetches the next one, and nothing is sent by the old one."""
    now = time.time()
    source = FetchedGrant("http://127.0.0.1/grant", exchange=server, clock=lambda: now)
    fs = OSSPresignedFileSystem(signer=PostGrantSigner(source))
    fs.pipe(values(9))
    now += 3590
    given = values(30)
    assert len(fs.pipe(given)) == 30
    assert server.threads == ["osspresigned-file"] * 2
    assert {one.signed.issued_at for one in tries[9:]} == {now}
    assert stored(oss) == given


def test_objects_under_way_do_not_wait_for_a_server(oss, server, tries):
    """While the server keeps a call waiting, all replies to what was sent are read."""
    ended = 0
    waiting: list[int] = []
    wait = Lane.wait

    def counted(self, seconds):
        nonlocal ended
        found = wait(self, seconds)
        ended += len(found)
        return found

    def make():
        if len(server.threads) > 1:
            for _ in range(3000):
                if ended == len(tries):
                    break
                Event().wait(0.01)
            waiting.append(len(tries) - ended)
        return grant_of(oss, ROOT, "")

    server.make, given = make, values(60)
    oss.faults.add(
        Fault(key="010", times=1, **EXPIRED),
        *(Fault(key=f"{n:03}", delay=0.3, times=1) for n in range(11, 40)),
    )
    fs = filesystem(server, max_concurrency=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "wait", counted)
        assert len(fs.pipe(given)) == 60
    assert waiting == [0]
    assert stored(oss) == given


def test_other_calls_go_on_while_a_server_waits(oss, server):
    """The lane of one call waits for no grant of another one."""
    free = Event()

    def make():
        assert free.wait(30)
        return grant_of(oss, ROOT, "")

    server.make = make
    call = threading.Thread(target=filesystem(server).pipe, args=(values(5),))
    call.start()
    try:
        fs = OSSPresignedFileSystem(grant=grant_of(oss, ROOT, ""))
        assert len(fs.pipe({f"{ROOT}/other{n}": b"x" for n in range(9)})) == 9
    finally:
        free.set()
        call.join()
    assert len(stored(oss)) == 14


def test_an_outage_of_a_server_is_waited_for(oss, server):
    """Fetching is tried again as by one caller, and every object is stored."""
    failures = 3

    def make():
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise NetworkError("away")
        return grant_of(oss, ROOT, "")

    server.make, given = make, values(40)
    assert len(filesystem(server).pipe(given)) == 40
    assert stored(oss) == given


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("no grant", SignerError), (NetworkError("away"), SignerUnavailableError)],
)
def test_a_server_without_a_grant_fails_each_object(oss, server, tries, answer, kind):
    """Each object has an error with its own path, and nothing is sent."""

    def make():
        if isinstance(answer, Exception):
            raise answer
        return answer

    server.make, given = make, values(6)
    found = filesystem(server, retries=1).pipe(given, on_error="return")
    assert [(type(one), one.path) for one in found] == [(kind, path) for path in given]
    assert not tries


def test_a_lane_that_breaks_waits_for_its_server(oss, server):
    """The call ends when the server was asked for the last time."""
    asking = 0

    def make():
        nonlocal asking
        asking += 1
        Event().wait(0.1)
        asking -= 1
        return grant_of(oss, ROOT, "")

    def fail(*_):
        raise MemoryError

    server.make, given = make, values(9)
    fs = filesystem(server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "wait", fail)
        with pytest.raises(MemoryError):
            fs.pipe(given)
    assert asking == 0
    assert len(fs.pipe(given)) == 9
    assert stored(oss) == given


class WaitingSigner:
    """Signs by the keys of the store; a user's signer, which may wait."""

    def __init__(self, oss: Any) -> None:
        self.threads: set[str] = set()
        self._keys = KeySigner(
            credentials=lambda: oss.credentials,
            endpoint=oss.endpoint,
            region="cn-hangzhou",
        )

    def sign(self, operations):
        """Sign *operations*."""
        self.threads.add(threading.current_thread().name.rpartition("-")[0])
        return self._keys.sign(operations)


def test_a_signer_after_a_grant_is_called_by_workers(oss, tries):
    """A lane that signs forms itself never calls the other signer of a chain."""
    signer = WaitingSigner(oss)
    fs = OSSPresignedFileSystem(grant=grant_of(oss, ROOT, "in/"), signer=signer)
    given = {f"{ROOT}/{'out' if n % 2 else 'in'}/{n}": b"x" for n in range(30)}
    assert len(fs.pipe(given)) == 30
    assert {record.action for record in oss.requests} == {"PostObject", "PutObject"}
    assert len(tries) == 30
    assert signer.threads == {"osspresigned-file"}


@pytest.mark.slow
def test_many_forms_and_nothing_else(oss, server, tries):
    """5,000 values are 5,000 requests, all of them by the lane."""
    given = {f"{ROOT}/{n}": b"%d" % n for n in range(5_000)}
    assert len(filesystem(server).pipe(given)) == 5_000
    assert len(server.threads) == 1
    assert len(tries) == len(oss.requests) == 5_000
    assert {record.action for record in oss.requests} == {"PostObject"}
    assert stored(oss) == given
