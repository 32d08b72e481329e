"""The command of the benchmarks, and the page that it writes."""

from __future__ import annotations

import shutil

import pytest

from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.work import FEWER, WORKS

WORK = next(work for work in WORKS if work.name == "put")


def test_page_has_the_figures_that_were_recorded():
    """A figure that was changed by hand, or results without their page, are found."""
    page = report.PAGE.read_text("utf-8")
    assert page == report.filled(page, report.recorded())


def test_table_has_times_of_one_object_and_the_ratios_of_other_clients():
    """A row without a client has an empty cell; no row needs all clients."""
    ours = {"count": 5000, "wall": 1.0, "cpu": 0.5, "rss": 3 << 20, "ratio": 1.0}
    clients = {"osspresigned": ours, "obstore": {**ours, "ratio": 0.5}}
    opened = {"osspresigned": {**ours, "count": 1}, FEWER: {**ours, "ratio": 1.2}}
    found = {
        "machine": "A machine",
        "taken": "2026-11-28T02:48:57+00:00",
        "rounds": 5,
        "rows": [
            {"name": "put", "clients": clients, "calls": 90},
            {"name": "open", "clients": opened},
        ],
    }
    lines = report.table(found).splitlines()
    assert lines[2] == (
        "| `put` of 5,000 files of 4 KiB | 0.200 ms | 0.100 ms | 3 MiB | 90 | 0.50 |"
    )
    assert "1.20 x that with 100 open | 1.00 s |" in lines[3]
    assert lines[-1] == "A machine. Medians of 5 rounds, 2026-11-28."


def test_results_are_kept_and_the_page_is_written(monkeypatch, tmp_path):
    """The recorded results can be read again, and the page keeps the text around the table."""
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "RESULTS", tmp_path / "made" / "results.json")
    page = "Before.\n\n<!-- begin results -->\nold\n<!-- end results -->\n\nAfter.\n"
    report.PAGE.write_text(page, "utf-8")
    ours = {"count": 1, "wall": 2.0, "cpu": 1.0, "rss": 0, "ratio": 1.0}
    rows = [{"name": "parts", "clients": {"osspresigned": ours}}]
    found = {"taken": "2026-11-28", "rounds": 5, "machine": "A machine", "rows": rows}
    report.record(found)
    assert report.recorded() == found
    written = report.PAGE.read_text("utf-8")
    assert "| 1 GiB in parts, defaults | 2.00 s | 1.00 s | 0 MiB |" in written
    assert written.startswith("Before.")
    assert written.endswith("After.\n")
    assert "old" not in written


@pytest.mark.parametrize("missing", [{"bytes": 1}, {"puts": 1}])
def test_run_of_which_not_everything_arrived_is_refused(missing):
    """A client that sends less is no faster one."""
    stats = {"bytes": WORK.size * WORK.count, "puts": WORK.count, "completed": 0}
    command.counted(WORK, "curl", stats)
    less = {key: stats[key] - missing.get(key, 0) for key in stats}
    with pytest.raises(command.WrongError, match="curl"):
        command.counted(WORK, "curl", less)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the sink needs a compiler")
def test_quick_run_compares_the_bytes_of_each_verb(monkeypatch, capsys):
    """The command ends with 0 where all bodies arrive, and names what did not."""
    names = "put,pipe,pipe-file,cat,get,info,parts,stream,body,open"
    assert command.main(["--quick", "--only", names]) == 0
    assert "wrong" not in capsys.readouterr().out
    monkeypatch.setattr(command.crc64, "xz", lambda _data: 0)
    assert command.main(["--quick", "--only", "body"]) == 1
    assert "wrong: body: osspresigned: 000000.bin" in capsys.readouterr().out
