"""Routes: proxies and certificate authorities, found as the library requests does."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pycurl
import pytest
import trustme
from attrs import evolve
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
    assert send(f"https://{server.netloc}{QUERY}", MemoryBody(b"a")).status == 200


@pytest.mark.parametrize("folder", [False, True])
def test_authorities_of_the_environment_are_the_only_ones(
    serve, send, certified, authority, tmp_path, folder
):
    """The default authorities of libcurl are not trusted beside them."""

    def script(peer):
        with contextlib.suppress(OSError):
            peer.secure(certified)

    server = serve(script)
    (tmp_path / "system.pem").write_bytes(Path(authority.file).read_bytes())
    (tmp_path / "none").mkdir()
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    route = find_route("https://b.example")
    where = str(tmp_path / "none" if folder else other)
    easy = pycurl.Curl()
    easy.setopt(pycurl.URL, f"https://{server.netloc}/")
    easy.setopt(pycurl.CAINFO, str(tmp_path / "system.pem"))
    evolve(route, authorities=where).set_up(easy)
    with pytest.raises(pycurl.error) as caught:
        easy.perform()
    easy.close()
    assert caught.value.args[0] == pycurl.E_PEER_FAILED_VERIFICATION


def test_no_proxy_is_read_once(serve, send, monkeypatch):
    """A value that libcurl reads in another way does not lead past the proxy."""
    proxy = serve(lambda peer: (peer.request(), peer.answer()))
    monkeypatch.setenv("http_proxy", f"http://{proxy.netloc}")
    monkeypatch.setenv("no_proxy", "::/8")
    origin = "http://127.0.0.1:1"
    assert find_route(origin).proxy is not None
    assert send(f"{origin}{QUERY}", MemoryBody(b"a")).status == 200


def test_authorities_of_certifi(monkeypatch):
    """Without a bundle in the environment, the authorities of certifi are trusted."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert find_route("https://b.example").authorities == DEFAULT_CA_BUNDLE_PATH
    assert find_route("http://b.example").authorities is None


def test_proxy_without_a_host(monkeypatch):
    """A malformed proxy is an error, and not passed over."""
    monkeypatch.setenv("https_proxy", "http://:3128")
    with pytest.raises(ProxyError):
        find_route("https://b.example")


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_proxy_of_the_environment(monkeypatch, system):
    """Proxies are read from the system's settings and from the environment."""
    monkeypatch.setattr(sys, "platform", system)
    assert find_route("https://a.example").proxy is None
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:3128")
    assert find_route("https://b.example").proxy == "http://127.0.0.1:3128"


@pytest.mark.parametrize(
    "url",
    ["socks9://h:1", "http://u:TOPSECRET@h:port", "http://u:TOPSECRET/AND@h:1"],
)
def test_proxy_that_cannot_be_used(send, monkeypatch, url):
    """The proxy is blamed, without its password."""
    monkeypatch.setenv("https_proxy", url)
    with pytest.raises(NetworkError, match=r"proxy or b\.example failed") as caught:
        send(f"https://b.example{QUERY}")
    assert not caught.value.sent
    assert "TOPSECRET" not in str(caught.value)


def test_proxy_without_a_scheme(monkeypatch):
    """The common short form is plain HTTP."""
    monkeypatch.setenv("https_proxy", "127.0.0.1:3128")
    route = find_route("https://b.example")
    assert route.proxy == "http://127.0.0.1:3128"
