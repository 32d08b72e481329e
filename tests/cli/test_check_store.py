"""``osspresigned check store``: asks first, tries each fact, removes what it made."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from fsspec_osspresigned.owner.store_facts import FACTS
from fsspec_osspresigned.signing import presign
from tests.cli.conftest import BUCKET, stored

STORE = ("check", "store", BUCKET)
FOLDERS = "osspresigned-check-"


def store_object(oss, key, data=b"mine"):
    """Store an object of the bucket's owner."""
    put = presign(
        oss.credentials,
        oss.endpoint,
        method="PUT",
        bucket=BUCKET,
        key=key,
        region="cn-hangzhou",
        now=time.time(),
        expires_in=600,
    )
    transport = Transport()
    signed = SignedRequest(method="PUT", url=put)
    assert transport.send(signed, MemoryBody.of(data)).status == 200
    transport.close()


def test_store_is_tried_and_left_as_it_was(oss, run, tmp_path):
    """One line a fact, a count, a report for machines, and nothing stays."""
    ended = run(*STORE, "--yes", "--report", "facts.json")
    assert ended.code == 0, ended.out
    place, *lines, count = ended.out.splitlines()
    assert place.startswith(f"all objects of this check: {BUCKET}/{FOLDERS}")
    assert len(lines) == len(FACTS)
    assert count.endswith("0 not asked")
    document = json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))
    assert [fact["name"] for fact in document["facts"]] == [f.name for f in FACTS]
    assert stored(oss) == {}


@pytest.mark.parametrize("prefix", ["", "data/"])
def test_objects_of_others_stay(oss, run, prefix):
    """Nothing below --prefix is overwritten or deleted but what checks make."""
    names = ("object", "second", "copied", "a blank+plus", "missing", "mine.txt")
    mine = {f"{prefix}{name}": name.encode() for name in names}
    mine[f"{prefix}{FOLDERS}0123456789abcdef/mine.txt"] = b"mine"
    for key, data in mine.items():
        store_object(oss, key, data)
    ended = run(*STORE, "--yes", "--prefix", prefix)
    assert ended.code == 0, ended.out
    assert stored(oss) == mine


def test_folder_is_printed_before_it_is_written(oss, run):
    """The line is there although the first request fails, and nothing was sent."""
    oss.faults.add(Fault(action="ListObjectsV2", times=None, status=503))
    ended = run(*STORE, "--yes", "--prefix", "mine/")
    assert ended.code == 4
    assert ended.out.startswith(f"all objects of this check: {BUCKET}/mine/{FOLDERS}")
    assert {request.method for request in oss.requests} == {"GET"}


def test_difference_is_exit_code_1(oss, run):
    """A store that is different, and what could not be removed, are told."""
    oss.faults.add(Fault(action="DeleteObject", times=None, status=403))
    ended = run(*STORE, "--yes", "--prefix", "mine/")
    assert ended.code == 1
    assert "different    delete" in ended.out
    left = next(key for key in stored(oss) if key.endswith("/object"))
    assert f"could not be removed: {BUCKET}/{left}\n" in ended.err
    oss.faults.clear()
    ended = run(*STORE, "--yes", "--prefix", "mine/")
    assert ended.code == 0
    assert "objects and uploads of an interrupted check" in ended.out
    assert stored(oss) == {}


def test_keys_that_may_not_list(oss, run):
    """The check works without the permission to list, and removes what it made."""
    oss.faults.add(Fault(action="ListObjectsV2", times=None, status=403))
    oss.faults.add(Fault(action="ListMultipartUploads", times=None, status=403))
    ended = run(*STORE, "--yes")
    assert ended.code == 1
    assert "different    list " in ended.out
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []


def test_keys_that_are_wrong(oss, run, monkeypatch):
    """A listing that is refused for the signature ends the check."""
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "wrong")
    ended = run(*STORE, "--yes")
    assert ended.code == 3
    assert {request.method for request in oss.requests} == {"GET"}


def test_folder_in_use(oss, run, monkeypatch):
    """The check does not write where anything is listed."""
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
    key = f"{FOLDERS}{'0' * 16}/mine.txt"
    store_object(oss, key)
    ended = run(*STORE, "--yes")
    assert ended.code == 2
    assert "not empty" in ended.err
    assert stored(oss) == {key: b"mine"}
    assert {request.method for request in oss.requests} == {"GET", "PUT"}


@pytest.mark.parametrize(("answer", "asked"), [(b"n\n", False), (b"y\n", True)])
def test_it_asks_first(oss, run, answer, asked):
    """Requests cost money: nothing is sent before somebody has agreed."""
    ended = run(*STORE, stdin=answer, terminal=True)
    assert ended.code == 0
    assert "OSS bills" in ended.err
    assert bool(oss.requests) is asked


def test_wrong_calls(oss, run):
    """Without a terminal it needs --yes; a prefix is a directory."""
    ended = run(*STORE)
    assert ended.code == 2
    assert "--yes" in ended.err
    for prefix in ("mine", "/", "/mine/"):
        ended = run(*STORE, "--yes", "--prefix", prefix)
        assert ended.code == 2
        assert "end it with a slash" in ended.err
    assert not oss.requests


SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")


def interrupt(oss, moment, name):
    """Run the check as a process, and send it a signal in the request *moment*.

    A second Ctrl-C arrives while the first one cleans up.
    """
    oss.faults.add(Fault(after=moment, stall_reply_after=0, times=None))
    command = (sys.executable, "-m", "fsspec_osspresigned", *STORE)
    with subprocess.Popen(
        [*command, "--yes", "--prefix", "data/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        wait_until(lambda: len(oss.requests) > moment)
        if name in ("SIGTERM", "SIGHUP"):
            oss.faults.clear()
        child.send_signal(getattr(signal, name))
        if name == "SIGINT":
            wait_until(lambda: len(oss.requests) > moment + 1)
            child.send_signal(signal.SIGINT)
    oss.faults.clear()
    return child.returncode


def wait_until(holds):
    """Wait until *holds* does, for a minute at most."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("moment", range(0, 100, 5))
def test_next_run_removes_what_an_interrupted_one_left(oss, run, name, moment):
    """Nothing stays after the next run, whatever ends the first one, and when."""
    interrupt(oss, moment, name)
    ended = run(*STORE, "--yes", "--prefix", "data/")
    assert ended.code == 0, ended.out + ended.err
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_signal_that_ends_the_check(oss, name, code):
    """The check removes what it made, and ends with the code of the signal."""
    assert interrupt(oss, 30, name) == code
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []
