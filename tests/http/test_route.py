"""Routes: proxies and certificate authorities, found as the library requests does."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from fsspec_osspresigned.errors import NetworkError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.handle import ProxyError, find_route

QUERY = "/b/k?x-oss-signature=TOPSECRET"


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


def test_authorities_of_certifi(monkeypatch):
    """Without a bundle in the environment, the authorities of certifi are trusted."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert find_route("https://b.example").authorities == DEFAULT_CA_BUNDLE_PATH
    assert find_route("http://b.example").authorities is None


def test_bundle_that_is_not_there(send, monkeypatch):
    """The message names the file that the environment names."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/bundle.pem")
    with pytest.raises(NetworkError, match=r"authorities at /no/such/bundle\.pem"):
        send(f"https://127.0.0.1:1{QUERY}")


def test_proxy_without_a_host(monkeypatch):
    """A malformed proxy is an error, and not passed over."""
    monkeypatch.setenv("https_proxy", "http://:3128")
    with pytest.raises(ProxyError):
        find_route("https://b.example")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_proxy_of_the_environment(monkeypatch, system):
    """Each system has its own place for proxies, and the environment is one of all."""
    monkeypatch.setattr(sys, "platform", system)
    assert find_route("https://a.example").proxy is None
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    assert find_route("https://b.example").proxy == "http://127.0.0.1:3128"


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
    with pytest.raises(NetworkError, match=r"a\.\.example failed: .*resolve"):
        send(f"http://a..example{QUERY}")


def test_proxy_without_a_scheme(monkeypatch):
    """The common short form is plain HTTP."""
    monkeypatch.setenv("https_proxy", "127.0.0.1:3128")
    route = find_route("https://b.example")
    assert route.proxy == "http://127.0.0.1:3128"
