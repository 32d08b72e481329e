"""Pool: which connections are used again, by which thread and process."""

from __future__ import annotations

import gc
import os
import shutil
import ssl
import subprocess
import sys
import threading
import weakref

import fsspec
import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.connection import ProxyError
from fsspec_osspresigned.http.pool import (
    MAX_ORIGINS,
    ConnectionPool,
    IdleConnections,
)

QUERY = "/b/k?x-oss-signature=TOPSECRET"


@pytest.fixture
def pool():
    """A pool that keeps two connections an origin."""
    one = ConnectionPool(2, 5.0, 5.0)
    yield one
    one.close()


def stay(peer):
    """Keep the connection open, in silence."""
    peer.server.done.wait(10)


def test_latest_connection_is_used_first(serve, pool):
    """The others may grow old, and be closed by the server."""
    route = pool.route_to(serve(stay).origin)
    first, second = pool.acquire(route), pool.acquire(route)
    for connection in (first, second):
        pool.release(connection, reusable=True)
    assert pool.acquire(route) is second
    assert pool.acquire(route) is first
    first.close()
    second.close()


def test_no_more_are_kept_than_wanted(serve, pool):
    """What is more is closed when it comes back."""
    route = pool.route_to(serve(stay).origin)
    found = [pool.acquire(route) for _ in range(3)]
    for connection in found:
        pool.release(connection, reusable=True)
    assert [one.sock.fileno() < 0 for one in found] == [False, False, True]


def test_bad_connection_is_closed(serve, pool):
    """A connection whose response has no certain end carries no other request."""
    route = pool.route_to(serve(stay).origin)
    connection = pool.acquire(route)
    pool.release(connection, reusable=False)
    assert connection.sock.fileno() < 0


@pytest.mark.parametrize("secure", [False, True])
def test_bytes_that_came_too_early(serve, pool, certified, trusted, secure):
    """What comes before a request is no answer to it: such a connection is closed."""
    come = threading.Event()

    def early(peer):
        if secure:
            peer.secure(certified)
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        come.set()
        stay(peer)

    server = serve(early)
    route = pool.route_to(f"{'https' if secure else 'http'}://{server.netloc}")
    connection = pool.acquire(route)
    assert come.wait(5)
    connection.sock.settimeout(5)
    if secure:
        # Reads a whole record, so that what is left waits in OpenSSL alone.
        assert connection.sock.recv(1) == b"H"
    pool.release(connection, reusable=True)
    other = pool.acquire(route)
    assert other is not connection
    assert connection.sock.fileno() < 0
    other.close()


def test_places_are_not_kept_for_ever(serve, pool):
    """Of many origins only the latest are remembered, with their connections."""
    server = serve(stay)
    first = pool.route_to(server.origin)
    idle, running = pool.acquire(first), pool.acquire(first)
    pool.release(idle, reusable=True)
    for number in range(MAX_ORIGINS):
        origin = f"http://127.0.0.{number + 2}"
        route = pool.route_to(origin)
        assert route.address == (f"127.0.0.{number + 2}", 80)
        assert pool.route_to(origin) is route
    assert idle.sock.fileno() < 0
    pool.release(running, reusable=True)
    assert running.sock.fileno() < 0
    assert pool.route_to(server.origin) is not first


def test_many_threads_share_a_pool(serve, pool):
    """No two threads get the same connection at the same time."""
    route = pool.route_to(serve(stay).origin)
    busy, wrong = set(), []

    def work():
        for _ in range(50):
            connection = pool.acquire(route)
            if connection in busy:
                wrong.append(connection)
            busy.add(connection)
            busy.discard(connection)
            pool.release(connection, reusable=True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("reused", [True, False])
def test_child_opens_its_own_connection(serve, pool, reused):
    """Parent and child never share a socket, and the parent's stays open."""
    server = serve(stay)
    route = pool.route_to(server.origin)
    connection = pool.acquire(route)
    if reused:
        pool.release(connection, reusable=True)
    pid = os.fork()
    if not pid:  # pragma: no cover - coverage does not follow
        status = 1
        try:
            if not reused:
                pool.release(connection, reusable=True)
            other = pool.acquire(pool.route_to(server.origin))
            status = 0 if other.sock.getsockname() != mine(connection) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert connection.is_clean()
    connection.close()


def test_pool_notices_that_it_was_forked(serve, pool, monkeypatch):
    """In another process, idle connections are closed and none is kept."""
    route = pool.route_to(serve(stay).origin)
    idle, running = pool.acquire(route), pool.acquire(route)
    pool.release(idle, reusable=True)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    pool.release(running, reusable=True)
    assert idle.sock.fileno() == running.sock.fileno() == -1
    assert pool.route_to(route.origin) is not route


def mine(connection):
    """Return the address of a socket; None if it was closed."""
    return connection.sock.getsockname() if connection.sock.fileno() >= 0 else None


def test_dropped_pool_closes_its_connections(serve):
    """Nobody has to close a transport that is not needed any more."""
    one = ConnectionPool(2, 5.0, 5.0)
    connection = one.acquire(one.route_to(serve(stay).origin))
    one.release(connection, reusable=True)
    del one
    assert connection.sock.fileno() < 0


# -- all pools of a process -------------------------------------------------------------


def is_open(connection):
    """Return whether the socket was not closed."""
    return connection.sock.fileno() >= 0


def used(pool, route):
    """Return a connection that carried a request, and was given back."""
    connection = pool.acquire(route)
    pool.release(connection, reusable=True)
    return connection


def test_few_connections_rest_in_a_process(serve):
    """However many pools there are, only the latest connections stay open."""
    server, idle = serve(stay), IdleConnections(most=3)
    pools = [ConnectionPool(2, 5.0, 5.0, idle) for _ in range(5)]
    found = [used(pool, pool.route_to(server.origin)) for pool in pools]
    assert [is_open(one) for one in found] == [False, False, True, True, True]
    for pool in pools:
        pool.close()
    assert not any(map(is_open, found))


def test_one_large_pool_keeps_its_own(serve):
    """A pool may keep as many as it was made for."""
    one = ConnectionPool(4, 5.0, 5.0, IdleConnections(most=1))
    route = one.route_to(serve(stay).origin)
    found = [one.acquire(route) for _ in range(5)]
    for connection in found:
        one.release(connection, reusable=True)
    assert [is_open(connection) for connection in found] == [True] * 4 + [False]
    one.close()


def test_long_rest_ends_a_connection(serve):
    """It is closed when any pool next gives or takes one; a younger one is used again."""
    now = [1000.0]
    server, idle = serve(stay), IdleConnections(seconds=60.0, clock=lambda: now[0])
    first, second = ConnectionPool(2, 5.0, 5.0, idle), ConnectionPool(2, 5.0, 5.0, idle)
    old = used(first, first.route_to(server.origin))
    now[0] += 50
    route = second.route_to(server.origin)
    young = used(second, route)
    now[0] += 20
    assert second.acquire(route) is young
    assert (is_open(old), is_open(young)) == (False, True)
    young.close()
    first.close()


def test_child_closes_all_connections(serve):
    """What a forked child does first: none of its parent's is left."""
    idle = IdleConnections()
    one = ConnectionPool(2, 5.0, 5.0, idle)
    route = one.route_to(serve(stay).origin)
    connection = used(one, route)
    idle.reset()
    assert not is_open(connection)
    assert used(one, route) is not connection
    one.close()


def test_filesystems_that_are_gone_leave_no_connection(serve):
    """Its client, and what that opened, go with the last reference to a filesystem."""

    def script(peer):
        while peer.request():
            peer.answer('ETag: "no MD5"')
        ended.release()

    server, ended, clients = serve(script), threading.Semaphore(0), []
    for number in range(20):
        fs = fsspec.filesystem(
            "osspresigned",
            url=f"{server.origin}/b/{number}?x-oss-signature=TOPSECRET",
            skip_instance_cache=True,
        )
        fs.pipe_file("", b"x")
        clients.append(weakref.ref(fs.client))
    del fs
    gc.collect()
    assert [client() for client in clients] == [None] * 20
    assert all(ended.acquire(timeout=5) for _ in range(20))


# -- the environment --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize(
    "folder",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl"),
        ),
    ],
)
def test_authorities_of_the_environment(
    serve, send, certified, authority, monkeypatch, tmp_path, name, folder
):
    """A file or a directory of authorities is found as requests finds it."""

    def script(peer):
        peer.secure(certified)
        peer.request()
        peer.answer()

    where = authority.file
    if folder:
        ask = ["openssl", "x509", "-noout", "-hash", "-in", where]
        found = subprocess.run(ask, check=True, capture_output=True, text=True)
        shutil.copy(where, tmp_path / f"{found.stdout.strip()}.0")
        where = str(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, where)
    server = serve(script)
    assert send(f"https://{server.netloc}{QUERY}", MemoryBody.of(b"a")).status == 200


def test_authorities_of_certifi(pool, monkeypatch):
    """Without a bundle in the environment, the authorities of certifi are trusted."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    theirs = ssl.create_default_context(cafile=DEFAULT_CA_BUNDLE_PATH)
    ours = pool.route_to("https://b.example").tls
    assert ours.get_ca_certs() == theirs.get_ca_certs()
    assert ours.verify_mode is ssl.CERT_REQUIRED
    assert ours.check_hostname


def test_bundle_that_is_not_there(send, monkeypatch):
    """The message names the file that the environment names."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(NetworkError, match=r"authorities at /no/such/bundle\.pem"):
        send(f"https://127.0.0.1:1{QUERY}")


def test_proxy_without_a_host(pool, monkeypatch):
    """A malformed proxy is an error, and not passed over."""
    monkeypatch.setenv("https_proxy", "http://:3128")
    with pytest.raises(ProxyError):
        pool.route_to("https://b.example")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_proxy_of_the_environment(pool, monkeypatch, system):
    """Each system has its own place for proxies, and the environment is one of all."""
    monkeypatch.setattr(sys, "platform", system)
    assert pool.route_to("https://a.example").proxy is None
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    assert pool.route_to("https://b.example").over_http


@pytest.mark.parametrize("url", ["socks9://h:1", "http://u:TOPSECRET@h:port"])
def test_proxy_that_cannot_be_used(send, monkeypatch, url):
    """The proxy is blamed, without its password."""
    monkeypatch.setenv("https_proxy", url)
    with pytest.raises(NetworkError, match=r"proxy or b\.example failed") as caught:
        send(f"https://b.example{QUERY}")
    assert not caught.value.sent
    assert "TOPSECRET" not in str(caught.value)


def test_host_without_a_label(send):
    """A name that DNS cannot hold is a failed connection, like one that it has not."""
    with pytest.raises(NetworkError, match=r"a\.\.example failed: .* not known"):
        send(f"http://a..example{QUERY}")


def test_proxy_without_a_scheme(pool, monkeypatch):
    """The common short form is plain HTTP."""
    monkeypatch.setenv("https_proxy", "127.0.0.1:3128")
    route = pool.route_to("https://b.example")
    assert route.proxy.proxy.url == "http://127.0.0.1:3128"
