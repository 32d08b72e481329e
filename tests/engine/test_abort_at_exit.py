"""No multipart upload outlives its process unseen."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine import abort_at_exit as unfinished
from fsspec_osspresigned.errors import UploadDiscardedError
from tests.engine.conftest import wait_until

pytestmark = pytest.mark.slow

# A signal that comes just before a sleep does not end it, most often with Python 3.14:
# so the sleeps are short.
PROLOGUE = """
import os, signal, sys, threading, time, warnings
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
fs = OSSPresignedFileSystem(signer="keys", part_size=100 * 1024, retries=1)
def begun(path="examplebucket/a"):
    file = fs.open(path, "wb")
    file.write(bytes(300 * 1024))
    run(file.upload.wait_for_parts)
    return file
def wait():
    for _ in range(600):
        time.sleep(0.1)
"""

IN_A_SUBINTERPRETER = """
import os, sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    new, run = interpreters.create("legacy"), interpreters.exec
else:
    import _xxsubinterpreters as interpreters
    new, run = interpreters.create(isolated=False), interpreters.run_string
failure = run(new, '''
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
fs = OSSPresignedFileSystem(signer="keys")
fs.pipe({f"examplebucket/{n}": b"x" for n in range(3)})
''')
print(failure, flush=True)
os._exit(0 if failure is None else 1)
"""


@pytest.fixture
def child(oss):
    """Return a function that runs Python code as an uploader; yields the process."""
    processes = []

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROLOGUE + textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def initiated(oss) -> int:
    """Return how many multipart uploads were begun."""
    return sum(r.action == "InitiateMultipartUpload" for r in oss.requests)


def open_uploads(oss) -> int:
    """Return how many multipart uploads are left."""
    return len(oss.uploads("examplebucket"))


def test_sigterm_aborts_and_then_terminates(child, oss):
    """SIGTERM still ends the process as it would have, only without leftovers."""
    process = child("""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = begun()
        print("ready", flush=True)
        wait()
    """)
    assert process.stdout.readline() == "ready\n"
    assert open_uploads(oss) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    assert (initiated(oss), open_uploads(oss)) == (1, 0)
    assert not oss.objects("examplebucket")


def test_sigterm_while_an_upload_is_begun(child, oss):
    """An upload whose ID is still on its way is removed when it has come."""
    oss.faults.add(Fault(action="InitiateMultipartUpload", delay=1.0, times=None))
    process = child("""
        def work():
            begun()
        fs.client
        threading.Thread(target=work, daemon=True).start()
        print("ready", flush=True)
        wait()
    """)
    assert process.stdout.readline() == "ready\n"
    wait_until(lambda: open_uploads(oss) or initiated(oss))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM
    assert open_uploads(oss) == 0


def test_programs_that_handle_sigterm_are_left_alone(child, oss):
    """A handler of the user's stays; if it exits, exit aborts."""
    process = child("""
        def stop(number, frame):
            sys.exit(7)
        signal.signal(signal.SIGTERM, stop)
        file = begun()
        print(signal.getsignal(signal.SIGTERM) is stop, flush=True)
        wait()
    """)
    assert process.stdout.readline() == "True\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 7
    assert (initiated(oss), open_uploads(oss)) == (1, 0)


def test_forked_child_ends_nothing_of_its_parent(child, oss):
    """A child that exits or is terminated leaves the parent's upload alone."""
    process = child("""
        file = begun()
        for end in (lambda: sys.exit(0), lambda: os.kill(os.getpid(), signal.SIGTERM)):
            pid = os.fork()
            if not pid:
                end()
            os.waitpid(pid, 0)
        file.close()
        print(fs.info("examplebucket/a")["size"], flush=True)
    """)
    out, err = process.communicate(timeout=30)
    assert out == f"{300 * 1024}\n", err
    assert len(oss.objects("examplebucket")) == 1


def test_a_store_that_fails_does_not_hold_the_end_up(child, oss):
    """At the end there is one try; what is left is said with its upload ID."""
    oss.faults.add(
        Fault(action="AbortMultipartUpload", status=503, code="SlowDown", times=None)
    )
    process = child("""
        import logging
        logging.basicConfig(level="WARNING")
        file = begun()
    """)
    err = process.communicate(timeout=30)[1]
    (upload,) = oss.uploads("examplebucket")
    assert f"the multipart upload {upload.upload_id} could not be aborted" in err
    tried = [r for r in oss.requests if r.action == "AbortMultipartUpload"]
    assert len(tried) == 1


def test_nothing_is_begun_after_sigterm(monkeypatch):
    """A thread that starts an upload at exit gets an error instead of leaving parts."""
    monkeypatch.setattr(unfinished, "is_terminating", True)
    with pytest.raises(UploadDiscardedError, match="no new transfer begins"):
        unfinished.add(None)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="its module has another name")
def test_subinterpreter(oss):
    """It is refused with the first call, before anything is sent."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_A_SUBINTERPRETER],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert "a subinterpreter cannot use this package" in done.stdout + done.stderr
    assert oss.objects("examplebucket") == {}
