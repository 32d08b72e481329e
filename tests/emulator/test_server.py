"""The emulator as a server: start, stop, ports and the command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
import requests

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.signers.keys import environment_credentials


def test_it_lives_as_long_as_its_block(make_client):
    """The port answers inside the block and is free behind it."""
    with Emulator(buckets=["one-bucket", "two-bucket"]) as oss:
        url = oss.url
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_serve_prints_signs(number, monkeypatch):
    """Exported, the printed variables sign, with ``sts`` for a while; a signal ends it."""
    code = """
from fsspec_osspresigned.emulator import parse_faults, serve
faults = parse_faults(["*:refuse=denied"])
serve(port=0, sts=900, buckets=["some-bucket"], faults=faults)
"""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        line = process.stdout.readline()
        assert "OSS emulator at http://127.0.0.1:" in line
        assert "(buckets: some-bucket)" in line
        while "Ctrl-C" not in (line := process.stdout.readline()):
            name, _, value = line.removeprefix("  export ").strip().partition("=")
            monkeypatch.setenv(name, value)
        fs = fsspec.filesystem("osspresigned", signer="keys", allow_http=True)
        with pytest.raises(PermissionError):
            fs.pipe_file("some-bucket/k", b"x")
        fs.pipe_file("some-bucket/k", b"x")
        left = environment_credentials().expires_at - time.time()
        assert left == pytest.approx(900, abs=30)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
