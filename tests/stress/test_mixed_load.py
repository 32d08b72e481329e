"""Calls of all kinds at the same time end, whatever they take turns for.

Each test runs a program that gives up after some time, so a deadlock is a failure with
the stacks of all threads.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.model import MIN_PART
from tests.stress import walk

BUCKET = "examplebucket"
PARTS = {"part_size": MIN_PART, "multipart_threshold": MIN_PART}
PROLOGUE = """
import asyncio, faulthandler, os, signal, sys, threading, time, warnings
faulthandler.dump_traceback_later(40, exit=True)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
ROOT = "examplebucket"
async def together(*calls):
    return await asyncio.gather(*calls)
"""


def command(*arguments: str) -> list[str]:
    """Return the command that starts a new interpreter."""
    return [sys.executable, "-W", "ignore::DeprecationWarning", *arguments]


def walking(workers: int, rounds: int, **options: object) -> list[str]:
    """Return the command that lets so many workers walk at the same time."""
    return command(walk.__file__, str(workers), str(rounds), json.dumps(options))


def ends(command: list[str]) -> None:
    """Run a program, which must end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run_code(code: str) -> None:
    """Run *code* in a new process, which must end well."""
    ends(command("-c", PROLOGUE + textwrap.dedent(code)))


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("closes", [False, True], ids=["stays", "closes"])
@pytest.mark.parametrize("number", range(3))
def test_storm_of_calls(oss, number, closes):
    """A random mixture of all verbs, of threads and coroutines, ends without an error."""
    if closes:  # after a reply that did not announce it
        oss.faults.add(Fault(hang_up=True, rate=0.5, seed=5))
    chance = random.Random(number)  # noqa: S311 - repeatable
    options = {"max_concurrency": chance.choice([1, 2, 4, 8, 16, 32])}
    if chance.random() < 0.8:
        options |= PARTS
    ends(walking(chance.choice([4, 16, 32]), 5, **options))
    assert not oss.uploads(BUCKET)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_signal_ends_the_calls(oss, number):
    """Ctrl-C and SIGTERM end the process, and no parts are left."""
    oss.faults.add(Fault(delay=0.1, times=None))
    with subprocess.Popen(walking(8, 100, **PARTS), stderr=-1) as process:
        while not any(r.action == "UploadPart" for r in oss.requests):
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=40)
    assert process.returncode == -number, errors.decode()
    assert not any(upload.parts for upload in oss.uploads(BUCKET))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks_while_threads_write(oss):
    """A child inherits no lock, no thread and no transaction that could stop it."""
    run_code(f"""
        fs = OSSPresignedFileSystem(signer="keys", **{PARTS})
        ended = threading.Event()
        def write(name):
            fs.pipe({{f"{{ROOT}}/{{name}}/{{n}}": b"c" for n in range(4)}})
            with fs.transaction, fs.open(f"{{ROOT}}/{{name}}/t", "wb") as file:
                file.write(bytes(250_000))
            assert fs.exists(f"{{ROOT}}/{{name}}/t")
        def keep_busy(name):
            while not ended.is_set():
                write(name)
        write("before")  # a fork within an import would leave its lock taken
        busy = [threading.Thread(target=keep_busy, args=(f"w{{n}}",)) for n in range(4)]
        for thread in busy:
            thread.start()
        try:
            for number in range(3):
                if not (child := os.fork()):
                    signal.alarm(30)  # a child that hangs must end, too
                    write(f"c{{number}}")
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            ended.set()
            for thread in busy:
                thread.join()
    """)
    assert sum(key.startswith("c") for key in oss.objects(BUCKET)) == 15
    assert not oss.uploads(BUCKET)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fs._pipe_file(path, b'')", "fs._pipe({path: b''})"])
def test_receipts_callback_awaits_calls(oss, call):
    """A callback may await calls, although all threads of the filesystem run callbacks."""
    run_code(f"""
        def note(receipt):
            path = receipt.path + "-noted"
            if receipt.size:
                asyncio.run(together({call}))
        fs = OSSPresignedFileSystem(signer="keys", receipts=note, max_concurrency=2)
        fs.pipe({{f"{{ROOT}}/{{n}}": b"x" for n in range(20)}})
    """)
    assert len(oss.objects(BUCKET)) == 40


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fs2._cat_file(path)", "fs2._cat([path, path])"])
def test_signer_function_awaits_calls(oss, call):
    """A signer may await calls of another filesystem, with each request in flight."""
    run_code(f"""
        from fsspec_osspresigned.signers.keys import KeySigner
        path, keys = ROOT + "/seed", KeySigner.from_options()
        def sign(operations):
            asyncio.run(together({call}))
            return keys.sign(operations)
        fs2 = OSSPresignedFileSystem(signer="keys", max_concurrency=1)
        fs2.pipe_file(path, b"x")
        fs = OSSPresignedFileSystem(signer=sign, max_concurrency=2, **{PARTS})
        fs.pipe({{f"{{ROOT}}/{{n}}": b"x" for n in range(20)}})
        fs.pipe_file(ROOT + "/large", bytes({9 * MIN_PART}))
    """)
    assert len(oss.objects(BUCKET)) == 22
