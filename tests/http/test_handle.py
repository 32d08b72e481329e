"""Handles: which connections are used again, by which thread and process."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import fsspec
import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.body import SMALL
from fsspec_osspresigned.http.handle import MAX_ORIGINS
from fsspec_osspresigned.http.transfer import Exchange
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from tests.http.conftest import ok


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("secure", [False, True])
def test_child_opens_its_own_connection(serve, certified, trusted, secure, in_thread):
    """Parent and child never share a socket, and the parent's stays open."""

    def script(peer):
        if secure:
            peer.secure(certified)
        ok(peer)

    server = serve(script)
    origin = server.origin.replace("http", "https") if secure else server.origin
    transport = Transport(allow_http=True)
    signed = SignedRequest(method="PUT", url=f"{origin}/b/k")
    exchange = Exchange(in_thread=in_thread)
    assert run(transport.send, signed, exchange=exchange).status == 200
    pid = os.fork()
    if not pid:  # pragma: no cover - coverage does not follow
        status = 1
        try:
            assert run(transport.send, signed, exchange=exchange).status == 200
            transport.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run(transport.send, signed, exchange=exchange).status == 200
    assert server.accepted == 2
    transport.close()


# -- all pools of a process -------------------------------------------------------------


def filesystem(server, number):
    """Return a filesystem with one URL, and so with a client of its own."""
    return fsspec.filesystem(
        "osspresigned",
        url=f"{server.origin}/b/{number}?x-oss-signature=TOPSECRET",
        skip_instance_cache=True,
    )


def test_filesystems_that_are_gone_leave_no_connection(serve):
    """Its client, and what its threads opened, go with the last reference to one."""

    def script(peer):
        while peer.request():
            peer.answer('ETag: "no MD5"')
        ended.release()

    server, ended, clients = serve(script), threading.Semaphore(0), []
    for number in range(20):
        fs = filesystem(server, number)
        fs.pipe_file("", bytes(SMALL + 1))
        clients.append(weakref.ref(fs.client))
    del fs
    gc.collect()
    assert [client() for client in clients] == [None] * 20
    assert all(ended.acquire(timeout=5) for _ in range(20))


def test_a_transport_keeps_the_connections_of_some_hosts(serve):
    """The connection to the host of the first request is closed; that of the last stays."""

    def script(peer):
        while peer.request():
            peer.answer('ETag: "no MD5"')
        ended.release()

    ended = threading.Semaphore(0)
    servers = [serve(script) for _ in range(MAX_ORIGINS + 1)]
    transport, exchange = Transport(allow_http=True), Exchange(in_thread=True)
    for server in [*servers, servers[-1]]:
        signed = SignedRequest(method="PUT", url=f"{server.origin}/b/k")
        assert run(transport.send, signed, exchange=exchange).status == 200
    assert ended.acquire(timeout=5)
    assert not ended.acquire(timeout=0.2)
    assert servers[-1].accepted == 1
    transport.close()
    assert all(ended.acquire(timeout=5) for _ in range(MAX_ORIGINS))
