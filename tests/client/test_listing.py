"""A hundred thousand objects are found page by page, with no more work per object."""

from __future__ import annotations

import functools
import socketserver
import threading
import tracemalloc
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from fsspec_osspresigned.client.operations import listing
from fsspec_osspresigned.engine.engine import iterated
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint

BUCKET = "examplebucket"
KEYS = 100_000
PAGE = 1000


class _Lists(socketserver.StreamRequestHandler):
    """Answers pages of made-up keys, and nothing else."""

    disable_nagle_algorithm = True

    def handle(self):
        while line := self.rfile.readline():
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            query = parse_qs(urlsplit(line.split()[1].decode()).query)
            first = int(query.get("continuation-token", ["0"])[0])
            self.server.pages.append(first)
            body = page(first).encode()
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )


def key(number):
    """Return a key; a thousand lie in one directory."""
    return f"data/day={number // PAGE:05}/part {number:08}.parquet"


@functools.cache
def page(first):
    """Return a page as OSS writes it."""
    rows = "".join(
        f"<Contents><Key>{quote(key(n), safe='')}</Key>"
        "<LastModified>2026-11-25T10:00:00.000Z</LastModified>"
        f'<ETag>"{n:032X}"</ETag><Type>Normal</Type><Size>{n}</Size>'
        "<StorageClass>Standard</StorageClass></Contents>"
        for n in range(first, first + PAGE)
    )
    end = first + PAGE
    more = f"<NextContinuationToken>{end}</NextContinuationToken>"
    return (
        "<ListBucketResult><EncodingType>url</EncodingType>"
        f"<IsTruncated>{str(end < KEYS).lower()}</IsTruncated>"
        f"{more if end < KEYS else ''}{rows}</ListBucketResult>"
    )


@pytest.fixture
def many():
    """A filesystem of a store that only lists, and the pages it gave."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Lists) as server:
        server.daemon_threads = True
        server.pages = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        signer = KeySigner(
            credentials=lambda: Credentials("key", "secret"),
            endpoint=Endpoint.parse(f"http://127.0.0.1:{server.server_address[1]}"),
            region="cn-hangzhou",
        )
        fs = OSSPresignedFileSystem(signer=signer)
        yield fs, server.pages
        server.shutdown()


@pytest.mark.heavy
def test_a_hundred_thousand_objects_are_found(many):
    """One request a page, each once, and all names in order."""
    fs, pages = many
    found = fs.find(f"{BUCKET}/data")
    assert found == [f"{BUCKET}/{key(n)}" for n in range(KEYS)]
    assert pages == list(range(0, KEYS, PAGE))
    detailed = fs.find(f"{BUCKET}/data", detail=True, withdirs=True)
    assert len(detailed) == KEYS + KEYS // PAGE + 1
    assert fs.du(f"{BUCKET}/data") == KEYS * (KEYS - 1) // 2


@pytest.mark.heavy
def test_a_listing_holds_one_page_at_a_time(many):
    """Ten thousand objects take as much memory as a hundred thousand."""
    fs, _ = many
    for first in range(0, KEYS, PAGE):
        page(first)  # kept by the server, which is in this process
    peaks = []
    for most in (KEYS // 10, KEYS):
        tracemalloc.start()
        found = iterated(listing(fs.client, BUCKET, "data/", delimiter=""))
        seen = sum(1 for _ in zip(range(most), found, strict=False))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert seen == most
        found.close()
    assert peaks[1] < peaks[0] * 1.2
    assert peaks[1] < 16 * 1024 * 1024
