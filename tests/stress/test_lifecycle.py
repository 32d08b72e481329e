"""Forks, threads, loops and ends of the process, while uploads are on their way.

More of it: ``engine/test_abort_at_exit.py`` (signals), ``filesystem/test_instances.py``
(one instance in threads, forks, loops and worker processes).
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.model import MIN_PART as PART

pytestmark = pytest.mark.slow

BUCKET = "examplebucket"
PROLOGUE = f"""
import gc, os, signal, sys, threading, time
from pathlib import Path
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
PART = {PART}
fs = OSSPresignedFileSystem(signer="keys", part_size=PART, max_concurrency=4, retries=1)
def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@pytest.fixture
def run(oss):
    """Return a function that runs code in a new interpreter, which must end well."""

    def one(code: str, *, exit_code: int = 0, silent: bool = True) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-Wdefault",
                "-Wignore::DeprecationWarning",
                "-c",
                PROLOGUE + textwrap.dedent(code),
            ],
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert done.returncode == exit_code, done.stderr
        assert not silent or done.stderr == ""
        return done.stdout + done.stderr

    return one


def stored(oss) -> dict[str, bytes]:
    """Return key -> bytes of all that is published."""
    found = oss.objects(BUCKET)
    return {key: bytes(found[key]) for key in found}


def test_fork_while_parts_are_in_flight(run, oss):
    """The child writes by the same instance; the parent's parts go on as they were."""
    oss.faults.add(Fault(action="UploadPart", delay=0.2, times=4))
    run("""
        file = fs.open("examplebucket/parent", "wb")
        file.write(b"p" * 4 * PART)          # in the threads of this process
        child = os.fork()
        if not child:
            with fs.open("examplebucket/child", "wb") as own:
                own.write(b"c" * 3 * PART)
            fs.pipe({f"examplebucket/{n}": b"v" for n in range(8)})
            del file                         # is the parent's: no warning, no request
            gc.collect()
            sys.exit(0)
        assert wait(child) == 0
        file.write(b"q")
        file.close()
    """)
    assert stored(oss) == {
        "parent": b"p" * 4 * PART + b"q",
        "child": b"c" * 3 * PART,
        **{str(n): b"v" for n in range(8)},
    }
    assert not oss.uploads(BUCKET)


@pytest.mark.parametrize("call", ["write(bytes(PART))", "close()", "commit()"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_forked_child_cannot_go_on_with_its_parents_file(run, oss, compression, call):
    """A call of a forked child is refused at once or has no effect; it never hangs."""
    run(f"""
        options = {{"compression": {compression!r}}}
        file = fs.open("examplebucket/a", "wb", **options)
        file.write(os.urandom(3 * PART))
        child = os.fork()
        if not child:
            try:
                file.{call}
                file.close()
            except OSError as error:
                assert "forked" in str(error), error
                os._exit(7)
            os._exit(8)
        assert wait(child) == 7
        file.discard()
    """)
    assert stored(oss) == {}
    assert not oss.uploads(BUCKET)


@pytest.mark.parametrize("daemon", [True, False])
def test_exit_with_open_files_in_threads(run, oss, daemon):
    """Files that threads left open are not published, with a warning, and leave no parts."""
    said = run(
        f"""
        kept, ready = [], threading.Barrier(4)
        def work(n):
            file = fs.open(f"examplebucket/{{n}}", "wb")
            file.write(bytes(3 * PART))
            kept.append(file)
            ready.wait()
            if {daemon}:
                time.sleep(60)
        for n in range(3):
            threading.Thread(target=work, args=(n,), daemon={daemon}).start()
        ready.wait()
    """,
        silent=False,
    )
    assert said.count("was never closed and was not published") == 3
    assert stored(oss) == {}
    assert not oss.uploads(BUCKET)


def test_exit_keeps_what_can_be_resumed(run, oss, tmp_path):
    """The interpreter ends in the middle of put_file: the next process has the rest."""
    (tmp_path / "local").write_bytes(bytes(6 * PART))
    code = f"""
        fs = OSSPresignedFileSystem(
            signer="keys", part_size=PART, multipart_threshold=PART, max_concurrency=1,
            resume_dir={str(tmp_path / "journals")!r}, retries=0,
        )
        def work():
            fs.put_file({str(tmp_path / "local")!r}, "examplebucket/a")
    """
    oss.faults.add(Fault(action="UploadPart", part_number=4, stall_after=10))
    run(
        code
        + """
        threading.Thread(target=work, daemon=True).start()
        journals = Path(fs.client.options.resume_dir)
        while not any(p.read_text().count("\\n") > 2 for p in journals.glob("*.jsonl")):
            time.sleep(0.01)
    """,
        silent=False,
    )
    (upload,) = oss.uploads(BUCKET)
    assert stored(oss) == {}
    oss.clear()
    run(code + "\n        work()\n")
    assert stored(oss) == {"a": bytes(6 * PART)}
    assert not oss.uploads(BUCKET)
    parts = [r.part_number for r in oss.requests if r.action == "UploadPart"]
    assert len(parts) < 6
    assert upload.upload_id


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="Python 3.12 starts no thread after the end of the main one",
)
def test_exit_waits_for_threads_that_are_waited_for(run, oss):
    """A thread that is no daemon ends its file first, as Python promises."""
    run("""
        def work():
            with fs.open("examplebucket/a", "wb") as file:
                for _ in range(5):
                    file.write(bytes(PART))
                    time.sleep(0.02)
        threading.Thread(target=work).start()
    """)
    assert stored(oss) == {"a": bytes(5 * PART)}
