"""Messages about input that is wrong: they name the mistake, once."""

from __future__ import annotations

import json
import os
import re

import pytest

from fsspec_osspresigned.model import Action
from tests.form_signer import grant_of
from tests.tools.cli.conftest import BUCKET, KEYS, stored


@pytest.fixture
def grant(oss, tmp_path):
    """A file with a grant for ``granted/``."""
    (tmp_path / "grant.json").touch(0o600)
    text = json.dumps(grant_of(oss, BUCKET, "granted/"))
    (tmp_path / "grant.json").write_text(text)
    return "grant.json"


@pytest.mark.parametrize(
    "call",
    [
        ("put", "data", f"s3://{BUCKET}/in/"),
        ("put", "data/a.csv", f"https://{BUCKET}.oss-cn-hangzhou.aliyuncs.com/x"),
        ("get", f"s3://{BUCKET}/in/x", "."),
        ("ls", f"gs://{BUCKET}"),
        ("cp", f"{BUCKET}/a", f"s3://{BUCKET}/b"),
        ("sync", "data", f"s3://{BUCKET}/in"),
        ("doctor", f"s3://{BUCKET}/in/x"),
    ],
)
def test_scheme_of_another_store(run, oss, tree, call):
    """It is named, and nothing is sent."""
    ended = run(*call, *KEYS)
    scheme = next(text for text in call if "://" in text).partition("://")[0]
    assert ended.code == 2
    assert f"error: {scheme}:// is no scheme here: write BUCKET/KEY\n" in ended.err
    assert not oss.requests


@pytest.mark.parametrize("option", ["--map", "--grant"])
def test_file_that_is_no_map_and_no_grant(run, tree, tmp_path, option):
    """The message says that the file is no map, not where its JSON is wrong."""
    (tmp_path / "report.csv").touch(0o600)
    (tmp_path / "report.csv").write_text("day,n\n")
    ended = run("put", "data/a.csv", f"{BUCKET}/in/", option, "report.csv")
    why = "this is neither a URL map nor a grant"
    assert (ended.code, ended.err) == (2, f"error: {tmp_path}/report.csv: {why}\n")


def test_refusals_that_differ_only_in_the_path_are_one(
    run, tree, url_map, grant, signer_of
):
    """The reason comes once, by a map, a grant and a signer."""
    sources = {
        "the URL map has no entry for BUCKET/KEY": ("--map", url_map("in/x")),
        "the grant does not allow BUCKET/KEY: key KEY does not meet": (
            "--grant",
            grant,
        ),
        "the signer refused PutObject of BUCKET/KEY": signer_of(Action.GetObject),
    }
    for reason, source in sources.items():
        ended = run("put", "data/", f"{BUCKET}/other/", *source)
        first, *names, last = ended.err.splitlines()
        assert first.startswith(f"3 not uploaded: {reason}"), ended.err
        assert sorted(name.partition("; nearest: ")[0] for name in names) == [
            f"  {BUCKET}/other/{name}" for name in ("a.csv", "b/c.csv", "b/d e.bin")
        ]
        assert last == "uploaded 0 of 3 files; 3 failed"


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_file_name_that_is_not_utf8(run, oss, tree):
    """It is the name of the file that is wrong; the others arrive."""
    with open(os.fsencode(tree) + b"/n\xff", "wb"):
        pass
    ended = run("put", "data/", f"{BUCKET}/in/", *KEYS)
    assert ended.code == 1
    assert "is from a file name that is not UTF-8" in ended.err
    assert len(stored(oss)) == 3


def test_options_of_put_are_in_groups(run):
    """One of 40 options is hard to find in a flat list."""
    shown = run("put", "--help").out
    assert re.findall(r"^(\w.*):$", shown, re.MULTILINE) == [
        "Options",
        "Filters",
        "Signatures and connections",
        "Transfer and output",
        "Objects and resuming",
    ]


def test_crc_is_the_same_text_everywhere(run, oss, tree):
    """Decimal, as the store's header: JavaScript would round the number."""
    path = f"{BUCKET}/in/a.csv"
    event = run("put", "data/a.csv", path, *KEYS, "--json").events[0]
    crc = str(oss.get(BUCKET, "in/a.csv").crc64)
    assert event["crc64"] == crc
    assert run("stat", path, *KEYS, "--json").events[0]["crc64"] == crc
    receipt = run("put", "data/a.csv", path, *KEYS, "--receipts", "-").out
    assert json.loads(receipt)["crc64"] == crc
