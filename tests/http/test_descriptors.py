"""Large bodies without free descriptors: the error says what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import os, resource, sys
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import TooManyFilesError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest

url, spare = sys.argv[1], int(sys.argv[2])
body, transport = MemoryBody.of(bytes(300_000)), Transport(allow_http=True)
signed = SignedRequest(method="PUT", url=url)
assert run(transport.send, signed, body).status == 200
transport.close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(spare):
    os.close(held.pop())
try:
    run(transport.send, signed, body)
except TooManyFilesError as error:
    assert not error.sent
    assert "Too many open files" in str(error)
    print("few")
else:
    print("sent")
"""


@pytest.mark.parametrize("spare", range(6))
def test_large_body_without_free_descriptors(oss, signed, spare):
    """Whether libcurl is out of memory or could not connect, too few files is the reason."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, signed("k"), str(spare)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    expected = {"few\n"} if spare < 2 else {"few\n", "sent\n"}
    if spare == 5:
        expected = {"sent\n"}
    assert done.stdout in expected
