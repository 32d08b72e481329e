"""The commands of docs/sync.md print what the page shows, and its Python runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from fsspec_osspresigned.tools import cli
from tests.tools.sync.conftest import BUCKET

PAGE = (Path(__file__).parents[3] / "docs" / "sync.md").read_text(encoding="utf-8")


def blocks(language):
    """Return the code of the page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def steady(line):
    """Return a line without its seconds, which differ from one run to the next."""
    return re.sub(r" in [\d.]+ s\b", " in some seconds", line)


def test_commands_print_what_the_page_shows(fs, owner, tmp_path, monkeypatch, capsys):
    """They are run one after the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("exports/a.csv", "exports/2026/b.csv", "more/a.csv", "more/new.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"a,b\n1,2\n")
    Path("more/a.csv").write_bytes(b"other")
    owner.map_file("in/a.csv", "in/2026/b.csv")
    shown = [block for block in blocks("text") if block.startswith("$ ")]
    assert len(shown) == 10
    for block in shown:
        command, *printed = block.splitlines()
        words = shlex.split(command.removeprefix("$ osspresigned "))
        if "--delete" in words:
            fs.pipe_file(f"{BUCKET}/backup/old.csv", b"old")
        code = cli.main(words)
        said = capsys.readouterr()
        told = (said.out + said.err).splitlines()
        assert [*map(steady, told)] == [*map(steady, printed)], command
        assert code == (1 if " failed" in block else 0)


def test_python_of_the_page_runs(fs, owner, tmp_path, monkeypatch):
    """The pool aside, which its own tests start."""
    monkeypatch.chdir(tmp_path)
    Path("exports").mkdir()
    Path("exports/a.csv").write_bytes(b"a")
    names = {"__name__": "page", "print": lambda *_: None}
    for code in blocks("python"):
        try:
            exec(code, names)  # noqa: S102 - our own page
        except SystemExit as end:
            assert end.code == 0  # noqa: PT017 - whatever comes first
    assert owner.stored() == {"backup/a.csv": b"a"}
