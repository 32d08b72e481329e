"""What debugging switches show: never a signed target, a signature or a token."""

from __future__ import annotations

import asyncio
import http.client
import logging

import fsspec
import pytest

from fsspec_osspresigned.errors import NetworkError

QUERY = "/b/k?x-oss-signature=TOPSECRET&x-oss-security-token=TOPSECRET"


def ok(peer):
    """Answer every request."""
    while peer.request():
        peer.answer('ETag: "no MD5"')


def leave(peer):
    """Read a request and go."""
    peer.request()


def test_debug_level_through_a_tunnel(
    serve, send, certified, trusted, monkeypatch, capfd
):
    """Nor those behind a proxy, its own consent included."""

    def tunnel(peer):
        peer.head()
        peer.sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.secure(certified)
        ok(peer)

    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    proxy = serve(tunnel)
    monkeypatch.setenv("https_proxy", f"http://u:TOPSECRET@{proxy.netloc}")
    send("https://b.example" + QUERY)
    assert proxy.targets == ["b.example:443", QUERY]
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_debug_logs(serve, send, monkeypatch, caplog):
    """Hosts and paths are told at DEBUG: of successes, failures and proxies."""
    server = serve(ok, leave, lambda peer: peer.reset())
    with caplog.at_level(logging.DEBUG):
        send(server.origin + QUERY)
        monkeypatch.setenv("http_proxy", f"http://u:TOPSECRET@{server.netloc}")
        for number in range(2):
            with pytest.raises(NetworkError):
                send(f"http://{number}.example{QUERY}")
    lines = [r.getMessage() + str(r.args) + str(r.exc_text) for r in caplog.records]
    assert any("http.handle" in record.name for record in caplog.records)
    assert any('/b/k HTTP/1.1" 200' in line for line in lines)
    assert not any("TOPSECRET" in line for line in lines)


def test_debug_mode_of_asyncio(serve, caplog):
    """A loop that logs each slow step names functions only."""
    server = serve(ok)

    async def main():
        asyncio.get_running_loop().slow_callback_duration = 0.0
        fs = fsspec.filesystem(
            "osspresigned",
            url=server.origin + QUERY,
            asynchronous=True,
            skip_instance_cache=True,
        )
        await fs._pipe_file("", b"abc")
        return fs

    with caplog.at_level(logging.DEBUG):
        fs = asyncio.run(main(), debug=True)
    fs.client.transport.close()
    assert server.bodies == [b"abc"]
    assert any(record.name == "asyncio" for record in caplog.records)
    assert "TOPSECRET" not in caplog.text
