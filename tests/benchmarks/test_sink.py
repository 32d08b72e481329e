"""The server of the benchmarks counts and answers right, so that a run proves much."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from fastcrc import crc64

from benchmarks import sink as sink_module
from benchmarks.sink import PERIOD, CannotBuildError, Sink, build, pattern
from fsspec_osspresigned import OSSPresignedFileSystem

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CRC = "x-oss-hash-crc64ecma"
SIZE = 3 * PERIOD + 12_345
MIB = 1 << 20


@pytest.fixture(scope="session", autouse=True)
def program():
    """Build it once, or skip what needs it."""
    try:
        return build()
    except CannotBuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def http():
    """Return what sends requests and asks no environment."""
    with requests.Session() as made:
        made.trust_env = False
        yield made


@pytest.fixture
def sink():
    """Run one that computes checksums and serves objects."""
    with Sink(crc=True, size=SIZE) as made:
        yield made


def talk(sink, data, *pieces):
    """Send bytes over one connection and return all that comes until it ends."""
    with socket.create_connection(("127.0.0.1", sink.port), timeout=20) as link:
        link.sendall(data)
        for piece in pieces:
            time.sleep(0.02)
            link.sendall(piece)
        return b"".join(iter(lambda: link.recv(65_536), b""))


def put_one_byte(url):
    """Put an object through a connection of its own."""
    return requests.put(url, data=b"x", timeout=20)


def filesystem(monkeypatch, sink, **options):
    """Return a filesystem that signs with keys and uploads to *sink*."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAIfakeid")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "fakesecret")
    if sink.ca is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", sink.ca)
    return OSSPresignedFileSystem(
        signer="keys",
        endpoint=sink.url,
        region="cn-hangzhou",
        skip_instance_cache=True,
        **options,
    )


# ---------------------------------------------------------------- bodies that come


def test_crc_is_that_of_fastcrc(http):
    """Bodies of all lengths have the CRC of fastcrc."""
    wanted = 0
    with Sink(crc=True) as sink:
        for size in [*range(34), 63, 64, 127, 128, 129, 191, 192, 1_000, 700_001]:
            data = os.urandom(size)
            reply = http.put(f"{sink.url}/examplebucket/a", data=data)
            assert reply.headers[CRC] == str(crc64.xz(data)), size
            wanted ^= crc64.xz(data)
        assert sink.stats()["crc64"] == wanted


@pytest.mark.parametrize("crc", [False, True])
@pytest.mark.parametrize("tls", [False, True])
def test_bodies_are_counted(http, crc, tls):
    """Every byte of a body is counted once."""
    data = os.urandom(2_000_003)
    with Sink(crc=crc, tls=tls) as sink:
        http.verify = sink.ca or True
        url = f"{sink.url}/examplebucket/a"
        replies = [http.put(url, data=data) for _ in range(2)]
        stats = sink.stats()
    for reply in replies:
        assert reply.status_code == 200
        assert re.fullmatch("[0-9A-F]{24}", reply.headers["x-oss-request-id"])
        assert reply.headers.get(CRC) == (str(crc64.xz(data)) if crc else None)
    assert stats["bytes"] == 2 * len(data)
    assert stats["puts"] == stats["requests"] == 2
    assert stats["connections"] == stats["open_connections"] == stats["max_busy"] == 1


def test_body_without_a_length_is_refused(sink):
    """Chunks are not read: the answer is 411."""
    head = b"PUT /a/b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 411 " in talk(sink, head)
    assert sink.stats()["puts"] == 0


def test_expecting_client_is_told_to_continue(sink):
    """100 comes before the body does, and the answer after it."""
    head = b"PUT /examplebucket/a HTTP/1.1\r\nExpect: 100-continue\r\n"
    head += b"Connection: close\r\nContent-Length: 4\r\n\r\n"
    with socket.create_connection(("127.0.0.1", sink.port), timeout=20) as link:
        link.sendall(head)
        assert link.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(b"data")
        reply = b"".join(iter(lambda: link.recv(65_536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", reply) == [b"200"]
    assert b"Connection: close" in reply


def test_requests_may_come_in_a_row_and_in_pieces(sink):
    """What was sent ahead on one connection is answered in order, wherever it breaks."""
    one = b"PUT /examplebucket/a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    last = b"HEAD /examplebucket/a HTTP/1.1\r\nConnection: close\r\n\r\n"
    whole = one * 50 + last
    reply = talk(sink, whole[:30], whole[30:57], whole[57:])
    assert len(re.findall(b"HTTP/1.1 200", reply)) == 51
    assert reply.endswith(b"\r\n\r\n")
    stats = sink.stats()
    assert (stats["puts"], stats["heads"], stats["connections"]) == (50, 1, 1)


def test_nonsense_is_refused(sink):
    """No HTTP is 400, a head above 64 KiB is 431, and the next connection is served."""
    assert b" 400 " in talk(sink, b"nonsense\r\n\r\n")
    assert b" 400 " in talk(sink, b"GET /a/b HTTP/1.1\r\nno colon\r\n\r\n")
    long = (
        b"GET /a/b HTTP/1.1\r\nx: " + b"y" * 60_000 + b"\r\nConnection: close\r\n\r\n"
    )
    assert b" 200 " in talk(sink, long)
    assert b" 431 " in talk(sink, b"GET /a/b HTTP/1.1\r\nx: " + b"y" * 65_536)
    assert b" 405 " in talk(sink, b"TRACE /a/b HTTP/1.0\r\n\r\n")
    assert sink.stats()["puts"] == 0


def test_half_a_body_is_no_object(sink, http):
    """A connection that ends within a body stores nothing, and counts what came."""
    with socket.create_connection(("127.0.0.1", sink.port), timeout=20) as link:
        link.sendall(b"PUT /a/half HTTP/1.1\r\nContent-Length: 10\r\n\r\n12345")
    stats = sink.stats()
    while not stats["requests"] or stats["open_connections"]:
        time.sleep(0.01)
        stats = sink.stats()
    assert (stats["puts"], stats["bytes"], stats["crc64"]) == (0, 5, 0)
    assert http.head(f"{sink.url}/a/half").headers["Content-Length"] == str(SIZE)


# ---------------------------------------------------------------------------- multipart


def test_multipart_has_the_checksum_of_the_whole(sink, http):
    """Parts that come in any order are joined; the upload then is gone."""
    url = f"{sink.url}/examplebucket/a%20%26b"
    begun = http.post(f"{url}?uploads", data=b"")
    assert "<Bucket>examplebucket</Bucket><Key>a &#38;b</Key>" in begun.text
    upload = re.search("<UploadId>(.+)</UploadId>", begun.text)[1]
    parts = [os.urandom(n) for n in (300_000, 200_000, 7)]
    for number in (3, 1, 2):
        part = parts[number - 1]
        reply = http.put(f"{url}?partNumber={number}&uploadId={upload}", data=part)
        assert reply.headers[CRC] == str(crc64.xz(part))
    done = http.post(f"{url}?uploadId={upload}", data=b"<CompleteMultipartUpload/>")
    whole = b"".join(parts)
    assert done.headers[CRC] == str(crc64.xz(whole))
    assert http.head(url).headers["Content-Length"] == str(len(whole))
    again = http.post(f"{url}?uploadId={upload}", data=b"")
    assert again.status_code == 200
    assert CRC not in again.headers
    stats = sink.stats()
    assert (stats["initiated"], stats["parts"], stats["completed"]) == (1, 3, 2)
    assert stats["bytes"] == len(whole)


# --------------------------------------------------------------------- what it serves


def test_get_is_the_pattern(sink, http):
    """Whole or in ranges, the bytes are those of ``pattern``, and so is the CRC."""
    url = f"{sink.url}/examplebucket/data"
    whole = http.get(url)
    assert whole.status_code == 200
    assert whole.content == pattern(0, SIZE)
    assert whole.headers[CRC] == str(crc64.xz(whole.content))
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Last-Modified"].endswith("GMT")
    for asked, first, last in [
        ("0-0", 0, 0),
        (f"{PERIOD - 5}-{2 * PERIOD + 5}", PERIOD - 5, 2 * PERIOD + 5),
        (f"{SIZE - 10}-", SIZE - 10, SIZE - 1),
        ("-7", SIZE - 7, SIZE - 1),
        (f"5-{SIZE * 2}", 5, SIZE - 1),
    ]:
        part = http.get(url, headers={"Range": f"bytes={asked}"})
        assert part.status_code == 206
        assert part.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
        assert part.content == pattern(first, last + 1 - first)
        assert part.headers[CRC] == whole.headers[CRC]
        assert part.headers["ETag"] == whole.headers["ETag"]
    none = http.get(url, headers={"Range": f"bytes={SIZE}-"})
    assert (none.status_code, none.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert http.get(url, headers={"Range": "bytes=0-1,5-6"}).status_code == 200


def test_head_tells_what_was_put(sink, http):
    """HEAD has the size and CRC of the last PUT; DELETE and reset forget them."""
    url = f"{sink.url}/examplebucket/a"
    data = os.urandom(5_000)
    http.put(url, data=data)
    head = http.head(url)
    assert (head.headers["Content-Length"], head.text) == ("5000", "")
    assert head.headers[CRC] == str(crc64.xz(data))
    assert http.get(url).content == pattern(0, 5_000)
    assert http.delete(url).status_code == 204
    assert http.head(url).headers["Content-Length"] == str(SIZE)
    http.put(url, data=data)
    sink.reset()
    assert http.head(url).headers["Content-Length"] == str(SIZE)


def test_nothing_is_there_without_a_size(http):
    """A sink that was given no size has only what was put."""
    with Sink() as sink:
        reply = http.get(f"{sink.url}/examplebucket/a")
        assert reply.status_code == 404
        assert "<Code>NoSuchKey</Code>" in reply.text


# --------------------------------------------------------------- time, many at once


def test_latency_delays_only_who_asks(http):
    """Eight at once wait together, so none of them waits for another."""
    with Sink(latency=0.2) as sink:
        begun = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            urls = [f"{sink.url}/examplebucket/{n}" for n in range(8)]
            replies = list(pool.map(put_one_byte, urls))
        waited = time.monotonic() - begun
        stats = sink.stats()
    assert all(reply.ok for reply in replies)
    assert waited >= 0.2
    assert (stats["puts"], stats["connections"]) == (8, 8)
    assert stats["max_busy"] > 1


@pytest.mark.parametrize("tls", [False, True])
def test_rate_holds_in_both_directions(http, tls):
    """A mebibyte at 4 MiB/s takes a quarter of a second, up and down."""
    with Sink(rate=4 * MIB, size=MIB, tls=tls) as sink:
        http.verify = sink.ca or True
        begun = time.monotonic()
        http.put(f"{sink.url}/examplebucket/up", data=bytes(MIB))
        half = time.monotonic()
        assert http.get(f"{sink.url}/examplebucket/down").content == pattern(0, MIB)
        assert half - begun >= 0.2
        assert time.monotonic() - half >= 0.2


def test_counters_hold_with_many_threads(sink):
    """Nothing is lost or counted twice when many connections work at once."""

    def work(number):
        with requests.Session() as session:
            session.trust_env = False
            for turn in range(40):
                url = f"{sink.url}/examplebucket/{number}/{turn}"
                assert session.put(url, data=bytes(1_000)).ok

    threads = [threading.Thread(target=work, args=[n]) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = sink.stats()
    assert (stats["puts"], stats["bytes"]) == (320, 320_000)
    assert 1 <= stats["max_busy"] <= 8
    assert stats["connections"] == 8
    sink.reset()
    assert sink.stats()["requests"] == 0


# --------------------------------------------------------------------- the filesystem


@pytest.mark.parametrize(("crc", "tls"), [(True, False), (False, False), (True, True)])
def test_filesystem_uploads_and_reads(monkeypatch, tmp_path, crc, tls):
    """Ours puts a file in parts and a small one, and reads both back."""
    data = pattern(0, 3 * MIB + 5)
    file = tmp_path / "a"
    file.write_bytes(data)
    with Sink(crc=crc, tls=tls) as sink:
        fs = filesystem(
            monkeypatch,
            sink,
            part_size=MIB,
            multipart_threshold=2 * MIB,
            **({} if tls else {"allow_http": True}),
        )
        fs.put_file(str(file), "examplebucket/in-parts")
        fs.pipe_file("examplebucket/whole", data[:1_000])
        stats = sink.stats()
        assert fs.cat_file("examplebucket/in-parts") == data
        assert fs.cat_file("examplebucket/whole") == data[:1_000]
        fs.get_file("examplebucket/in-parts", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    assert (stats["parts"], stats["puts"], stats["completed"]) == (4, 1, 1)
    assert stats["bytes"] == len(data) + 1_000


# ---------------------------------------------------------------------- how it is run


def test_certificate_is_checked():
    """A client that does not know the authority refuses the sink."""
    with Sink(tls=True) as sink:
        context = ssl.create_default_context()
        with (
            socket.create_connection(("127.0.0.1", sink.port), timeout=20) as link,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            context.wrap_socket(link, server_hostname="127.0.0.1")
        assert sink.stats()["requests"] == 0


def test_program_runs_in_the_foreground():
    """The module prints its URL, and its counters when it is interrupted."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sink", "--size", "10", "--crc"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}/a/b", timeout=20).content == pattern(0, 10)
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=20)
    assert json.loads(told)["gets"] == 1


def test_sink_ends_with_who_started_it(program):
    """It ends when its standard input does, so a killed harness leaves none behind."""
    with subprocess.Popen(
        [program, "-w"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline().strip().isdigit()
        process.stdin.close()
        assert process.wait(20) == 0


def test_wrong_arguments_are_refused():
    """What makes no sense is an error before anything starts."""
    with pytest.raises(ValueError, match="not negative"):
        Sink(latency=-1)


def test_missing_compiler_and_headers_are_named(monkeypatch, tmp_path):
    """The error says what to install."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'openssl/ssl.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    with pytest.raises(CannotBuildError, match="libssl-dev"):
        build()
    compiler.write_text("#!/bin/sh\necho 'something else' >&2\nexit 1\n")
    with pytest.raises(CannotBuildError, match="does not compile"):
        build()
    monkeypatch.setattr(sink_module, "compiler", lambda: None)
    with pytest.raises(CannotBuildError, match="gcc"):
        build()
