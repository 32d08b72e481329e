"""What debugging switches show: never a signed target, a signature or a token."""

from __future__ import annotations

import asyncio
import http.client
import logging
import sys
import threading
import traceback

import fsspec
import pytest

from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transfer import Exchange
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from tests.engine_calls import Call

QUERY = "/b/k?x-oss-signature=TOPSECRET&x-oss-security-token=TOPSECRET"
TOKEN = {"Authorization": "Bearer TOPSECRET"}


def ok(peer):
    """Answer every request."""
    while peer.request():
        peer.answer('ETag: "no MD5"')


def leave(peer):
    """Read a request and go."""
    peer.request()


def test_debug_level_of_http_client(serve, send, monkeypatch, capfd):
    """The switch that prints all that is sent does not reach our connections."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    server = serve(ok)
    send(server.origin + QUERY, MemoryBody.of(b"abc"))
    assert server.targets == [QUERY]
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


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


def shown(error, skip=1):
    """Return a traceback with the variables of all frames but those of the test."""
    frames = error.__traceback__
    for _ in range(skip):
        frames = frames.tb_next
    found = traceback.TracebackException(
        type(error), error, frames, capture_locals=True
    )
    return "".join(found.format(chain=True))


@pytest.mark.parametrize("in_thread", [False, True])
def test_variables_of_a_cancelled_request(serve, in_thread):
    """Nor those of one that was cancelled."""
    asked = threading.Event()

    def silent(peer):
        peer.request()
        asked.set()
        peer.server.done.wait(1)  # the call waits for what may be stored

    transport = Transport(allow_http=True)
    signed = SignedRequest(method="PUT", url=serve(silent).origin + QUERY)
    body, exchange = MemoryBody.of(b"abc"), Exchange(in_thread=in_thread)
    call = Call(transport.send, signed, body, exchange).begin()
    assert asked.wait(10)
    call.cancel()
    error = call.wait()
    transport.close()
    assert isinstance(error, asyncio.CancelledError)
    assert "TOPSECRET" not in shown(error, skip=0)


def test_head_is_hidden_while_it_is_sent(serve, send):
    """The frames of all threads show a request without its query."""
    seen = []

    class Looking(MemoryBody):
        def blocks(self):
            for top in sys._current_frames().values():
                frame = top
                while frame is not None and frame.f_code.co_name != "one":
                    seen.append((frame.f_code.co_name, repr(frame.f_locals)))
                    frame = frame.f_back
            yield from super().blocks()

    server = serve(ok)
    send(server.origin + QUERY, Looking.of(b"abc"))
    assert server.targets == [QUERY]
    names = {name for name, _ in seen}
    assert "_main" in names
    assert not names.isdisjoint({"read", "_load"})
    ours = [text for name, text in seen if not name.startswith("test_")]
    assert not [text for text in ours if "TOPSECRET" in text]
