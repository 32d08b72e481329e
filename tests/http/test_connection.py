"""The target arrives byte for byte, also through proxies."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from base64 import b64encode

import pytest

from fsspec_osspresigned.errors import (
    NetworkError,
)
from fsspec_osspresigned.http.body import MemoryBody
from tests.http.conftest import ok

TARGETS = [
    "/k?x-oss-signature=%2b%2B%7e%7E~+/=",
    "/a/../b/./c?x",
    "/../../k?x",
    "/..?x",
    "/.?x",
    "/a/..?x=/../y",
    "//two//slashes//?x=//",
    "/dots./..k../...?x",
    "/%2F%2f/a%2Fb?x=%2f",
    "/%2E%2E/k?x=%2e%2e/",
    "/%7E~%7e?x=~",
    '/{a}|b\\c^`"<>[]?x={}|\\^`"<>[]',
    "/%E4%B8%AD%e4%b8%ad?x",
    "/k;p=1,2!$'()*@:&=+?x=?&&==",
    "/http://other.example/?x=http://o/",
    "/k?",
    "/?x",
]


def in_tls(context):
    """Answer every request in TLS."""

    def script(peer):
        peer.secure(context)
        ok(peer)

    return script


def tunnel(context):
    """Be a proxy that consents to CONNECT, and the server behind it."""

    def script(peer):
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.secure(context)
        ok(peer)

    return script


def tunnel_in_tls(context, script=ok):
    """Be a proxy that is reached by TLS itself, and the server behind it."""

    def pump(outer, near):
        with contextlib.suppress(OSError):
            while True:
                ready = [outer] if outer.pending() else []
                ready = ready or select.select([outer, near], [], [])[0]
                for one in ready:
                    other = near if one is outer else outer
                    block = one.recv(65536)
                    if not block:
                        return other.close()
                    other.sendall(block)

    def consent(peer):
        peer.secure(context)
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        near, far = socket.socketpair()
        peer.server.socks += [near, far]
        thread = threading.Thread(target=pump, args=(peer.sock, near), daemon=True)
        peer.server.threads.append(thread)
        thread.start()
        peer.sock = far
        peer.secure(context)
        script(peer)

    return consent


def send_all(send, origin):
    """Send every target, with a body, so that mixed-up requests would show."""
    for number, target in enumerate(TARGETS):
        reply = send(origin + target, MemoryBody(b"%d" % number))
        assert reply.status == 200


def hosts(server):
    """Return the Host headers of all requests."""
    lines = [line for head in server.heads for line in head.split(b"\r\n")]
    return {line[6:].decode() for line in lines if line.lower().startswith(b"host: ")}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_without_a_proxy(serve, send, host):
    """One connection carries them all, to an IPv6 literal too."""
    server = serve(ok, host=host)
    send_all(send, server.origin)
    assert server.targets == TARGETS
    assert server.accepted == 1
    assert hosts(server) == {server.netloc}
    assert server.bodies == [b"%d" % n for n in range(len(TARGETS))]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tls(serve, send, certified, trusted, host):
    """A private authority is trusted where the environment names it."""
    server = serve(in_tls(certified), host=host)
    send_all(send, f"https://{server.netloc}")
    assert server.targets == TARGETS
    assert hosts(server) == {server.netloc}


def test_forward_proxy(serve, send, monkeypatch):
    """A proxy for plain http gets each URL whole, its dots and slashes too."""
    proxy = serve(ok)
    monkeypatch.setenv("HTTP_PROXY", proxy.origin)
    monkeypatch.setenv("http_proxy", proxy.origin)
    origin = "http://xn--bcher-kva.example:81"
    send_all(send, origin)
    assert proxy.targets == [origin + target for target in TARGETS]
    assert hosts(proxy) == {"xn--bcher-kva.example:81"}


@pytest.mark.parametrize("host", ["b.example", "xn--bcher-kva.example", "[::1]"])
def test_tunnel(serve, send, certified, trusted, monkeypatch, host):
    """The proxy learns the host; the server behind it gets the exact targets."""
    proxy = serve(tunnel(certified))
    monkeypatch.setenv("HTTPS_PROXY", proxy.origin)
    monkeypatch.setenv("https_proxy", proxy.origin)
    send_all(send, f"https://{host}")
    # Without the brackets from Pythons before 3.11.9, unless urllib3 makes up for it.
    assert proxy.targets[0] in (f"{host}:443", f"{host.strip('[]')}:443")
    assert proxy.targets[1:] == TARGETS
    assert b"x-oss" not in proxy.heads[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_hosts_without_a_proxy(serve, send, monkeypatch, host):
    """``NO_PROXY`` is honoured."""
    server, proxy = serve(ok, host=host), serve(ok)
    monkeypatch.setenv("http_proxy", proxy.origin)
    monkeypatch.setenv("no_proxy", "other.example,127.0.0.1,::1,[::1]")
    send(server.origin + "/k?x")
    assert (server.targets, proxy.accepted) == (["/k?x"], 0)


def test_authority_that_nobody_named(serve, send, certified):
    """An unknown authority is refused before a byte goes out, with what to do."""
    server = serve(in_tls(certified))
    with pytest.raises(NetworkError, match="REQUESTS_CA_BUNDLE") as caught:
        send(f"https://{server.netloc}/k?x-oss-signature=TOPSECRET")
    assert "certificate" in caught.value.message
    assert not caught.value.sent
    assert server.heads == []


@pytest.mark.parametrize("inner", [False, True])
def test_cut_in_tls(serve, send, certified, trusted, monkeypatch, inner):
    """An answer whose end is that of its connection needs the end of TLS, too."""

    def cut(peer):
        peer.request()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        socket.socket(fileno=peer.sock.detach()).close()

    def secured(peer):
        peer.secure(certified)
        cut(peer)

    server = serve(tunnel_in_tls(certified, cut) if inner else secured)
    url = f"https://{server.netloc}/k?x"
    if inner:
        monkeypatch.setenv("https_proxy", f"https://{server.netloc}")
        url = "https://b.example/k?x"
    with pytest.raises(NetworkError, match="TLS was cut before its end") as caught:
        send(url, method="GET")
    assert caught.value.sent


def test_certificate_of_another_host(serve, send, certified, trusted, monkeypatch):
    """A certificate of a trusted authority for another host is refused."""
    monkeypatch.setenv("https_proxy", serve(tunnel(certified)).origin)
    with pytest.raises(NetworkError, match="certificate"):
        send("https://other.example/k?x")


def test_proxy_that_refuses(serve, send, monkeypatch):
    """The proxy's reply is shown, with control characters escaped."""

    def refuse(peer):
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 407 Not\x1b you Signature=TOPSECRET\r\n\r\n")

    monkeypatch.setenv("https_proxy", serve(refuse).origin)
    with pytest.raises(NetworkError, match="407 Not  you Signature=<hidden>"):
        send("https://b.example/k?x")


# -- proxies: credentials, certificates, SOCKS ------------------------------------------


def test_credentials_of_a_tunnel(serve, send, certified, trusted, monkeypatch):
    """The proxy gets them when it is asked for the tunnel, and the server never."""
    proxy = serve(tunnel(certified))
    monkeypatch.setenv("https_proxy", f"http://u:p@{proxy.netloc}")
    send("https://b.example/k?x")
    assert b"Proxy-Authorization: Basic " + b64encode(b"u:p") in proxy.heads[0]
    assert b"proxy-authorization" not in proxy.heads[1].lower()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_of_an_unknown_authority(serve, send, certified, monkeypatch, scheme):
    """A proxy that is reached by TLS is verified before it learns anything."""
    proxy = serve(tunnel_in_tls(certified))
    monkeypatch.setenv(f"{scheme}_proxy", f"https://u:TOPSECRET@{proxy.netloc}")
    with pytest.raises(
        NetworkError, match=r"proxy or b\.example.*certificate"
    ) as found:
        send(f"{scheme}://b.example/k?x")
    assert not found.value.sent
    assert "TOPSECRET" not in str(found.value)
    assert proxy.heads == []


def socks(script, asked, *, consents=True):
    """Be a SOCKS 5 proxy that wants a password, and the server behind it."""

    def consent(peer):
        peer.sock.recv(64)
        peer.sock.sendall(b"\x05\x02")
        asked.append(peer.sock.recv(64))
        peer.sock.sendall(b"\x01\x00")
        asked.append(peer.sock.recv(64))
        peer.sock.sendall(bytes((5, 0 if consents else 2, 0, 1)) + bytes(6))
        if consents:
            script(peer)

    return consent


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_socks_proxy(serve, send, certified, trusted, monkeypatch, scheme):
    """Targets are exact, and their host is looked up where ``socks5h`` says."""
    pytest.importorskip("socks")
    asked = []
    script = ok if scheme == "http" else in_tls(certified)
    proxy = serve(socks(script, asked))
    monkeypatch.setenv(f"{scheme}_proxy", f"socks5h://u:p@{proxy.netloc}")
    send_all(send, f"{scheme}://b.example")
    port = 80 if scheme == "http" else 443
    assert asked == [
        b"\x01\x01u\x01p",
        b"\x05\x01\x00\x03\x09b.example" + port.to_bytes(2),
    ]
    assert proxy.targets == TARGETS


def test_socks_proxy_that_refuses(serve, send, monkeypatch):
    """It is blamed, without its password."""
    pytest.importorskip("socks")
    proxy = serve(socks(ok, [], consents=False))
    monkeypatch.setenv("https_proxy", f"socks5h://u:TOPSECRET@{proxy.netloc}")
    with pytest.raises(NetworkError, match=r"proxy or b\.example") as caught:
        send("https://b.example/k?x")
    assert not caught.value.sent
    assert "TOPSECRET" not in str(caught.value)
