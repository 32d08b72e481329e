"""``osspresigned check store``: asks first, tries each fact, removes what it made."""

from __future__ import annotations

import json
import time

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import SignedRequest
from fsspec_osspresigned.owner.check import FACTS
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
    assert run(transport.send, signed, MemoryBody(data)).status == 200
    transport.close()


NAMES = [*(fact.name for fact in FACTS), "clean-up"]


def test_store_is_tried_and_left_as_it_was(oss, run):
    """Each fact has a line, and what is left another; nothing stays."""
    ended = run(*STORE, "--yes")
    assert ended.code == 0, ended.out
    assert ended.err.startswith(f"all objects of this check: {BUCKET}/{FOLDERS}")
    *lines, count = ended.out.splitlines()
    assert [line.split()[1] for line in lines if line[0] != " "] == [
        f"{name}:" for name in NAMES
    ]
    assert " passed, 0 failed, " in count
    assert stored(oss) == {}


@pytest.mark.usefixtures("oss")
def test_report_is_json(run):
    """For machines: it names neither bucket nor key."""
    ended = run(*STORE, "--yes", "--json")
    assert ended.code == 0
    document = json.loads(ended.out)
    assert document["passed"] is True
    assert document["region"] == "cn-hangzhou"
    assert [result["name"] for result in document["results"]] == NAMES
    assert BUCKET not in ended.out


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


def test_difference_is_exit_code_1(oss, run):
    """A failed fact is reported, and so are objects that could not be removed."""
    oss.faults.add(Fault(action="DeleteObject", times=None, status=403))
    ended = run(*STORE, "--yes", "--prefix", "mine/")
    assert ended.code == 1
    assert "FAILED    delete:" in ended.out
    assert "FAILED    clean-up:" in ended.out
    left = next(key for key in stored(oss) if key.endswith("/object"))
    assert f"could not be removed: {BUCKET}/{left}\n" in ended.err


def test_keys_that_may_not_list(oss, run):
    """The check works without the permission to list, and removes what it made."""
    oss.faults.add(Fault(action="ListObjectsV2", times=None, status=403))
    oss.faults.add(Fault(action="ListMultipartUploads", times=None, status=403))
    ended = run(*STORE, "--yes")
    assert ended.code == 1
    assert "FAILED    list:" in ended.out
    assert stored(oss) == {}
    assert oss.uploads(BUCKET) == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(action="PutObject", status=403), "PutObject was refused with HTTP 403"),
        (
            Fault(action="HeadObject", status=403),
            "HeadObject was refused with HTTP 403",
        ),
        (
            Fault(action="PutObject", status=400, code="PublicEndpointForbidden"),
            "a domain of the bucket",
        ),
        (Fault(action="PutObject", reset=True), "the connection"),
    ],
)
def test_control_that_fails_ends_the_check(oss, run, fault, said):
    """Its line is the last fact, and says what to do; nothing stays."""
    oss.faults.add(evolve(fault, times=None))
    ended = run(*STORE, "--yes")
    assert ended.code == 1
    *_, reason, cleaned_up, count = ended.out.splitlines()
    assert said in reason
    assert cleaned_up.startswith("passed    clean-up")
    assert count.endswith(" passed, 1 failed")
    assert stored(oss) == {}


def test_keys_that_are_wrong(oss, run, monkeypatch):
    """They are named, and nothing was written."""
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "wrong")
    ended = run(*STORE, "--yes")
    assert ended.code == 1
    assert "OSS_ACCESS_KEY_SECRET is not the secret" in ended.out
    assert "passed    clean-up" in ended.out
    assert stored(oss) == {}


@pytest.mark.parametrize("store_options", [{"versioned": [BUCKET]}], indirect=True)
def test_bucket_with_versioning(oss, run):
    """A bucket with versioning has facts of its own, and no version stays."""
    ended = run(*STORE, "--yes")
    assert ended.code == 0, ended.out
    assert "passed    version-marker:" in ended.out
    assert "skipped   forbid-overwrite:" in ended.out
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
    assert "passed    cname:" in ended.out


@pytest.mark.parametrize(("answer", "asked"), [(b"n\n", False), (b"y\n", True)])
def test_it_asks_first(oss, run, answer, asked):
    """Requests cost money: nothing is sent before the user has agreed."""
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
