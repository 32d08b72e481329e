"""A process that is stopped for longer than all its tries may take goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from fsspec_osspresigned.http.checksums import crc64

WINDOW, TOTAL, STOP = 2, 5, 8
CHILD = f"""
import sys, fsspec
url = sys.argv[1] + "/examplebucket/k?Signature=x"
fs = fsspec.filesystem("osspresigned", presigned_url=url, timeout={WINDOW},
                       retry_timeout={TOTAL})
fs.pipe_file("", b"abc")
"""


def asked(listener):
    """Return the next connection, when its request is here."""
    connection, _ = listener.accept()
    connection.settimeout(60)
    got = b""
    while not got.endswith(b"abc"):
        got += connection.recv(65_536)
    return connection


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="stops a process")
def test_stopped_in_the_middle_of_a_request():
    """The connection is gone when the process wakes up, and there is another try."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        child = subprocess.Popen([sys.executable, "-c", CHILD, origin])
        try:
            with asked(listener):
                child.send_signal(signal.SIGSTOP)
                time.sleep(STOP)
            child.send_signal(signal.SIGCONT)
            with asked(listener) as connection:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
                    b"x-oss-hash-crc64ecma: %d\r\n\r\n" % crc64(b"abc")
                )
                assert child.wait(60) == 0
        finally:
            child.kill()
            child.wait()
