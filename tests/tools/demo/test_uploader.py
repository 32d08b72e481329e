"""The demo's uploader: without keys, and clean about a failure."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.tools.demo import uploader

pytestmark = pytest.mark.slow


def test_uploader_refuses_to_have_keys(monkeypatch):
    """Keys in the uploader's environment would make the demo worthless."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "k")
    with pytest.raises(SystemExit, match="OSS_ACCESS_KEY_ID"):
        uploader.main("plan.json")


def test_failure_of_the_uploader_is_one_clean_line(monkeypatch, capsys):
    """The error is named, without a traceback and without a signature."""

    def fail(place):
        raise RuntimeError(f"{place}: https://h/k?x-oss-signature=5ec4e7")

    monkeypatch.setattr(uploader, "upload", fail)
    assert uploader.main("plan.json") == 1
    said = capsys.readouterr().out
    assert said.startswith("uploader: stopped by RuntimeError: plan.json")
    assert "5ec4e7" not in said
    assert said.count("\n") == 1
