"""``--grant``: ``put``, ``sync`` and ``doctor`` by one signed policy, and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.form_signer import grant_of
from tests.tools.cli.conftest import BUCKET, stored


@pytest.fixture
def grant(oss, tmp_path, monkeypatch):
    """Return a function that writes a grant for ``in/``; the keys are gone then."""

    def make(**how):
        place = tmp_path / "grant.json"
        place.touch(0o600)
        place.write_text(json.dumps(grant_of(oss, BUCKET, "in/", **how)))
        for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
            monkeypatch.delenv(name, raising=False)
        return "grant.json"

    return make


def test_put(oss, run, grant, tree):
    """A tree and standard input are stored by the grant."""
    ended = run("put", tree, f"{BUCKET}/in/", "--grant", grant())
    assert ended.code == 0, ended.err
    ended = run("put", "-", f"{BUCKET}/in/x", "--grant", "grant.json", stdin=b"data")
    assert ended.code == 0, ended.err
    assert stored(oss) == {
        "in/data/a.csv": b"a",
        "in/data/b/c.csv": b"cc",
        "in/data/b/d e.bin": b"ddd",
        "in/x": b"data",
    }


def test_resuming_has_nothing_to_keep(oss, run, grant, tree):
    """``--resume`` says of each large file that it is sent as a whole."""
    (tree / "a.csv").write_bytes(bytes(9_000_000))
    ended = run("put", tree, f"{BUCKET}/in/", "--grant", grant(), "--resume")
    assert ended.code == 0
    assert ended.err.count("a grant has no parts to resume") == 1


def test_sync(oss, run, grant, tree):
    """A state remembers what was sent, for a grant cannot list."""
    how = ("sync", tree, f"{BUCKET}/in", "--grant", grant(), "--state", "sent.jsonl")
    assert run(*how).code == 0
    assert stored(oss).keys() == {"in/a.csv", "in/b/c.csv", "in/b/d e.bin"}
    oss.clear()
    assert run(*how).code == 0
    assert not oss.requests


def test_doctor_of_an_upload_with_a_grant(oss, run, grant):
    """Its end and the plan, without the signature and its key."""
    ended = run("doctor", f"{BUCKET}/in/a.csv", "--grant", grant(sizes=(0, 2**30)))
    assert ended.code == 0, ended.out
    assert "1 MiB in one PostObject" in ended.out
    assert "ok    signer: signs PostObject of examplebucket/in/a.csv" in ended.out
    assert "x-oss-credential" not in ended.out
    assert "life of the grant" in ended.out
    assert "presigned URL" not in ended.out
    assert not [one for one in oss.requests if one.action == "PostObject"]


def test_doctor_notes_a_signature_of_version_1(run, grant):
    """New buckets refuse it."""
    ended = run("doctor", f"{BUCKET}/in/a.csv", "--grant", grant(version="v1"))
    assert ended.code == 0, ended.out
    assert "note  signature: it is of version V1, which new" in ended.out


def test_doctor_cannot_fetch_the_grant(run):
    """A server that does not answer is bad, and its address is in the finding."""
    ended = run("doctor", "--grant", "http://127.0.0.1:9/grant")
    assert ended.code
    (bad,) = [one for one in ended.out.splitlines() if one.startswith("BAD")]
    assert "grant: no answer from the server of the grant at 127.0.0.1" in bad


def test_doctor_finds_what_is_wrong(run, grant):
    """A path that the grant does not have, a size above its range, a grant that ended."""
    place = grant(sizes=(0, 100))
    ended = run("doctor", f"{BUCKET}/out/a", "--grant", place)
    assert (ended.code, "starts-with" in ended.out) == (3, True)
    ended = run("doctor", f"{BUCKET}/in/a", "--grant", place)
    assert (ended.code, "content-length-range" in ended.out) == (3, True)
    ended = run("doctor", f"{BUCKET}/in/a", "--grant", grant(life=-1))
    assert ended.code
    assert "it expired at" in ended.out
