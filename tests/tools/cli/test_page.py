"""docs/cli.md: every command that it prints does what it says."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from pathlib import Path

import pytest

from fsspec_osspresigned.tools.cli import app as commands
from tests.form_signer import grant_of
from tests.tools.cli.conftest import BUCKET
from tests.upload_servers import DashScope

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text("utf-8")


def printed() -> list[str]:
    """Return the commands of the page, and those of the help texts."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    found = [line for block in blocks for line in block.splitlines()]
    return [
        line for line in found if "osspresigned " in line and "COMPLETE" not in line
    ]


def helped() -> list[str]:
    """Return the examples of ``--help``; a line that ends in a backslash continues."""
    found = []
    for command in commands.osspresigned.commands.values():
        text = (command.epilog or "").replace("\\\n", " ")
        found += [
            line.partition("   (")[0].strip()
            for line in text.splitlines()
            if "osspresigned " in line and command.name in NEW
        ]
    return found


NEW = (*("put", "get", "ls", "cat", "stat", "cp", "mv", "rm", "url", "doctor"),)


@pytest.fixture
def studio(oss, monkeypatch):
    """Name of Model Studio in a command; its server is on this machine."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-CANARYdashscope")
    with DashScope(oss) as server:
        yield f"--upload-server dashscope+{server.url}"


@pytest.fixture
def world(oss, run, url, url_map, tmp_path):
    """The files and objects that the page speaks of."""
    (tmp_path / "photo.jpg").write_bytes(b"picture")
    (tmp_path / "report.csv").write_text("a,b\n")
    (tmp_path / "data" / "x").mkdir(parents=True)
    (tmp_path / "data" / "x" / "1.bin").write_bytes(b"1")
    (tmp_path / "logs").mkdir()
    for name in ("a", "b"):
        (tmp_path / "logs" / f"{name}.gz").write_bytes(gzip.compress(b"log"))
    (tmp_path / "link.url").touch(0o600)
    (tmp_path / "link.url").write_text(url("in/report.csv"))
    run("put", "report.csv", f"{BUCKET}/out/a.csv", "--signer", "keys")
    run("put", "report.csv", f"{BUCKET}/db.sql", "--signer", "keys")
    run("put", "report.csv", f"{BUCKET}/out/b.csv", "--signer", "keys")
    run("put", "report.csv", f"{BUCKET}/in/a.csv", "--signer", "keys")
    url_map("in/2026/report.csv", "in/a.csv", "in/data/x/1.bin", "in/a.gz", "in/b.gz")
    (tmp_path / "grant.json").touch(0o600)
    (tmp_path / "grant.json").write_text(json.dumps(grant_of(oss, BUCKET, "in/")))
    (tmp_path / "rules").write_text("- *.tmp\n")
    (tmp_path / "refusal.txt").write_text("HTTP/1.1 403 Forbidden\n")
    return oss


@pytest.mark.parametrize("line", dict.fromkeys([*printed(), *helped()]))
def test_printed_command_works(line, run, world, request, url, tmp_path, monkeypatch):
    """It ends with the code that is written behind it, else with 0."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    line, _, comment = line.partition(" #")
    wanted = int(re.findall(r"exit code (\d)", f"{comment} exit code 0")[0])
    for text, server in {
        "https://sign.example.com": "signer",
        "--upload-server dashscope": "studio",
    }.items():
        if text in line:
            line = line.replace(text, request.getfixturevalue(server))
    if (
        "big.bin" in line
    ):  # what a test leaves is searched for secrets, which takes time
        (tmp_path / "big.bin").write_bytes(bytes(20_000_000))
    words = shlex.split(line)
    stdin, shown = b"", None
    if "|" in words:
        at = words.index("|")
        if words[0] == "osspresigned":
            words, shown = words[:at], "a,b\n"
        else:  # what another program prints
            stdin, words = b"a,b\n", words[at + 1 :]
    if words[-2] == "<":
        stdin, words = (tmp_path / words[-1]).read_bytes(), words[:-2]
    is_url = words[1] == "url"
    if words[-2] == ">":
        words = words[:-2]
    if words[-1] == "-" and "--url-file" in words:
        stdin = url("in/report.csv").encode()
    assert words[0] == "osspresigned"
    ended = run(*words[1:], stdin=stdin, secret=is_url)
    assert ended.code == wanted, ended.err
    assert ended.out.startswith("http") == is_url
    assert shown in (None, ended.out)
