"""The demo does what it says, and does not call good what is not."""

from __future__ import annotations

import sys

import pytest

from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.tools.demo import owner, plan

pytestmark = pytest.mark.slow

PATH = f"{plan.BUCKET}/a"


@pytest.fixture
def a_plan(tmp_path):
    """A plan whose object ``a`` must hold ``abc``."""
    made = plan.DemoPlan(str(tmp_path), "http://127.0.0.1:1", 1, 1, 1)
    made.source(PATH).parent.mkdir(parents=True)
    made.source(PATH).write_bytes(b"abc")
    return made


def test_failed_uploader_fails_the_demo(monkeypatch, capsys):
    """Exit code 1 and a table that says what is missing."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert cli.main(["demo", "--large", "1"]) == 1
    said = capsys.readouterr().out
    assert said.count("no receipt") == len(plan.EVERYTHING)
    assert "FAILED with exit code 1" in said
    assert "NOT VERIFIED" in said


@pytest.mark.slow
def test_tampered_object_fails_the_demo(monkeypatch, capsys):
    """If one object was replaced, the exit code is 1, and only its row fails."""
    examine = owner.examine

    def after_tampering(a_plan, reader, found, path):
        if path == plan.ONE_FILE:
            reader.pipe_file(path, b"not what was sent")
        return examine(a_plan, reader, found, path)

    monkeypatch.setattr(owner, "examine", after_tampering)
    assert cli.main(["demo", "--large", "1"]) == 1
    said = capsys.readouterr().out
    assert said.count("NO: size, bytes, CRC-64") == 1
    assert said.count(" yes ") == len(plan.EVERYTHING) - 1


@pytest.mark.slow
def test_whole_demo(monkeypatch, capsys):
    """Every object of the main job arrives, each in its own way."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "must not reach the uploader")
    assert cli.main(["demo", "--large", "20"]) == 0
    said = capsys.readouterr().out
    assert said.count("yes") == len(plan.EVERYTHING)
    assert said.count("3 parts") == 2
    assert "every byte verified" in said
