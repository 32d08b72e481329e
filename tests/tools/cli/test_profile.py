"""Profiles of the configuration file."""

from __future__ import annotations

import os

import pytest

from tests.tools.cli.conftest import BUCKET, KEYS

TO = f"{BUCKET}/in/"


@pytest.fixture
def config(oss, tmp_path, monkeypatch):
    """Return a function that writes the configuration file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = tmp_path / "config" / "osspresigned" / "config.toml"
    place.parent.mkdir(parents=True)

    def write(text):
        place.touch(0o600)
        place.write_text(text, encoding="utf-8")
        return place

    return write


def test_profile_stands_for_options(run, oss, tree, config, monkeypatch):
    """By the option, and by the variable."""
    config('[lab]\nsigner = "keys"\njobs = 2\nheader = {Cache-Control = "no-cache"}\n')
    assert run("put", "data/a.csv", TO, "--profile", "lab").code == 0
    assert oss.get(BUCKET, "in/a.csv").headers["cache-control"] == "no-cache"
    assert run("ls", TO, "--profile", "lab").out == f"{TO}a.csv\n"
    monkeypatch.setenv("OSSPRESIGNED_PROFILE", "lab")
    assert run("rm", f"{TO}a.csv").code == 0
    monkeypatch.setenv("OSSPRESIGNED_PROFILE", "other")
    assert run("ls", TO, "--profile", "lab").code == 1


def test_filters_of_a_profile_hold(run, oss, tree, config):
    """Before those that are typed, and with files relative to the configuration."""
    place = config('[lab]\nsigner = "keys"\nexclude = ["*.csv"]\n')
    call = ("put", "data/", TO, "--profile", "lab", "--dry-run")
    assert run(*call).out.count("store ") == 1
    assert run(*call, "--include", "/a.csv").out.count("store ") == 2
    config('[lab]\nsigner = "keys"\nfilter-from = ["rules"]\n')
    (place.parent / "rules").write_text("- b/\n")
    assert run(*call).out.startswith(f"store {TO}a.csv from ")


def test_options_of_one_call_are_not_for_a_profile(run, tree, config):
    """A comparison or a list that holds for every call is a mistake."""
    for option in ("check = true", 'files-from = ["list"]'):
        config(f'[lab]\nsigner = "keys"\n{option}\n')
        ended = run("sync", "data", TO, "--profile", "lab")
        assert ended.code == 2
        assert "unknown key" in ended.err


def test_what_is_typed_wins(run, oss, tree, config, signer, url_map):
    """A source that is typed replaces that of the profile, with its token."""
    config(
        f'[lab]\nsigner = "{signer}"\ntoken = "env:OSSPRESIGNED_TOKEN"\n'
        'storage-class = "IA"\nretries = 0\n'
    )
    more = ("--profile", "lab")
    assert run("put", "data/a.csv", TO, *more).code == 0
    assert oss.get(BUCKET, "in/a.csv").headers["x-oss-storage-class"] == "IA"
    ended = run("put", "data/a.csv", TO, *more, "--storage-class", "Standard")
    assert ended.code == 0
    assert oss.get(BUCKET, "in/a.csv").headers["x-oss-storage-class"] == "Standard"
    ended = run("put", "data/a.csv", TO, *more, "--token", "env:OSSPRESIGNED_NONE")
    assert "OSSPRESIGNED_NONE is not set" in ended.err
    assert run("ls", TO, *more, *KEYS).code == 0
    ended = run("ls", TO, *more, "--map", url_map("k"))
    assert ended.code == 3
    assert "listing is not granted" in ended.err


def test_places_are_relative_to_the_file(run, oss, tree, config, url_map, tmp_path):
    """Wherever the command runs; env: and URLs stay as they are."""
    place = config(
        '[up]\nmap = "urls.json"\ncheckpoint = "~/journals"\nreceipts = "-"\n'
        '[token]\nsigner = "https://sign.example.com"\ntoken = "file:token"\n'
        '[env]\nmap = "env:OSSPRESIGNED_NONE"\n'
    )
    url_map("in/a.csv")
    os.replace(tmp_path / "urls.json", place.parent / "urls.json")
    ended = run("put", "data/a.csv", TO, "--profile", "up")
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    ended = run("put", "data/a.csv", TO, "--profile", "token")
    assert f"{place.parent}/token" in ended.err
    ended = run("put", "data/a.csv", TO, "--profile", "env")
    assert "OSSPRESIGNED_NONE" in ended.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[labs]\n", "no profile 'lab': PLACE: did you mean 'labs'?"),
        ("[zoo]\n[x]\n", "no profile 'lab': PLACE has zoo, x"),
        ("", "no profile 'lab': PLACE has none"),
        ("[lab\n", "PLACE is not valid TOML: "),
        ("signer = 'keys'\n", "PLACE: 'signer' stands outside of a section such as [signer]"),
        ("[lab]\nsinger = 'keys'\n", "profile 'lab' in PLACE: unknown key 'singer': did you mean 'signer'?"),
        ("[lab]\nsigner_token = 'env:X'\n", "unknown key 'signer_token': did you mean 'token'?"),
        ("[lab]\nurl_file = 'x'\n", "unknown key 'url_file'"),
        ("[lab]\nyes = true\n", "unknown key 'yes'"),
        ("[lab]\ntoken = 'abc'\n", "token: this would be the token itself: write env:NAME, or file:PATH"),
        ("[lab]\nmap = 'https://h/k?Signature=x&Expires=1&OSSAccessKeyId=y'\n", "map: a presigned URL is a secret"),
        ("[lab]\nretries = 'many'\n", "retries: 'many' is not a valid integer"),
        ("[lab]\nbwlimit = '1'\n", "bwlimit: '1' is too slow"),
        ("[lab]\nheader = [['x']]\n", "header: write a text, a number, true or false"),
        ("[lab]\nsigner = 1979-05-27\n", "signer: write a text, a number"),
        ("[lab]\nsigner = ['keys']\n", "signer: write one value, not several"),
        ("[lab]\nretries = [1]\n", "retries: write one value, not several"),
        ("[lab]\nmap = {a = 'b'}\n", "map: write one value, not several"),
    ],
)  # fmt: skip
def test_mistakes_are_named(run, tree, config, text, told):
    """With file, profile and key, and never with a secret."""
    place = config(text)
    ended = run("put", "data/a.csv", TO, "--profile", "lab")
    assert ended.code == 2
    assert told.replace("PLACE", str(place)) in ended.err.replace("error: ", "")
    assert "abc" not in ended.err


def test_file_must_be_ones_own(run, tree, config):
    """What others may write could send the token elsewhere."""
    place = config("[lab]\nsigner = 'keys'\n")
    place.chmod(0o620)
    ended = run("put", "data/a.csv", TO, "--profile", "lab")
    assert (ended.code, "may be written by others: chmod go-w" in ended.err) == (
        2,
        True,
    )
    place.unlink()
    ended = run("put", "data/a.csv", TO, "--profile", "lab")
    assert (ended.code, f"{place}: No such file or directory" in ended.err) == (2, True)
