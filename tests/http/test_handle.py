"""Handles: which connections are used again, by which thread and process."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import fsspec
import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import SMALL
from fsspec_osspresigned.http.handle import MAX_ORIGINS, Handle, HandlePool, IdleHandles
from fsspec_osspresigned.http.transfer import Exchange
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest

ORIGIN = "http://127.0.0.1:1"


@pytest.fixture
def pool():
    """A pool that keeps two handles for each origin."""
    one = HandlePool(2, 5.0, 5.0)
    yield one
    one.close()


def polite(peer):
    """Answer every request."""
    while peer.request():
        peer.answer()


def open_ones(handles):
    """Return for each of *handles* whether it is open."""
    return [not handle.easy.closed for handle in handles]


def test_latest_handle_is_used_first(pool):
    """The others may grow old, and their connections be closed by the server."""
    route = pool.route_to(ORIGIN)
    first, second = pool.acquire(route), pool.acquire(route)
    for handle in (first, second):
        pool.release(handle, reusable=True)
    assert pool.acquire(route) is second
    assert pool.acquire(route) is first


def test_no_more_are_kept_than_wanted(pool):
    """What is more is closed when it comes back, and so is what cannot be used again."""
    route = pool.route_to(ORIGIN)
    handles = [pool.acquire(route) for _ in range(4)]
    for handle in handles:
        pool.release(handle, reusable=handle is not handles[0])
    assert open_ones(handles) == [False, True, True, False]


def test_places_are_not_kept_for_ever(pool):
    """Of many origins only the latest are remembered, with their handles."""
    first = pool.route_to(ORIGIN)
    idle, running = pool.acquire(first), pool.acquire(first)
    pool.release(idle, reusable=True)
    for number in range(MAX_ORIGINS):
        origin = f"http://127.0.0.{number + 2}"
        assert pool.route_to(origin) is pool.route_to(origin)
    pool.release(running, reusable=True)
    assert open_ones([idle, running]) == [False, False]
    assert pool.route_to(ORIGIN) is not first


def test_many_threads_share_a_pool(pool):
    """No two threads get the same handle at the same time."""
    route = pool.route_to(ORIGIN)
    busy, wrong = set(), []

    def work():
        for _ in range(50):
            handle = pool.acquire(route)
            if handle in busy:
                wrong.append(handle)
            busy.add(handle)
            busy.discard(handle)
            pool.release(handle, reusable=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("in_thread", [False, True])
@pytest.mark.parametrize("secure", [False, True])
def test_child_opens_its_own_connection(serve, certified, trusted, secure, in_thread):
    """Parent and child never share a socket, and the parent's stays open."""

    def script(peer):
        if secure:
            peer.secure(certified)
        polite(peer)

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


def test_closed_transport_leaves_no_connection(serve):
    """A dropped transport is closed, too; the threads' connections are its own."""
    ended = threading.Semaphore(0)

    def script(peer):
        polite(peer)
        ended.release()

    signed = SignedRequest(method="PUT", url=f"{serve(script).origin}/b/k")
    exchange = Exchange(in_thread=True)
    transport = Transport(allow_http=True)
    run(transport.send, signed, exchange=exchange)
    transport.close()
    assert ended.acquire(timeout=5)
    transport = Transport(allow_http=True)
    run(transport.send, signed, exchange=exchange)
    del transport
    gc.collect()
    assert ended.acquire(timeout=5)


# -- all pools of a process -------------------------------------------------------------


def used(pool):
    """Return a handle that was given back."""
    handle = pool.acquire(pool.route_to(ORIGIN))
    pool.release(handle, reusable=True)
    return handle


def test_few_handles_rest_in_a_process():
    """However many pools there are, only the latest handles stay open."""
    idle = IdleHandles(most=3)
    pools = [HandlePool(2, 5.0, 5.0, idle) for _ in range(5)]
    handles = [used(pool) for pool in pools]
    assert open_ones(handles) == [False, False, True, True, True]
    for pool in pools:
        pool.close()
    assert not any(open_ones(handles))


def test_one_large_pool_keeps_its_own():
    """A pool may keep as many as it was made for."""
    one = HandlePool(4, 5.0, 5.0, IdleHandles(most=1))
    route = one.route_to(ORIGIN)
    handles = [one.acquire(route) for _ in range(5)]
    for handle in handles:
        one.release(handle, reusable=True)
    assert open_ones(handles) == [True] * 4 + [False]
    one.close()


def test_long_rest_ends_a_handle():
    """It is closed when any pool next gives or takes one; a younger one is used again."""
    now = [1000.0]
    idle = IdleHandles(seconds=60.0, clock=lambda: now[0])
    first, second = HandlePool(2, 5.0, 5.0, idle), HandlePool(2, 5.0, 5.0, idle)
    old = used(first)
    now[0] += 50
    young = used(second)
    now[0] += 20
    assert second.acquire(second.route_to(ORIGIN)) is young
    assert open_ones([old, young]) == [False, True]
    first.close()


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


def test_filesystems_share_the_connections_of_the_loop(serve):
    """Small objects go by few connections, however many filesystems there were."""

    def script(peer):
        while peer.request():
            peer.answer('ETag: "no MD5"')

    server, clients = serve(script), []
    for number in range(20):
        fs = filesystem(server, number)
        fs.pipe_file("", b"x")
        clients.append(weakref.ref(fs.client))
    del fs
    gc.collect()
    assert [client() for client in clients] == [None] * 20
    assert (len(server.bodies), server.accepted) == (20, 1)


def test_failure_does_not_wait_until_its_handle_is_closed(send_by_thread, monkeypatch):
    """Libcurl closes a handle only when the system has ended the lookup of a name."""
    lookup, closed = threading.Event(), threading.Event()

    def close(handle):
        assert lookup.wait(10)
        handle.easy.close()
        closed.set()

    monkeypatch.setattr(Handle, "close", close)
    with pytest.raises(NetworkError, match="refused"):
        send_by_thread(f"{ORIGIN}/b/k")
    lookup.set()
    assert closed.wait(10)
