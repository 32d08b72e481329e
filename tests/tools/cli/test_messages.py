"""Messages about input that is wrong: they name the mistake, once."""

from __future__ import annotations

import json

import pytest

from tests.form_signer import grant_of
from tests.tools.cli.conftest import BUCKET, KEYS


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


def test_crc_is_the_same_text_everywhere(run, oss, tree):
    """Decimal, as the store's header: JavaScript would round the number."""
    path = f"{BUCKET}/in/a.csv"
    event = run("put", "data/a.csv", path, *KEYS, "--json").events[0]
    crc = str(oss.get(BUCKET, "in/a.csv").crc64)
    assert event["crc64"] == crc
    assert run("stat", path, *KEYS, "--json").events[0]["crc64"] == crc
    receipt = run("put", "data/a.csv", path, *KEYS, "--receipts", "-").out
    assert json.loads(receipt)["crc64"] == crc
