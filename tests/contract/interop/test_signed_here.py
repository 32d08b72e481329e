"""URLs that are signed here, uploaded with what others wrote."""

from __future__ import annotations

import asyncio
import os
import subprocess

import pytest

from tests.contract.interop.conftest import (
    BUCKET,
    OWNER,
    STS,
    Identity,
    library,
    program,
)
from tests.contract.interop.table import SIGNED_HERE

DATA = os.urandom(1_500_000)  # curl asks with Expect above 1 MB
HEADERS = {"Content-Type": "text/csv", "x-oss-meta-owner": "me"}
KEYS = [
    "a//b", "100%", "a%2Fb", "a+b", "~x", "ü é 目😀", "inner  blanks", "q?x=y", "h#x",
    "&=;,:@$", "!'()*", '"<>|\\^`{}[]',
]  # fmt: skip
DOTS = ["a/../b", "a/./b/..c"]


class Clients:
    """Each method puts a file to a URL with headers, and returns the status."""

    def __init__(self, node) -> None:
        self._node = node

    def curl(self, url, file, headers):
        """``curl -T``; the URL goes in by standard input, not on the command line."""
        asked = [f'upload-file = "{file}"', "globoff", "path-as-is"]
        return self._curl(url, headers, asked)

    def curl_data(self, url, file, headers):
        """``curl --data-binary``, which means a form unless a type is given."""
        asked = ['request = "PUT"', f'data-binary = "@{file}"']
        return self._curl(url, headers, asked)

    def _curl(self, url, headers, asked):
        lines = [f'url = "{url}"', *asked]
        lines += [f'header = "{name}: {value}"' for name, value in headers.items()]
        said = subprocess.run(
            [program("curl"), "-sS", "-o", os.devnull, "-w", "%{http_code}", "-K", "-"],
            input="\n".join(lines).encode(), stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return int(said.stdout)

    def requests(self, url, file, headers):
        """Requests, with an open file."""
        requests = library("requests")
        with open(file, "rb") as body:
            return requests.put(url, data=body, headers=headers, timeout=10).status_code

    def httpx(self, url, file, headers):
        """Httpx, with bytes."""
        httpx = library("httpx")
        with open(file, "rb") as body:
            return httpx.put(url, content=body.read(), headers=headers).status_code

    def aiohttp(self, url, file, headers):
        """Aiohttp, told to leave the URL as it is and to add no type."""
        aiohttp, yarl = library("aiohttp"), library("yarl")

        async def put():
            address = yarl.URL(url, encoded=True)
            quiet = {"skip_auto_headers": ["Content-Type"]}
            with open(file, "rb") as body:  # noqa: ASYNC230 - a small file
                async with (
                    aiohttp.ClientSession() as session,
                    session.put(address, data=body, headers=headers, **quiet) as r,
                ):
                    return r.status

        return asyncio.run(put())

    def obstore(self, url, file, headers):
        """Obstore: a store of one object, whose URL is the store's own."""
        obstore = library("obstore")
        from obstore.store import HTTPStore  # noqa: PLC0415

        options = {"allow_http": True, "default_headers": headers}
        store = HTTPStore.from_url(url, client_options=options)
        with open(file, "rb") as body:
            obstore.put(store, "", body.read(), use_multipart=False)
        return 200

    def many(self, client, puts):
        """Put several, by one process of Node where it is Node that puts."""
        if client not in BY_NODE:
            return [getattr(self, client)(*put) for put in puts]
        name, *needs = BY_NODE[client]
        asked = [{"url": u, "file": str(f), "headers": h} for u, f, h in puts]
        return self._node("put_urls.mjs", *needs, client=name, puts=asked)


# The name in the script, and packages that are needed.
BY_NODE = {
    "fetch": ["fetch"],
    "fetch_streamed": ["fetch, streamed"],
    "undici": ["undici", "undici"],
    "ali_oss": ["ali-oss", "ali-oss"],
    "axios": ["axios", "axios"],
}
NAMES = {
    "curl": "curl",
    "requests": "requests",
    "httpx": "httpx",
    "aiohttp": "aiohttp",
    "obstore": "obstore",
    "fetch": "fetch",
    "fetch_streamed": "fetch, streamed",
    "undici": "undici",
    "ali_oss": "ali-oss",
}
TYPING = {"axios": "axios", "curl_data": "curl, --data-binary"}


def each(what: str, *names: str, **notes: str) -> pytest.MarkDecorator:
    """Run a test with each client, and mark each row of the table."""
    return pytest.mark.parametrize(
        "client",
        [
            pytest.param(
                name,
                marks=pytest.mark.interop(
                    SIGNED_HERE,
                    {**NAMES, **TYPING}[name],
                    what,
                    note=notes.get(name, ""),
                ),
            )
            for name in names or NAMES
        ],
    )


@pytest.fixture
def put(client, node, tmp_path):
    """Put bytes to a URL with the client; or several of them at once."""

    def send(*puts, headers=None):
        asked = []
        for number, (url, data) in enumerate(puts):
            file = tmp_path / f"body {number}"
            file.write_bytes(data)
            asked.append((url, file, headers or {}))
        return Clients(node).many(client, asked)

    return send


@each("put")
@pytest.mark.parametrize("key", [OWNER, STS], ids=["key", "sts"])
@pytest.mark.parametrize("version", ["v1", "v4"])
def test_put(put, sign, oss, version, key):
    """The bytes are stored unchanged, with V1, V4 and STS."""
    url = sign("PUT", "plain/a.bin", by=Identity(version, key))
    assert put((url, DATA)) == [200]
    assert oss.get(BUCKET, "plain/a.bin").data() == DATA


@each("headers")
def test_headers(put, sign, oss):
    """Signed type and metadata are sent as they were signed."""
    url = sign("PUT", "h.csv", headers=HEADERS)
    assert put((url, b"n\n"), headers=HEADERS) == [200]
    stored = oss.get(BUCKET, "h.csv").headers
    assert (stored["content-type"], stored["x-oss-meta-owner"]) == ("text/csv", "me")


@each("put", *TYPING, **dict.fromkeys(TYPING, "if the type that it adds is signed"))
def test_added_type(put, sign, oss):
    """A type that the client adds by itself must be signed."""
    signed = {"Content-Type": "application/x-www-form-urlencoded"}
    assert put((sign("PUT", "plain"), b"a=b")) == [403]
    assert put((sign("PUT", "form", headers=signed), b"a=b")) == [200]
    assert list(oss.objects(BUCKET)) == ["form"]


@each("odd keys")
def test_odd_keys(put, sign, oss):
    """Unusual characters in a key reach the store unchanged."""
    said = put(*((sign("PUT", key), key.encode()) for key in KEYS))
    assert dict(zip(KEYS, said, strict=True)) == dict.fromkeys(KEYS, 200)
    stored = oss.objects(BUCKET)
    assert {key: stored[key] for key in stored} == {key: key.encode() for key in KEYS}


@each(
    "dot segments",
    "curl",
    "aiohttp",
    curl="with --path-as-is",
    aiohttp="with encoded=True",
)
@pytest.mark.parametrize("key", DOTS)
def test_dot_segments(put, sign, oss, key):
    """Dots in a key are left alone by those that can."""
    assert put((sign("PUT", key), b"dots")) == [200]
    assert oss.get(BUCKET, key).data() == b"dots"


COLLAPSING = ["requests", "httpx", "fetch"]


@each(
    "dot segments",
    *COLLAPSING,
    **dict.fromkeys(COLLAPSING, "no: they are collapsed, 403"),
)
def test_dot_segments_collapsed(put, sign, oss):
    """The others change the key, so the signature does not fit; nothing is stored."""
    assert put((sign("PUT", DOTS[0]), b"dots")) == [403]
    assert not oss.objects(BUCKET)


@pytest.mark.interop(
    SIGNED_HERE, "polars", "put", note="one PUT; frames beyond some MB fail"
)
@pytest.mark.interop(SIGNED_HERE, "polars", "headers", note="none can be given")
def test_polars(sign, oss):
    """Polars writes to the URL itself, and reads back by a GET URL."""
    polars = library("polars")
    frame = polars.DataFrame({"n": range(200_000)}).with_columns(
        polars.col("n").hash().alias("h")
    )
    frame.write_parquet(sign("PUT", "p.parquet"))
    assert oss.get(BUCKET, "p.parquet").size > 2**20
    frame.head(1000).write_csv(sign("PUT", "p.csv"))
    assert polars.read_csv(oss.get(BUCKET, "p.csv").data()).shape == (1000, 2)
    large = polars.concat([frame] * 10).lazy()
    with pytest.raises(OSError, match="put_multipart_opts"):
        large.sink_csv(sign("PUT", "large.csv"))
    assert oss.get(BUCKET, "large.csv") is None
    # A footer shorter than what it asks for is answered with the whole object.
    back = polars.scan_parquet(sign("GET", "p.parquet")).collect()
    assert back.equals(frame)


@pytest.mark.interop(SIGNED_HERE, "ali-oss", "CORS")
def test_preflight_of_a_browser(oss, sign):
    """A page may send all headers that ali-oss and fetch send from a browser."""
    requests = library("requests")
    page = {"Origin": "https://app.example.com"}
    names = (
        "authorization,content-md5,content-type,x-oss-content-sha256,x-oss-date,"
        "x-oss-meta-owner,x-oss-security-token,x-oss-user-agent"
    )
    for method in ("PUT", "POST", "GET", "HEAD", "DELETE"):
        asked = {
            **page,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": names,
        }
        reply = requests.options(f"{oss.url}/{BUCKET}/k", headers=asked, timeout=10)
        assert reply.status_code == 200
        assert method in reply.headers["Access-Control-Allow-Methods"]
        assert reply.headers["Access-Control-Allow-Headers"] == names
    sent = requests.put(sign("PUT", "k"), data=b"x", headers=page, timeout=10)
    assert sent.headers["Access-Control-Allow-Origin"] == "*"
    assert "ETag" in sent.headers["Access-Control-Expose-Headers"]
