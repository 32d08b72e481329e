"""``osspresigned grant``: what its file allows, and where it may go."""

from __future__ import annotations

import json
import os
import stat
import sys
import time

import fsspec
import pytest

from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.signing.post_policy import PostPolicy
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.units import MIB


@pytest.fixture
def keys(monkeypatch, tmp_path):
    """Keys in the environment, and an empty directory."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAIfakeid")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "fakesecret")
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    monkeypatch.chdir(tmp_path)


def grant(*arguments):
    """Run the command and return its exit code."""
    return cli.main(["grant", *arguments])


def policy_in(place="grant.json"):
    """Return the policy of a grant file, and its fields."""
    with open(place, encoding="utf-8") as file:
        fields = json.load(file)["fields"]
    return PostPolicy.parse(fields["policy"]), fields


@pytest.mark.usefixtures("keys")
def test_file_is_private_and_told(capsys):
    """The file is for its owner alone; what was granted is said, and no secret."""
    assert grant("examplebucket/in/", "--expires", "2h", "--max-size", "1GiB") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert (
        "grant for examplebucket/in/ signed: grant.json (mode 0600, a secret)"
        in said.err
    )
    assert "objects of 1 GiB at most; those below it can be replaced" in said.err
    assert "(1 h 59 min left)" in said.err
    assert stat.S_IMODE(os.stat("grant.json").st_mode) == 0o600
    policy, _ = policy_in()
    assert policy.expires_at == pytest.approx(time.time() + 7200, abs=30)


@pytest.mark.usefixtures("keys")
def test_control_characters_of_the_prefix_are_shown_escaped(capsys):
    """A prefix that comes from elsewhere cannot forge a line."""
    assert grant("examplebucket/in\x1b[2J\nforged/") == 0
    said = capsys.readouterr().err
    assert "grant for examplebucket/in\\x1b[2J\\nforged/ signed: " in said
    assert "\x1b" not in said


@pytest.mark.usefixtures("keys")
def test_pipe_but_no_terminal(capsys, monkeypatch):
    """A grant goes into a pipe on request, and never to a terminal."""
    assert grant("examplebucket/in/", "-o", "-") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["bucket"] == "examplebucket"
    assert "signed: standard output" in said.err
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert grant("examplebucket/in/", "-o", "-") == 2
    assert "do not go to a terminal" in capsys.readouterr().err


@pytest.mark.usefixtures("keys")
def test_nothing_is_replaced_without_force(capsys):
    """A file that exists stays, unless --force."""
    assert grant("examplebucket/in/") == 0
    assert grant("examplebucket/in/") == 2
    assert "grant.json exists already" in capsys.readouterr().err
    assert grant("examplebucket/in/", "--force") == 0


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (["oss://"], "name a directory, bucket/prefix/, or use --whole-bucket"),
        (["examplebucket"], "use --whole-bucket"),
        (["examplebucket/"], "use --whole-bucket"),
        (["examplebucket/in"], "end it with a slash"),
        (["examplebucket/in/", "--whole-bucket"], "give one of them"),
        (["https://examplebucket.example.com/in/"], "not by a URL"),
        (
            ["examplebucket/in/", "--min-size", "2", "--max-size", "1"],
            "sizes from 2 to 1",
        ),
        (["examplebucket/in/", "--expires", "8d"], "not a lifetime from 1s to 7d"),
    ],
)
def test_what_is_refused(call, said, capsys):
    """A grant that would be too wide, or none, is refused with the reason."""
    assert grant(*call) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert os.listdir() == []


@pytest.mark.usefixtures("keys")
def test_whole_bucket_on_request(capsys):
    """``--whole-bucket`` grants every key; a size above OSS's limit is that limit."""
    assert grant("examplebucket", "--whole-bucket", "--max-size", "1TiB") == 0
    assert "objects of 5 GiB at most" in capsys.readouterr().err
    policy, fields = policy_in()
    form = {**fields, "key": "anything"}
    assert policy.judge(form, bucket="examplebucket", size=1, now=time.time()) == []


@pytest.mark.parametrize("version", ["v4", "v1"])
def test_file_uploads_with_the_option(oss, version):
    """The grant file is enough to upload any name below the prefix."""
    wishes = ["--max-size", "1MiB", "--no-overwrite", "--signature-version", version]
    assert grant("examplebucket/in/", *wishes) == 0
    place = os.path.abspath("grant.json")
    fs = fsspec.filesystem("osspresigned", grant=place, skip_instance_cache=True)
    fs.pipe({"examplebucket/in/a b.txt": b"one", "examplebucket/in/deep/c": b"two"})
    assert oss.get("examplebucket", "in/a b.txt").data() == b"one"
    assert oss.get("examplebucket", "in/deep/c").data() == b"two"
    with pytest.raises(FileExistsError):
        fs.pipe_file("examplebucket/in/a b.txt", b"three")
    with pytest.raises(NotCoveredError, match="in/"):
        fs.pipe_file("examplebucket/out", b"four")
    with pytest.raises(NotCoveredError, match="size"):
        fs.pipe_file("examplebucket/in/large", bytes(MIB + 1))
    assert oss.get("examplebucket", "in/a b.txt").data() == b"one"
