"""The emulator as a server: life, stores, streaming, raw sockets."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
import warnings
from pathlib import Path

import pytest
import requests
import uvicorn

from fsspec_osspresigned.emulator import Emulator, Fault, serve
from fsspec_osspresigned.errors import ConfigurationError

BUCKET = "examplebucket"
MIB = 1024 * 1024


def files(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file())


def test_it_lives_as_long_as_its_block(make_client):
    """The port answers inside the block and is free behind it."""
    with Emulator(buckets=["one-bucket", "two-bucket"]) as oss:
        url = oss.url
        assert oss.buckets == ["one-bucket", "two-bucket"]
        assert oss.endpoint.style == "path"
        assert requests.get(url, timeout=5).status_code == 403
    with pytest.raises(requests.ConnectionError):
        requests.get(url, timeout=5)
    oss.stop()


def test_a_stop_keeps_port_and_objects(make_client):
    """After stop and start the same port serves the same objects."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("k", b"kept")
        url = client.url("GET", "k")
        oss.stop()
        with pytest.raises(requests.ConnectionError):
            client.send("GET", url)
        oss.start()
        assert client.send("GET", url).content == b"kept"


def test_a_taken_port_is_an_error():
    """A port that is in use is an OSError at once."""
    with Emulator() as oss, pytest.raises(OSError, match="in use"):
        Emulator(port=int(oss.url.rpartition(":")[2])).start()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_server_that_ends_at_once_is_an_error(monkeypatch):
    """Starting does not wait for a server that has failed; a later start works."""

    async def startup(*_):
        raise SystemExit

    emulator = Emulator()
    with monkeypatch.context() as patch:
        patch.setattr(uvicorn.Server, "startup", startup)
        with pytest.raises(RuntimeError, match="did not start"):
            emulator.start()
    with emulator:
        assert requests.get(emulator.url, timeout=5).status_code == 403


def test_a_bad_bucket_name_is_an_error():
    """A bucket that OSS would not create is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="'B'"):
        Emulator(buckets=["B"])


def test_ipv6():
    """An IPv6 address is served, and in brackets in the URL."""
    with Emulator(host="::1") as oss:
        assert oss.url.startswith("http://[::1]:")
        assert requests.get(oss.url, timeout=5).status_code == 403


def test_the_fixture_of_the_plugin(oss_emulator):
    """The plugin's fixture gives a running emulator."""
    assert requests.get(oss_emulator.url, timeout=5).status_code == 403
    assert oss_emulator.buckets == [BUCKET]


def test_a_large_body_goes_to_a_file(make_client):
    """A body of 64 MiB is spilled: memory grows by a small part of it."""
    with Emulator() as oss:
        client = make_client(oss)

        def body():
            for _ in range(64):
                yield b"x" * MIB

        client.put("warm", body())
        tracemalloc.start()
        try:
            client.put("large", body())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB
        stored = oss.get(BUCKET, "large")
        assert stored.size == 64 * MIB
        (segment,) = stored.body.segments
        folder = segment.path.parent
        assert files(folder) == 2
        del stored, segment
        client.call("DELETE", "large")
        assert files(folder) == 1
    assert not folder.exists()


def test_an_object_outlives_its_deletion_for_its_reader(make_client):
    """A body that somebody still holds can be read after the object is deleted."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("k", b"x" * (5 * MIB))
        stored = oss.get(BUCKET, "k")
        client.call("DELETE", "k")
        assert stored.size == len(stored.data()) == 5 * MIB


def test_a_body_that_breaks_off_leaves_nothing(make_client):
    """After a cut body of several MiB no file and no object is left."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("other", b"x" * (5 * MIB))
        folder = oss.get(BUCKET, "other").body.segments[0].path.parent
        oss.faults.add(Fault(cut_after=8 * MIB))
        with pytest.raises(requests.ConnectionError):
            client.call("PUT", "k", data=b"x" * (20 * MIB))
        assert list(oss.objects(BUCKET)) == ["other"]
        assert files(folder) == 1


def raw_request(client, method: str, key: str, length: int, extra: str = "") -> bytes:
    target = client.url(method, key).removeprefix(client.oss.url)
    return (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Length: {length}\r\n{extra}\r\n"
    ).encode()


def connect(oss: Emulator) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(oss.url.rpartition(":")[2])), 5)


def test_a_client_that_leaves_early(client, oss):
    """Fewer bytes than announced and a closed connection store nothing."""
    with connect(oss) as peer:
        peer.sendall(raw_request(client, "PUT", "short", 10) + b"abc")
    while not oss.requests:
        threading.Event().wait(0.005)
    assert oss.requests[-1].status is None
    assert oss.get(BUCKET, "short") is None


def test_a_client_that_stalls(make_client):
    """A body that does not go on is RequestTimeout, and the connection is closed."""
    with Emulator(body_timeout=0.05) as oss, connect(oss) as peer:
        peer.sendall(raw_request(make_client(oss), "PUT", "stalled", 10) + b"abc")
        reply = b"".join(iter(lambda: peer.recv(65536), b""))
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"<Code>RequestTimeout</Code>" in reply
        assert oss.get(BUCKET, "stalled") is None


def test_a_put_without_a_length(client, oss):
    """Neither Content-Length nor chunks is 411."""
    request = raw_request(client, "PUT", "k", 0).replace(b"Content-Length: 0\r\n", b"")
    with connect(oss) as peer:
        peer.sendall(request)
        assert peer.recv(65536).startswith(b"HTTP/1.1 411 ")
    assert oss.requests[-1].code == "MissingContentLength"


def test_expect_continue(client, oss):
    """A client that asks first is told to go on, or gets the refusal at once."""
    expect = "Expect: 100-continue\r\n"
    with connect(oss) as peer:
        peer.sendall(raw_request(client, "PUT", "asked", 3, expect))
        assert peer.recv(65536).startswith(b"HTTP/1.1 100 ")
        peer.sendall(b"abc")
        assert peer.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert oss.get(BUCKET, "asked").data() == b"abc"
    with connect(oss) as peer:
        request = raw_request(client, "PUT", "asked", 3, expect)
        peer.sendall(request.replace(b"PUT", b"GET"))
        assert peer.recv(65536).startswith(b"HTTP/1.1 403 ")


def test_a_refused_body_does_not_end_the_connection(client, oss):
    """After an early refusal of a large body the connection goes on."""
    url = client.url("PUT", "k") + "&broken=1"
    assert client.send("PUT", url, data=b"x" * (3 * MIB)).status_code == 403
    client.put("k", b"next")
    assert oss.get(BUCKET, "k").data() == b"next"


def test_many_at_once(client, oss):
    """Eight uploads in parallel all arrive whole."""
    urls = {f"parallel/{i}": client.url("PUT", f"parallel/{i}") for i in range(8)}

    def put(key, url):
        data = key.encode() * (MIB // len(key) * 3)
        assert requests.put(url, data=data, timeout=30).status_code == 200

    threads = [threading.Thread(target=put, args=item) for item in urls.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for key in urls:
        assert set(oss.get(BUCKET, key).data().decode().split("parallel/")) == {
            "",
            key[-1],
        }


def test_nothing_is_logged_of_a_signature(client, caplog):
    """The server writes no log line with a query in it."""
    client.put("k")
    server = [r for r in caplog.records if not r.name.startswith("urllib3")]
    assert not [r for r in server if "ignature" in r.getMessage()]


def test_a_disk_store_survives(tmp_path, make_client):
    """Objects, uploads and parts are there at the next start; bodies are shared."""
    with Emulator(root=tmp_path) as oss:
        client = make_client(oss)
        client.put("a/../b", b"one", headers={"x-oss-meta-a": "1"})
        client.put("gone", b"x")
        client.put("a/../b", b"two")
        client.put("empty", b"")
        client.call(
            "PUT", "copy", headers={"x-oss-copy-source": f"/{BUCKET}/a%2F..%2Fb"}
        )
        client.call("DELETE", "gone")
        client.call("DELETE", "gone")
        upload = client.initiate("multi", query={"sequential": ""})
        first = client.part("multi", upload, 1, b"y" * 102_400).headers["ETag"]
        aborted = client.initiate("aborted")
        client.part("aborted", aborted, 1, b"z")
        client.call("DELETE", "aborted", query={"uploadId": aborted})
        before = {
            k: s.etag for k, s in ((k, oss.get(BUCKET, k)) for k in oss.objects(BUCKET))
        }
    (tmp_path / "bodies" / "left-by-a-crash").write_bytes(b"x")
    assert files(tmp_path / "bodies") == 4
    with Emulator(root=tmp_path, buckets=[]) as oss:
        client = make_client(oss)
        assert files(tmp_path / "bodies") == 3
        assert oss.buckets == [BUCKET]
        assert {k: oss.get(BUCKET, k).etag for k in oss.objects(BUCKET)} == before
        assert oss.objects(BUCKET) == {"a/../b": b"two", "copy": b"two", "empty": b""}
        client.call("DELETE", "a/../b")
        assert oss.get(BUCKET, "copy").data() == b"two"
        (opened,) = oss.uploads(BUCKET)
        assert opened.sequential
        del opened
        second = client.part("multi", upload, 2, b"end").headers["ETag"]
        reply = client.complete("multi", upload, [(1, first), (2, second)])
        assert reply.status_code == 200
        assert client.call("GET", "multi").content == b"y" * 102_400 + b"end"
        client.call("DELETE", "multi")
        client.call("DELETE", "copy")
        client.call("DELETE", "empty")
        assert files(tmp_path) == 0


def test_serve_prints_how_to_reach_it(tmp_path):
    """It says URL, keys and buckets, and ends when it is told to."""
    out, stop = io.StringIO(), threading.Event()
    options = {"root": tmp_path, "out": out, "stop": stop, "buckets": ["some-bucket"]}
    thread = threading.Thread(target=serve, kwargs={"port": 0, **options})
    thread.start()
    while "Ctrl-C" not in out.getvalue():
        thread.join(0.01)
    stop.set()
    thread.join()
    for piece in (
        "http://127.0.0.1:",
        "OSS_ACCESS_KEY_ID=",
        "some-bucket",
        "OSS_REGION=",
    ):
        assert piece in out.getvalue()


def test_serve_in_the_main_thread_puts_signals_back():
    """It handles SIGTERM while it runs, and leaves the handlers as they were."""
    before = signal.getsignal(signal.SIGTERM)
    out = io.StringIO()

    class Ender(threading.Event):
        def wait(self, timeout=None):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().wait(timeout)

    serve(port=0, out=out, stop=Ender(), region=None)
    assert "OSS_REGION=cn-hangzhou" in out.getvalue()
    assert signal.getsignal(signal.SIGTERM) is before


def test_serve_alone_ends_on_sigint():
    """As a program it prints to standard output and ends with 0 on Ctrl-C."""
    code = "from fsspec_osspresigned.emulator import serve; serve(port=0)"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert "OSS emulator at http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_an_emulator_that_never_started_leaves_nothing():
    """Made and thrown away without a block, it warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oss = Emulator()
        oss.close()
        assert oss.requests == []
