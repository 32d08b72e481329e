"""The report of the benchmark, on made-up results."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET

import pytest

from benchmarks import defaults, report, tables
from benchmarks.results import (
    UnreadableError,
    compact,
    filled,
    judged_again,
    merged,
    read,
    worst,
)
from benchmarks.work import GIB, KIB, MAP, MIB, OURS, ROWS, Work

PAGES = {
    "performance.md": ("network",),
    "measurements.md": ("machine", "targets", "peers", "growth", "defaults"),
}


def _spread(middle):
    return {"min": middle * 0.9, "median": middle, "max": middle * 1.2}


def _taken(wall, ratio=None, rss=3 * MIB, checks="none", count=1):
    spread = None if ratio is None else _spread(ratio)
    return {
        "checks": checks,
        "note": f"made | up, {checks}",
        "proof": "bytes",
        "rounds": [{"wall": wall, "cpu": wall / 2, "rss": rss, "ratio": ratio}],
        "wall": _spread(wall),
        "cpu": _spread(wall / 2),
        "rss": _spread(rss),
        "ratio": spread,
        "micros": wall / count * 1e6,
    }


def _row(work, candidates, *, title=None, reference=None, targets=(), **more):
    return {
        "name": work.name,
        "title": title or f"title of {work.name}",
        "verb": work.verb,
        "work": work.as_dict(),
        "ideal": work.ideal,
        "reference": reference,
        "less": None,
        "series": None,
        "candidates": candidates,
        "failed": {},
        "targets": list(targets),
        "ok": None,
        **more,
    }


def _target(kind, most, reached, candidate=OURS):
    return {
        "candidate": candidate,
        "kind": kind,
        "most": most,
        "reached": reached,
        "met": reached is not None and reached <= most,
    }


def _sweep(latency, rate, size, part, width, wall):
    name = f"sweep-{latency}-{rate}-{size}-{part}x{width}"
    work = Work(
        name,
        "multipart",
        size * MIB,
        part_size=part * MIB,
        concurrency=width,
        latency=latency,
        rate=rate,
    )
    return _row(work, {OURS: _taken(wall)}, series="sweep")


def _rows():
    put = _row(
        Work("put-1g", "put", GIB),
        {
            OURS: _taken(0.5, 0.93, checks="CRC-64 of every body"),
            "curl": _taken(0.6, 1.0),
            "oss2": _taken(4.0, 8.1, checks="CRC-64 (default), crcmod"),
            "hand:mmap": _taken(0.3, 0.6),
        },
        title="one PUT of 1 GiB",
        reference="curl",
        targets=[_target("ratio", 1.0, 0.93), _target("rss", 16 * MIB, 17 * MIB)],
    )
    small = _row(
        Work("small-20ms", "small", 4 * KIB, 5000, latency=0.02, concurrency=32),
        {OURS: _taken(3.3, 1.05, count=5000), "aiohttp": _taken(3.2, 1.02)},
        title="5,000 files of 4 KiB, 20 ms, small-20ms",
        reference="bound",
        bound=3.14,
        targets=[_target("ratio", 1.08, 1.05)],
    )
    serve = _row(
        Work("small-serve", "small", 4 * KIB, 5000),
        {OURS: _taken(2.0, 1.0)},
        reference=OURS,
        targets=[_target("ratio", 1.1, None, "osspresigned:serve")],
    )
    sign = _row(
        Work("sign-v4", "sign", 0, 5000),
        {OURS: _taken(0.1, count=5000)},
        targets=[_target("micros", 25.0, 20.0)],
    )
    many = [
        _row(
            Work(f"many-{n}", "small", KIB, n),
            {OURS: _taken(n / 3000, 0.9, count=n)},
            series="many",
            reference="hand:prepared",
            targets=[_target("linear", 1.15, 1.02)] if n > 10 else [],
        )
        for n in (10, 100)
    ]
    rough = _row(
        Work("rough-slow-link", "multipart", 48 * MIB, rate=1e6),
        {OURS: _taken(6.1)},
        title="slow links",
        reference="hand:mmap",
        targets=[_target("seconds", 7.0, 6.1), _target("rss", 32 * MIB, 3 * MIB)],
    )
    lost = _row(
        Work("rough-lost", "stream", MIB),
        {},
        failed={OURS: "no"},
        targets=[_target("seconds", 7.0, None)],
    )
    grown = [
        _row(Work(f"grow-files-{n}", "small", KIB, n), {OURS: _taken(n / 2000)},
             series="files")
        for n in (10, 1000)
    ]  # fmt: skip
    grown += [
        _row(Work(f"grow-size-{n}", "multipart", n * MIB), {OURS: _taken(n / 2000)},
             series="size")
        for n in (1, 100)
    ]  # fmt: skip
    grown += [
        _row(Work(f"grow-map-{n}", "map", KIB, n), {"osspresigned:map": _taken(n / 2e5)},
             series="map")
        for n in (10, 10_000)
    ]  # fmt: skip
    grown += [
        _row(
            Work(f"grow-dask-{n}", "dask", 64 * MIB, 16, concurrency=n),
            {"osspresigned:dask": _taken(4.0 / n)},
            series="dask",
        )
        for n in (1, 2)
    ]
    cells = [
        _sweep(latency, rate, size, part, width, 0.1 + part / 100 + 1 / width)
        for latency in (0.0, 0.02)
        for rate in (50e6, None)
        for size, parts in ((8, (2, 8)), (16, (2, 4, 16)), (128, (2, 8, 16)))
        for part in parts
        for width in (8, 16)
    ]
    return [put, small, serve, sign, *many, rough, lost, *grown, *cells]


def _results(rows=None, **more):
    return {
        "version": 1,
        "taken": "2026-01-02T03:04:05+00:00",
        "suite": "all",
        "quick": False,
        "rounds": 5,
        "machine": {
            "system": "Linux",
            "kernel": "6.1-of-somebody",
            "cpu": "Made Up 9000",
            "cores": 2,
            "memory": 8 * GIB,
            "python": "3.11.7",
            "packages": {"requests": "2.32.3"},
            "programs": {"curl": "curl 8.14.1 (x86_64) libcurl/8.14.1"},
            "limits": "open files 1024",
        },
        "rows": _rows() if rows is None else rows,
        "missing": {"ossfs": "no Python module ossfs"},
        "skipped": [{"name": "sweep-far", "ideal": 99.0}],
        "wrong": [],
        **more,
    }


def _file(directory, name="all.json", **more):
    path = directory / name
    path.write_text(json.dumps(_results(**more)))
    return path


def _docs(directory):
    docs = directory / "docs"
    docs.mkdir()
    for page, names in PAGES.items():
        places = [f"<!-- begin {n} -->\nold\n<!-- end {n} -->\n" for n in names]
        (docs / page).write_text("# By hand\n\n" + "\nBetween.\n\n".join(places))
    return docs


@pytest.fixture
def results(tmp_path):
    """Made-up results, read from a file."""
    return merged([read(_file(tmp_path))])


def _line(table, start):
    (found,) = [line for line in table if line[0].startswith(start)]
    return found


def test_target_is_a_line_with_a_verdict(results):
    """A reader sees what was reached, what was promised, and which of it was missed."""
    line = _line(tables.targets(results), "one PUT of 1 GiB")
    assert line == [
        *("one PUT of 1 GiB", "500 ms", "0.93 `curl`", "1", "3.0 MiB of 16"),
        "**no**: memory",
    ]


def test_bound_signature_and_cost_of_an_item_are_told_in_their_own_units(results):
    """Not every target is a ratio to another client."""
    table = tables.targets(results)
    small = _line(table, "5,000 files")
    assert small[1:4] == ["3.3 s", "1.05 latency alone", "1.08"]
    sign = _line(table, "title of sign-v4")
    assert (sign[1], sign[3], sign[4], sign[-1]) == ("20 µs", "25 µs", "", "yes")
    many = _line(table, "title of many-100")
    assert many[2:4] == ["1.02 of the first's cost of one", "1.15"]
    slow = _line(table, "slow links")
    assert (slow[1], slow[3]) == ("6.1 s", "7 s")


def test_reference_that_did_not_run_is_named(results):
    """A ratio that is missing is no ratio of 1."""
    (row,) = [dict(row) for row in results["rows"] if row["name"] == "put-1g"]
    row["candidates"] = {OURS: row["candidates"][OURS]}
    line = tables.targets({**results, "rows": [row]})[1]
    assert line[2] == "`curl` did not run"


def test_candidate_that_did_not_run_has_met_nothing(results):
    """A row without a figure is no success."""
    for title in ("title of small-serve", "title of rough-lost"):
        line = _line(tables.targets(results), title)
        assert line[1] == "did not run"
        assert line[-1] == "**no**"


def test_rows_can_be_chosen(results):
    """The page for users shows what the link decides."""
    (line,) = report.network(results)[1:]
    assert line == [
        *("5,000 files of 4 KiB, 20 ms", "3.3 s", "1.05 latency alone", "3.0 MiB"),
    ]


def test_names_of_chosen_rows_are_those_of_the_benchmark():
    """A renamed row cannot vanish from the pages."""
    assert {*tables.NETWORK, *tables.COMPARED} <= {row.name for row in ROWS}


def test_clients_stand_below_ours_by_their_ratios_with_what_they_check(results):
    """Whoever checks nothing is seen as such; loops by hand are no clients."""
    assert tables.peers(results) == [
        ["", "checks", "one PUT of 1 GiB", "5,000 files of 4 KiB, 20 ms"],
        ["`osspresigned`", "CRC-64", "0.93", "1.05"],
        ["`curl`", "none", "1.00", ""],
        ["`aiohttp`", "none", "", "1.02"],
        ["`oss2`", "CRC-64", "8.10", ""],
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0000205, "20.5 µs"), (0.25, "250 ms"), (12.345, "12.3 s"), (3210, "3,210 s")],
)
def test_time_has_three_digits_and_a_unit(value, text):
    """From microseconds to an hour."""
    assert tables.seconds(value) == text


def test_growth_tells_the_cost_of_one(results):
    """The figure that must not rise."""
    costs = [line[1] for line in tables.growth(results)[1:]]
    assert [text.rpartition("; ")[2] for text in costs] == [
        "1,000: 500 µs, 3.0 MiB",
        "100 MiB: 512 ms a GiB, 3.0 MiB",
        "2: 537 MB/s",
        "10,000: 5 µs, 3.0 MiB",
    ]


def test_default_cell_is_what_the_package_would_do(results):
    """8 MiB go as one body, larger ones in the parts that the ledger says."""
    by_size = {key[2]: rows for key, rows in defaults.cells(results).items()}
    found = {
        size // MIB: defaults.default_cell(rows)["work"]
        for size, rows in by_size.items()
    }
    assert defaults.in_one(found[8])
    assert (found[16]["part_size"], found[16]["concurrency"]) == (2 * MIB, 16)
    assert (found[128]["part_size"], found[128]["concurrency"]) == (8 * MIB, 16)
    assert len(defaults.table(results)) == 1 + 12
    assert "of 12 pairs" in defaults.said(results)
    assert "1 combinations" in defaults.said(results)


def test_curve_compares_part_sizes_at_one_width(results):
    """What more connections bring is another question."""
    rows = defaults.cells(results)[0.02, 50e6, 128 * MIB]
    curve = defaults.curve(rows)
    assert [at for at, _ in curve] == [2, 8, 16]
    assert min(share for _, share in curve) == 1.0
    assert defaults.curve([]) == []


def test_first_file_gives_a_row_and_later_ones_add_candidates(tmp_path):
    """A peer in an environment of its own keeps the ratio of its own run."""
    first = _results(_rows()[:1])
    later = copy.deepcopy(first)
    later["taken"] = "2026-01-02T09:00:00+00:00"
    later["rows"][0]["candidates"] = {
        OURS: _taken(9.0, 9.0),
        "ossfs": _taken(5.0, 10.0, checks="CRC-64"),
    }
    later["rows"].append(_rows()[1])
    paths = tmp_path / "a.json", tmp_path / "b.json"
    for path, one in zip(paths, (first, later), strict=True):
        path.write_text(json.dumps(one))
    found = merged(map(read, paths))
    assert [row["name"] for row in found["rows"]] == ["put-1g", "small-20ms"]
    candidates = found["rows"][0]["candidates"]
    assert candidates[OURS]["wall"]["median"] == 0.5
    assert candidates["ossfs"]["run"] == 1
    assert found["missing"] == {}
    assert _line(tables.peers(found), "`ossfs`")[2] == "10.00"
    said = report.machine(found)
    assert "* Runs: all 2026-01-02 (5 x)." in said


def test_targets_are_in_the_order_of_the_table(tmp_path):
    """Whichever file a row came from, and whatever else was run."""
    other = copy.deepcopy(_rows()[0])
    other["name"] = "rough-x"
    rows = [[other, _rows()[1]], [_rows()[0]]]
    files = [_file(tmp_path, f"{n}.json", rows=some) for n, some in enumerate(rows)]
    found = [row["name"] for row in merged(map(read, files))["rows"]]
    assert found == ["put-1g", "small-20ms", "rough-x"]


def _elsewhere(tmp_path, name="there.json", **machine):
    """Return results of the same rows from another machine, three days later."""
    made = _results(taken="2026-01-05T00:00:00+00:00")
    made["machine"] |= {"cpu": "Other 1", **machine}
    put, small = made["rows"][:2]
    put["candidates"] = {OURS: _taken(0.9, 0.8), "curl": _taken(1.1, 1.0)}
    put["targets"] = [_target("ratio", 1.0, 0.8), _target("rss", 16 * MIB, 20 * MIB)]
    small["candidates"] = {OURS: _taken(3.9, 1.21, count=5000)}
    small["targets"] = [_target("ratio", 1.08, 1.21)]
    path = tmp_path / name
    path.write_text(json.dumps(made))
    return path


def test_machines_are_kept_apart_and_the_worst_is_shown(tmp_path):
    """A ratio that holds on one machine is half a result; each tells its run."""
    found = merged([read(_file(tmp_path)), read(_elsewhere(tmp_path))])
    names = [row["name"] for row in found["rows"]]
    assert names.count("put-1g") == names.count("small-20ms") == 2
    table = tables.targets(worst(found))
    small = _line(table, "5,000 files")
    assert (small[2], small[-1]) == ("1.21 latency alone", "**no**: ratio")
    put = _line(table, "one PUT")
    assert (put[2], put[-1]) == ("0.80 `curl`", "**no**: memory")
    points = [row["name"] for row in worst(found)["rows"] if row["series"] == "files"]
    assert len(points) == len(set(points)) > 1
    said = report.machine(found)
    assert "* Machine 2: Other 1, 2 cores" in said
    assert "* Runs: all 2026-01-05 (5 x)." in said


def test_worst_of_machines_does_not_depend_on_their_order(tmp_path):
    """Whoever puts results together, readers see the same."""
    here, there = read(_file(tmp_path)), read(_elsewhere(tmp_path))
    for files in ([here, there], [there, here]):
        rows = {row["name"]: row for row in worst(merged(files))["rows"]}
        assert rows["small-20ms"]["candidates"][OURS]["ratio"]["median"] == 1.21
        assert rows["small-20ms"]["ok"] is False
        kinds = {one["kind"]: one["reached"] for one in rows["put-1g"]["targets"]}
        assert kinds == {"ratio": 0.93, "rss": 20 * MIB}


def test_kept_results_of_several_machines_give_the_same_again(tmp_path):
    """One file holds them all, and old files without a second machine are read as ever."""
    found = merged([read(_file(tmp_path)), read(_elsewhere(tmp_path))])
    path = tmp_path / "results.json"
    path.write_text(compact(found))
    assert compact(merged([read(path)])) == compact(found)


def test_fill_adds_only_rows_that_were_not_run_again(tmp_path):
    """Rows of an older version of the package do not stand beside those of this one."""
    new = merged([read(_file(tmp_path, "new.json", rows=_rows()[:1]))])
    older = read(_elsewhere(tmp_path))
    found = filled(new, older)
    assert [row["name"] for row in found["rows"]].count("put-1g") == 1
    assert "small-20ms" in {row["name"] for row in found["rows"]}
    older["rows"][0]["candidates"] |= {"httpx": _taken(2.0, 1.5), MAP: _taken(9.0, 9.0)}
    (put,) = [r for r in worst(filled(new, older))["rows"] if r["name"] == "put-1g"]
    assert put["candidates"]["httpx"]["run"] == 1  # a client of others is as it was
    assert MAP not in put["candidates"]
    assert put["targets"] == new["rows"][0]["targets"]


def test_row_is_judged_by_the_target_of_today(results):
    """A target that was set later counts for figures on record, too."""
    row = judged_again(results)["rows"][0]
    (target,) = next(row for row in ROWS if row.name == "put-1g").targets
    kinds = {one["kind"]: one["most"] for one in row["targets"]}
    assert kinds == {"ratio": target.ratio, "rss": target.rss}
    assert row["ok"] is False
    before = copy.deepcopy(results)
    before["rows"][0]["reference"] = "pycurl"
    again = judged_again(before)["rows"][0]["targets"]
    assert [(one["kind"], one["most"]) for one in again] == [
        ("rss", target.rss),
        ("ratio", 1),
    ]


def test_quick_run_adds_nothing_to_a_real_one(tmp_path):
    """A ratio that proves only that bytes arrive does not stand beside one of time."""
    real = read(_file(tmp_path, "real.json", rows=_rows()[:1]))
    quick = read(_file(tmp_path, "quick.json", rows=_rows()[:2], quick=True))
    quick["rows"][0]["candidates"]["httpx"] = _taken(1.0, 2.0)
    found = merged([real, quick])
    assert "httpx" not in found["rows"][0]["candidates"]
    assert [row["run"] for row in found["rows"]] == [0, 1]


def test_kept_results_give_the_same_again(tmp_path, results):
    """What is kept beside the pages can be read, and is written alike."""
    text = compact(results)
    assert "rounds" not in json.loads(text)["rows"][0]["candidates"][OURS]
    path = tmp_path / "results.json"
    path.write_text(text)
    again = merged([read(path)])
    assert compact(again) == text
    assert tables.targets(again) == tables.targets(results)
    assert compact(merged([results, read(path)])) == text


def test_run_of_which_nothing_is_left_is_forgotten(tmp_path):
    """Old results that were all measured again leave no trace."""
    new = read(_file(tmp_path, "new.json"))
    old = read(_file(tmp_path, "old.json", taken="2026-01-02T01:00:00+00:00"))
    peer = read(_file(tmp_path, "peer.json", taken="2026-01-02T02:00:00+00:00"))
    peer["rows"][0]["candidates"] = {"ossfs": _taken(5.0, 10.0)}
    found = merged([new, old, peer])
    assert [run["taken"][12:13] for run in found["runs"]] == ["3", "2"]
    assert found["rows"][0]["candidates"]["ossfs"]["run"] == 1
    assert compact(found) == compact(merged([found]))


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"version": 2}'])
def test_other_files_are_refused_by_name(tmp_path, text, capsys):
    """No traceback for a wrong argument."""
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UnreadableError, match=re.escape(str(path))):
        read(path)
    assert report.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_pieces_replace_only_what_is_between_their_markers():
    """Hand-written text is never touched; a second time changes nothing."""
    page = "a\n<!-- begin x -->\nold \\1\n<!-- end x -->\nb\n"
    once = report.filled(page, {"x": "new \\g<0>\n"}, "page.md")
    assert once == "a\n<!-- begin x -->\n\nnew \\g<0>\n\n<!-- end x -->\nb\n"
    assert report.filled(once, {"x": "new \\g<0>\n"}, "page.md") == once


@pytest.mark.parametrize("pieces", [{}, {"x": "1", "y": "2"}])
def test_marker_without_a_piece_and_piece_without_a_marker_are_errors(pieces):
    """A page cannot quietly lose a table."""
    page = "<!-- begin x -->\n<!-- end x -->\n"
    with pytest.raises(report.UnmarkedError, match=r"page\.md"):
        report.filled(page, pieces, "page.md")


def test_tables_need_no_matplotlib(tmp_path, monkeypatch, capsys):
    """Without it pages are written, plots are left as they are, and it is said."""
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda name: None)
    docs = _docs(tmp_path)
    (docs / "performance").mkdir()
    (docs / "performance" / "peers-put.svg").write_text("<svg/>")
    assert report.main([str(_file(tmp_path)), "--docs", str(docs)]) == 1
    said = capsys.readouterr()
    assert "no matplotlib" in said.err
    assert "one PUT of 1 GiB" in said.out
    page = "".join((docs / name).read_text() for name in PAGES)
    assert (docs / "performance" / "peers-put.svg").exists()
    assert "old" not in page
    assert page.count("Between.") == 4
    assert "Made Up 9000, 2 cores, 8 GiB, Linux 6.1, Python 3.11.7." in page
    assert "curl 8.14.1." in page
    assert (docs / "performance" / "results.json").exists()


def test_print_writes_nothing(tmp_path, capsys):
    """A look at results leaves the pages alone."""
    docs = _docs(tmp_path)
    before = {path: path.read_text() for path in docs.iterdir()}
    assert report.main(["--print", str(_file(tmp_path)), "--docs", str(docs)]) == 0
    assert {path: path.read_text() for path in docs.iterdir()} == before
    told = capsys.readouterr().out
    for head in ("Targets", "Clients", "Growth", "Defaults"):
        assert head in told


def test_suites_that_did_not_run_are_said_to_be_missing(tmp_path, capsys):
    """An empty table would look like a result."""
    path = _file(tmp_path, rows=[], quick=True, rounds=1)
    found = merged([read(path)])
    assert "nothing about time" in report.machine(found)
    texts = report.pieces(found)
    assert texts["performance.md"] == {"network": "*Not measured.*"}
    made = texts["measurements.md"].items()
    assert {t for name, t in made if name != "machine"} == {"*Not measured.*"}
    assert report.main(["--print", str(path)]) == 0
    assert "Growth" not in capsys.readouterr().out


def test_figures_of_the_pages_are_those_of_the_results():
    """Whoever changes a figure or a table by hand is told to run the report."""
    docs = report.ROOT / "docs"
    found = judged_again(merged([read(docs / "performance" / "results.json")]))
    for page, texts in report.pieces(found).items():
        text = (docs / page).read_text("utf-8")
        assert text == report.filled(text, texts, page)


def test_plots_are_svg_on_white_ground_and_the_same_each_time(tmp_path, results):
    """A picture changes in the history only if its figures do."""
    pytest.importorskip("matplotlib")
    from benchmarks import plots  # noqa: PLC0415 - needs it

    drawn = plots.draw(results, tmp_path / "a")
    assert drawn == [f"{name}.svg" for name in plots.names(results)]
    assert drawn == ["defaults-parts.svg", "defaults-threshold.svg"]
    plots.draw(results, tmp_path / "b")
    for name in drawn:
        data = (tmp_path / "a" / name).read_bytes()
        assert data == (tmp_path / "b" / name).read_bytes()
        root = ET.fromstring(data)  # noqa: S314 - drawn here
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert b"fill: #ffffff" in data
        assert b"<dc:date>" not in data
        assert b"\r" not in data


def test_plots_that_nobody_draws_any_more_go(tmp_path, capsys):
    """Old pictures do not stay beside new pages."""
    pytest.importorskip("matplotlib")
    docs = _docs(tmp_path)
    (docs / "performance").mkdir()
    (docs / "performance" / "old.svg").write_text("<svg/>")
    assert report.main([str(_file(tmp_path)), "--docs", str(docs)]) == 0
    assert {path.name for path in (docs / "performance").iterdir()} == {
        *("defaults-parts.svg", "defaults-threshold.svg", "results.json"),
    }
    assert capsys.readouterr().err == ""
