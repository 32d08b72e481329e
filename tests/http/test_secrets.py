"""Debugging switches never show a signed target, a signature or a token."""

from __future__ import annotations

import logging

import pytest

from fsspec_osspresigned.errors import NetworkError
from tests.http.conftest import ok

QUERY = "/b/k?x-oss-signature=TOPSECRET&x-oss-security-token=TOPSECRET"


def leave(peer):
    """Read a request and go."""
    peer.request()


def test_debug_logs(serve, send, monkeypatch, caplog):
    """DEBUG logs show only hosts and paths: of successes, failures and proxies."""
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
