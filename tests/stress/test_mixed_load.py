"""Calls of all kinds at the same time end, whatever they take turns for.

Each test runs a program that gives up after some time, so a deadlock is a failure with
the stacks of all threads.
"""

from __future__ import annotations

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
from tests.stress import mixed_load
from tests.stress.mixed_load import GATHERED, VERBS, Plan

BUCKET = "examplebucket"
PROGRAM = mixed_load.__file__
PARTS = {"part_size": MIN_PART, "multipart_threshold": MIN_PART}
# Connections that are closed after a reply, without having been announced as closing.
CLOSES = Fault(hang_up=True, rate=0.5, seed=5)
PROLOGUE = """
import asyncio, atexit, faulthandler, os, sys, tempfile, threading, time
faulthandler.dump_traceback_later(20, exit=True)
from pathlib import Path
from fsspec.callbacks import Callback
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
ROOT = "examplebucket"
async def together(*calls):
    return await asyncio.gather(*calls)
"""


def command(*arguments: str) -> list[str]:
    """Return the command that starts a new interpreter."""
    return [sys.executable, "-W", "ignore::DeprecationWarning", *arguments]


def ends(*arguments: str) -> None:
    """Run a new interpreter, which must end well."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def run(plan: Plan) -> None:
    """Run *plan* in a new process, which must end well."""
    ends(PROGRAM, plan.argument())


def run_code(code: str) -> None:
    """Run *code* in a new process, which must end well."""
    ends("-c", PROLOGUE + textwrap.dedent(code))


def test_values_and_parts_with_one_request_in_flight(oss):
    """A gathered value that needs a new connection waits for no thread of the parts.

    One request is in flight at a time. The value gets its turn while a part waits for
    one, and the store has closed all connections.
    """
    oss.faults.add(Fault(hang_up=True, times=24))
    run(
        Plan(
            threads=["large"] * 4,
            coroutines=["single"],
            options={**PARTS, "max_concurrency": 1},
            size=4 * MIN_PART,
            limit=20,
        )
    )
    assert len(oss.objects(BUCKET)) == 4 + mixed_load.MANY


# Plans of bulk calls beside uploads in parts.
PLANS = {
    "defaults": Plan(["pipe", "large"] * 4, size=40_000_000),
    "small parts": Plan(["pipe", "large"] * 4, options={**PARTS, "max_concurrency": 4}),
}


def storm(number: int) -> Plan:
    """Return a random plan of 2 to 64 calls at the same time."""
    chance = random.Random(number)  # noqa: S311 - repeatable
    count = chance.choice([2, 4, 8, 16, 32, 64])
    gathered = chance.randrange(count)
    options = {"max_concurrency": chance.choice([None, 1, 2, 4, 8, 16, 32])}
    if chance.random() < 0.8:
        options |= PARTS
    return Plan(
        chance.choices(list(VERBS), k=count - gathered),
        chance.choices(list(GATHERED), k=gathered),
        {name: value for name, value in options.items() if value},
        size=chance.choice([3, 10, 40]) * MIN_PART,
        limit=150,
    )


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("closes", [False, True], ids=["stays", "closes"])
@pytest.mark.parametrize("number", range(3))
def test_storm_of_calls(oss, number, closes):
    """A random mixture of all verbs, of threads and coroutines, ends without an error."""
    if closes:
        oss.faults.add(CLOSES)
    run(storm(number))
    assert not oss.uploads(BUCKET)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize("name", PLANS)
def test_signal_ends_the_calls(oss, name, number):
    """Ctrl-C and SIGTERM end the process, and no parts are left."""
    oss.faults.add(Fault(delay=0.1, times=None))
    plan = PLANS[name]
    process = subprocess.Popen(
        command(PROGRAM, plan.argument()), stdout=subprocess.DEVNULL, stderr=-1
    )
    try:
        while not any(r.action.startswith("UploadPart") for r in oss.requests):
            time.sleep(0.01)
        process.send_signal(number)
        _, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == -number, errors.decode()
    assert not any(upload.parts for upload in oss.uploads(BUCKET))


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
