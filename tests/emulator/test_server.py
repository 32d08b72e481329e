"""The emulator as a server: start, stop, ports and the command."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import fsspec
import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, serve
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.signers.keys import environment_credentials


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


def test_a_bad_bucket_name_is_an_error():
    """A bucket that OSS would not create is a ConfigurationError."""
    with pytest.raises(ConfigurationError, match="'B'"):
        Emulator(buckets=["B"])


def test_nothing_is_logged_of_a_signature(client, caplog):
    """The server writes no log line with a query in it."""
    client.put("k")
    server = [r for r in caplog.records if not r.name.startswith("urllib3")]
    assert not [r for r in server if "ignature" in r.getMessage()]


def test_serve_prints_how_to_reach_it():
    """It prints URL, keys and buckets, and ends on a signal."""
    out, stop = io.StringIO(), threading.Event()
    options = {"out": out, "stop": stop, "buckets": ["some-bucket"]}
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


def test_serve_may_have_a_key_that_ends(monkeypatch):
    """With a life it is a key of STS: what is printed signs, and ends by our clock."""
    out, seen = io.StringIO(), []

    class Ender(threading.Event):
        def wait(self, timeout=None):
            for line in out.getvalue().split("export ")[1:]:
                name, _, value = line.split()[0].partition("=")
                monkeypatch.setenv(name, value)
            fs = fsspec.filesystem("osspresigned", signer="keys", allow_http=True)
            fs.pipe_file("examplebucket/k", b"x")
            seen.append(environment_credentials().expires_at - time.time())
            return True

    serve(port=0, out=out, stop=Ender(), sts=900)
    assert seen == [pytest.approx(900, abs=30)]
    assert "OSS_SESSION_TOKEN=" in out.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_alone_ends_on_a_signal(number):
    """As a program it prints to standard output and ends with 0."""
    code = "from fsspec_osspresigned.emulator import serve; serve(port=0)"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert "OSS emulator at http://127.0.0.1:" in process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_an_emulator_that_never_started_leaves_nothing():
    """Made and thrown away without a block, it warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        oss = Emulator()
        oss.close()
        assert oss.requests == []
