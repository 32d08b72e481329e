"""``osspresigned check store``: asks first, tries each fact, removes what it made."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from fsspec_osspresigned.owner.store_facts import FACTS
from fsspec_osspresigned.signing import PresignRequest
from tests.tools.cli.conftest import BUCKET, stored

STORE = ("check", "store", BUCKET)
FOLDERS = "osspresigned-check-"


@pytest.fixture
def store_options(request: pytest.FixtureRequest):
    """The options that a test gives, or none."""
    return getattr(request, "param", {})


def store_object(oss, key, data=b"mine"):
    """Store an object of the bucket's owner."""
    put = PresignRequest(
        oss.credentials,
        oss.endpoint,
        method="PUT",
        bucket=BUCKET,
        key=key,
        region="cn-hangzhou",
        now=time.time(),
        expires_in=600,
    ).url()
    transport = Transport()
    signed = SignedRequest(method="PUT", url=put)
    assert run(transport.send, signed, MemoryBody.of(data)).status == 200
    transport.close()


def test_store_is_tried_and_left_as_it_was(oss, run, tmp_path):
    """One line a fact, a count, a report for machines, and nothing stays."""
    ended = run(*STORE, "--yes", "--report", "facts.json")
    assert ended.code == 0, ended.out
    place, *lines, count = ended.out.splitlines()
    assert place.startswith(f"all objects of this check: {BUCKET}/{FOLDERS}")
    assert len(lines) == len(FACTS)
    assert ", 0 different, " in count
    assert ", 0 not asked, " in count
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
    assert "objects and uploads of earlier checks" in ended.out
    assert stored(oss) == {}


def test_keys_that_may_not_list(oss, run):
    """The check works without the permission to list, and removes what it made."""
    oss.faults.add(Fault(action="ListObjectsV2", times=None, status=403))
    oss.faults.add(Fault(action="ListMultipartUploads", times=None, status=403))
    ended = run(*STORE, "--yes")
    assert ended.code == 1
    assert "different    list " in ended.out
    assert "may not list" in ended.err
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []


def one_line(ended):
    """Return the only line that a check without facts has printed besides its place."""
    assert len(ended.out.splitlines()) == 1
    (line,) = ended.err.splitlines()
    return line


def test_keys_that_are_wrong(oss, run, monkeypatch):
    """The check ends with one line that says what to do, and has written nothing."""
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "wrong")
    ended = run(*STORE, "--yes")
    assert ended.code == 3
    assert "OSS_ACCESS_KEY_SECRET is not the secret" in one_line(ended)
    assert {request.method for request in oss.requests} == {"GET"}


def test_bucket_that_is_missing(oss, run):
    """The check ends with one line that names the bucket."""
    ended = run("check", "store", "otherbucket", "--yes")
    assert ended.code == 1
    assert "the bucket does not exist" in one_line(ended)


@pytest.mark.parametrize("action", ["PutObject", "HeadObject"])
def test_control_that_is_refused(oss, run, action):
    """Keys without the permission to write or to look end the check."""
    oss.faults.add(Fault(action=action, times=None, status=403))
    ended = run(*STORE, "--yes")
    assert ended.code == 3
    assert f"{action} was refused with HTTP 403" in ended.err
    assert "different" not in ended.out
    assert stored(oss) == {}


def test_account_that_needs_an_own_domain(oss, run):
    """The public host of mainland China may refuse new accounts: the line says so."""
    code = "PublicEndpointForbidden"
    oss.faults.add(Fault(action="PutObject", times=None, status=400, code=code))
    ended = run(*STORE, "--yes")
    assert ended.code != 0
    assert "own domain" in one_line(ended)


@pytest.mark.parametrize("store_options", [{"versioned": [BUCKET]}], indirect=True)
def test_bucket_with_versioning(oss, run):
    """A bucket with versioning has facts of its own, and no version stays."""
    ended = run(*STORE, "--yes")
    assert ended.code == 0, ended.out
    assert "as expected  version-gone " in ended.out
    assert "skipped      forbid-overwrite " in ended.out
    assert oss.store.buckets[BUCKET].versions == {}
    assert oss.uploads(BUCKET) == []


@pytest.mark.parametrize(
    "store_options",
    [{"cnames": {"localhost": BUCKET}, "region": "ap-southeast-1"}],
    indirect=True,
)
def test_own_domain(oss, run, monkeypatch):
    """The bucket's own domain is an endpoint, and its facts are asked for."""
    monkeypatch.setenv("OSS_ENDPOINT", oss.url.replace("127.0.0.1", "localhost"))
    ended = run(*STORE, "--yes", "--addressing-style", "cname")
    assert ended.code == 0, ended.out + ended.err
    assert "as expected  cname " in ended.out
    assert "skipped      public-host " in ended.out


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
    # A signal just before a system call is handled after it, so each reply arrives.
    oss.faults.add(Fault(after=moment, delay=0.5, times=None))
    command = (sys.executable, "-m", "fsspec_osspresigned", *STORE)
    with subprocess.Popen(
        [*command, "--yes", "--prefix", "data/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        wait_until(lambda: oss.held)
        if name in ("SIGTERM", "SIGHUP"):
            oss.faults.clear()
        child.send_signal(getattr(signal, name))
        if name == "SIGINT":
            assert "stopping: press Ctrl-C again to quit at once\n" in child.stderr
            child.send_signal(signal.SIGINT)
    oss.faults.clear()


def wait_until(holds):
    """Wait until *holds* does, for a minute at most."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("moment", range(0, 140, 7))
def test_next_run_removes_what_an_interrupted_one_left(oss, run, name, moment):
    """Nothing stays after the next run, whatever ends the first one, and when."""
    interrupt(oss, moment, name)
    ended = run(*STORE, "--yes", "--prefix", "data/")
    assert ended.code == 0, ended.out + ended.err
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []


def end_with(number):
    """Return a callback server that sends the signal *number* to this process."""

    def callback(_):
        os.kill(os.getpid(), number)

    return callback


@pytest.mark.parametrize(
    ("store_options", "code"),
    [({"callback": end_with(n)}, 128 + n) for n in (signal.SIGTERM, signal.SIGHUP)],
    indirect=["store_options"],
)
def test_signal_that_ends_the_check(oss, run, code):
    """The check removes what it made, and ends with the code of the signal."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)]
    with pytest.raises(SystemExit) as ended:
        run(*STORE, "--yes")
    assert ended.value.code == code
    assert "PutObject" in {request.action for request in oss.requests}
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)] == before


@pytest.mark.parametrize(
    "store_options", [{"callback": end_with(signal.SIGHUP)}], indirect=True
)
def test_signal_that_the_program_ignores(oss, run):
    """As under nohup, the check goes on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(*STORE, "--yes").code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_thread(oss, run):
    """A thread other than the main one sets no signal handler."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, *STORE, "--yes").result().code == 0
