"""The target arrives byte for byte, whatever stands between signer and server."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NetworkError,
    NetworkTimeoutError,
)
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.urls import url_problem

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


def plain(peer):
    """Answer every request."""
    while peer.request():
        peer.answer()


def in_tls(context):
    """Answer every request in TLS."""

    def script(peer):
        peer.secure(context)
        plain(peer)

    return script


def tunnel(context):
    """Be a proxy that consents to CONNECT, and the server behind it."""

    def script(peer):
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        peer.secure(context)
        plain(peer)

    return script


def tunnel_in_tls(context, script=plain):
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
                        return near.close()
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
        reply = send(origin + target, MemoryBody.of(b"%d" % number))
        assert reply.status == 200


def hosts(server):
    """Return the Host headers of all requests."""
    lines = [line for head in server.heads for line in head.split(b"\r\n")]
    return {line[6:].decode() for line in lines if line.lower().startswith(b"host: ")}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_without_a_proxy(serve, send, host):
    """One connection carries them all, to an IPv6 literal too."""
    server = serve(plain, host=host)
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
    proxy = serve(plain)
    monkeypatch.setenv("HTTP_PROXY", proxy.origin)
    monkeypatch.setenv("http_proxy", proxy.origin)
    origin = "http://xn--bcher-kva.example:81"
    send_all(send, origin)
    assert proxy.targets == [origin + target for target in TARGETS]
    assert hosts(proxy) == {"xn--bcher-kva.example:81"}


def test_forward_proxy_in_tls(serve, send, certified, trusted, monkeypatch):
    """The same if the proxy itself is reached by TLS."""
    proxy = serve(in_tls(certified))
    monkeypatch.setenv("http_proxy", f"https://{proxy.netloc}")
    send_all(send, "http://b.example")
    assert proxy.targets == [f"http://b.example{target}" for target in TARGETS]


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


def test_tunnel_in_tls(serve, send, certified, trusted, monkeypatch):
    """A proxy that is reached by TLS changes nothing for the TLS inside."""
    proxy = serve(tunnel_in_tls(certified))
    monkeypatch.setenv("https_proxy", f"https://{proxy.netloc}")
    send_all(send, "https://b.example")
    assert proxy.targets == ["b.example:443", *TARGETS]
    assert proxy.bodies == [b"%d" % n for n in range(len(TARGETS))]


def test_silence_in_a_tunnel_in_tls(serve, send, certified, trusted, monkeypatch):
    """There a call cannot be taken up again, so it waits the whole window at once."""

    def silent(peer):
        peer.request()
        peer.server.done.wait(10)

    proxy = serve(tunnel_in_tls(certified, silent))
    monkeypatch.setenv("https_proxy", f"https://{proxy.netloc}")
    with pytest.raises(NetworkTimeoutError, match="waiting for the answer: 3 of 3"):
        send("https://b.example/k?x", MemoryBody.of(b"abc"), seconds=0.15)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_hosts_without_a_proxy(serve, send, monkeypatch, host):
    """``NO_PROXY`` is honoured."""
    server, proxy = serve(plain, host=host), serve(plain)
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


def test_certificate_of_another_host(serve, send, certified, trusted, monkeypatch):
    """A trusted authority does not vouch for whom it does not name."""
    monkeypatch.setenv("https_proxy", serve(tunnel(certified)).origin)
    with pytest.raises(NetworkError, match="certificate"):
        send("https://other.example/k?x")


def test_proxy_that_refuses(serve, send, monkeypatch):
    """What the proxy says is shown, cleaned."""

    def refuse(peer):
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 407 Not\x1b you Signature=TOPSECRET\r\n\r\n")

    monkeypatch.setenv("https_proxy", serve(refuse).origin)
    with pytest.raises(NetworkError, match="407 Not  you Signature=<hidden>"):
        send("https://b.example/k?x")


def test_name_outside_ascii(send):
    """A host must come as DNS knows it: nobody translates it on the way."""
    assert url_problem("https://bücher.example/k") is not None
    with pytest.raises(ConfigurationError, match="outside ASCII"):
        send("https://bücher.example/k?x")
