"""The benchmark's arithmetic on made-up figures, and that its command runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from attrs import evolve
from fastcrc import crc64

from benchmarks import figures, measure, suites
from benchmarks.__main__ import chosen, main, rows_of
from benchmarks.candidates import (
    Candidate,
    Where,
    candidate,
    offsets,
    produce,
    registry,
)
from benchmarks.data import Data
from benchmarks.work import GIB, KIB, MIB, ROWS, VERBS, Row, Target, Work, quick

ROOT = Path(__file__).parents[2]


def _taken(wall, rss=0):
    return {"wall": wall, "cpu": wall / 2, "rss": rss}


def _row(**more):
    return Row(Work("made-up", "put", GIB), "made up", **more)


def _where(files, directory="/nowhere"):
    return Where("http://127.0.0.1:1", None, tuple(files), str(directory))


def test_ratio_is_taken_within_each_round():
    """A machine that is slow in one round is slow for both."""
    rounds = {
        "osspresigned": [_taken(1.0), _taken(10.0), _taken(2.0)],
        "curl": [_taken(2.0), _taken(20.0), _taken(2.0)],
    }
    found = figures.summarized(_row(reference="curl"), rounds)["osspresigned"]
    assert found["ratio"] == {"min": 0.5, "median": 0.5, "max": 1.0}
    assert found["wall"] == {"min": 1.0, "median": 2.0, "max": 10.0}


def test_bare_interpreter_is_taken_off_both_sides():
    """What Python itself takes is nobody's merit."""
    rounds = {
        "osspresigned": [_taken(0.5)],
        "hand:start": [_taken(0.3)],
        "hand:bare": [_taken(0.1)],
    }
    row = _row(reference="hand:start", less="hand:bare")
    found = figures.summarized(row, rounds)
    assert found["osspresigned"]["ratio"]["median"] == pytest.approx(2.0)
    assert found["hand:bare"]["ratio"]["median"] == 0.0


def test_bound_is_latency_by_rounds_of_requests():
    """5,000 files, 32 at once, take 157 times the latency."""
    row = next(row for row in ROWS if row.name == "small-20ms")
    assert figures.bound(row.work) == pytest.approx(3.14)
    found = figures.summarized(row, {"osspresigned": [_taken(6.28)]})
    assert found["osspresigned"]["ratio"]["median"] == pytest.approx(2.0)


def test_quickest_of_several_references_counts_in_each_round():
    """To be as quick as the better of two loops means of the better one each time."""
    row = _row(reference="hand:mmap|hand:preadv")
    rounds = {
        "osspresigned": [_taken(2.0), _taken(2.0), _taken(2.0)],
        "hand:mmap": [_taken(1.0), _taken(4.0), _taken(4.0)],
        "hand:preadv": [_taken(2.0), _taken(2.0), _taken(1.0)],
    }
    found = figures.summarized(row, rounds)
    assert found["osspresigned"]["ratio"] == {"min": 1.0, "median": 2.0, "max": 2.0}


def test_no_reference_means_no_ratio():
    """A reference that did not run, or takes no time, makes no figure."""
    found = figures.summarized(_row(reference="curl"), {"osspresigned": [_taken(1.0)]})
    assert found["osspresigned"]["ratio"] is None
    still = Row(Work("s", "small", 1), "s", "bound")
    found = figures.summarized(still, {"osspresigned": [_taken(1.0)]})
    assert found["osspresigned"]["ratio"] is None


def test_ours_stands_first_then_the_fastest():
    """The order of a table is not left to the order of running."""
    rounds = {"b": [_taken(2.0)], "osspresigned": [_taken(3.0)], "a": [_taken(1.0)]}
    assert list(figures.summarized(_row(), rounds)) == ["osspresigned", "a", "b"]


def test_target_is_judged_by_each_of_its_limits():
    """One limit missed is told as such; what did not run has met nothing."""
    rounds = {"osspresigned": [_taken(1.0, 20 * MIB)], "curl": [_taken(2.0)]}
    found = figures.summarized(_row(reference="curl"), rounds)["osspresigned"]
    target = Target(ratio=1.0, rss=16 * MIB, seconds=5.0, micros=1.0)
    judged = figures.judged(target, found)
    assert [(one["kind"], one["met"]) for one in judged] == [
        ("ratio", True),
        ("rss", False),
        ("seconds", True),
        ("micros", False),
    ]
    assert not any(one["met"] for one in figures.judged(target, None))
    assert figures.judged(Target(), found) == []


@pytest.mark.parametrize(("last", "met"), [(4.1, True), (8.0, False)])
def test_linear_series_costs_each_item_the_same(last, met):
    """Four times as many files may take four times as long, and a little."""
    rows, found = [], []
    for count, wall in ((25_000, 1.0), (100_000, last)):
        work = Work(f"many-{count}", "small", KIB, count)
        row = Row(work, "", targets=(Target(),), series="many", linear=1.15)
        candidates = figures.summarized(row, {"osspresigned": [_taken(wall)]})
        rows.append(row)
        one = {"name": row.name, "candidates": candidates, "targets": [], "ok": None}
        found.append(one)
    absent = evolve(rows[0], work=evolve(rows[0].work, name="absent"))
    figures.judge_series([*rows, absent], found)
    assert [one["ok"] for one in found] == [None, met]
    assert found[1]["targets"][0]["reached"] == pytest.approx(last / 4)


def _stats(**more):
    return {"bytes": 0, "sent": 0, "puts": 0, "completed": 0, "crc64": 0, **more}


@pytest.mark.parametrize(
    ("work", "taken", "said"),
    [
        (Work("w", "put", 9), {"stats": _stats(bytes=8, puts=1)}, "bytes: 8, not 9"),
        (Work("w", "put", 9), {"stats": _stats(bytes=9)}, "objects: 0, not 1"),
        (
            Work("w", "small", 9, 2),
            {"stats": _stats(bytes=18, puts=1)},
            "objects: 1, not 2",
        ),
        (
            Work("w", "ranges", 90, 2, block=9),
            {"stats": _stats(sent=17)},
            "bytes sent: 17, not 18",
        ),
        (
            Work("w", "get", 9),
            {"stats": _stats(sent=9), "size": 8, "crc64": 1, "stated": 1},
            "bytes in the file: 8, not 9",
        ),
        (
            Work("w", "get", 9),
            {"stats": _stats(sent=9), "size": 9, "crc64": 1, "stated": 2},
            "CRC-64 of the file: 1, not 2",
        ),
    ],
)
def test_run_that_moved_other_bytes_is_refused(work, taken, said):
    """A fast run that did not do its work is no figure."""
    with pytest.raises(measure.WrongError, match=said):
        measure.check_count("osspresigned", work, taken)


def test_heads_are_counted():
    """A client that answers from memory has not asked."""
    work = Work("w", "heads", 9, 20)
    measure.check_count("osspresigned", work, {"stats": _stats(heads=20)})
    with pytest.raises(measure.WrongError, match="HEADs: 19, not 20"):
        measure.check_count("osspresigned", work, {"stats": _stats(heads=19)})


def test_run_that_moves_nothing_is_not_counted():
    """Signing needs no sink, and the bare interpreter must not send."""
    measure.check_count("osspresigned", Work("w", "sign", 0, 9), {})
    start = Work("w", "start", 9, 2)
    measure.check_count("hand:bare", start, {"stats": _stats()})
    measure.check_count("hand:start", start, {"stats": _stats(bytes=18, puts=2)})


def test_wrong_checksum_fails_ours_and_is_told_of_a_peer(tmp_path):
    """A peer may frame its bodies, so only their number proves anything; ours may not."""
    data = Data(tmp_path)
    work = Work("w", "put", 1000)
    sent = Path(data.source(work), "000000.bin").read_bytes()
    right = {"stats": _stats(bytes=1000, puts=1, crc64=crc64.xz(sent))}
    wrong = {"stats": _stats(bytes=1000, puts=1, crc64=7)}
    assert measure.proof("osspresigned", work, right, data) == "crc64"
    assert measure.proof("boto3", work, wrong, data) == "bytes"
    with pytest.raises(measure.WrongError, match="checksums"):
        measure.proof("osspresigned", work, wrong, data)


def test_proof_of_parts_is_their_checksums_xored(tmp_path):
    """What arrives in parts is known in any order; the files are made once."""
    data = Data(tmp_path)
    work = Work("w", "multipart", 2500, part_size=1000)
    file = Path(data.source(work), "000000.bin")
    sent = file.read_bytes()
    xored = 0
    for start in (0, 1000, 2000):
        xored ^= crc64.xz(sent[start : start + 1000])
    assert data.proofs(work) == {xored, crc64.xz(sent)}
    data.warm(work)
    assert Path(data.source(work), "000000.bin").read_bytes() == sent


def test_source_holds_nothing_but_the_files(tmp_path):
    """A whole directory is sent, so nothing else may lie there."""
    data = Data(tmp_path)
    work = Work("w", "small", 10, 3)
    source = data.source(work)
    assert sorted(os.listdir(source)) == ["000000.bin", "000001.bin", "000002.bin"]
    assert len(data.proofs(work)) == 1


def test_proof_of_many_files_is_not_that_of_one(tmp_path):
    """Works that differ in nothing but their verb send other bytes."""
    data = Data(tmp_path)
    many = Work("a", "small", KIB, 10)
    one = Work("b", "map", KIB, 10)
    assert data.proofs(many).isdisjoint(data.proofs(one))
    assert data.source(Work("w", "sign", 0)) == ""
    hole = Path(data.source(Work("w", "multipart", MIB, sparse=True)), "000000.bin")
    assert hole.read_bytes() == bytes(MIB)


@pytest.mark.parametrize("fresh", [False, True])
def test_producer_writes_the_file_block_by_block(tmp_path, monkeypatch, fresh):
    """The last block is what is left, rests come between, and the pool comes again."""
    rests = []
    monkeypatch.setattr("benchmarks.candidates.time.sleep", rests.append)
    monkeypatch.setattr("benchmarks.candidates.POOL", 2 * MIB)
    monkeypatch.setattr("benchmarks.data.POOL", 2 * MIB)
    data = Data(tmp_path)
    work = Work(
        *("w", "stream", 3 * MIB + 5),
        block=300_000,
        part_size=MIB,
        pause=0.5,
        stop=9.0,
        fresh=fresh,
    )
    file = Path(data.source(work), "000000.bin")
    blocks = list(produce(work, _where([str(file)]))())
    whole = file.read_bytes()[: 2 * MIB]
    assert b"".join(blocks) == (whole + whole)[: work.size]
    assert {type(block) for block in blocks} == {bytes}
    assert sorted(rests) == [0.5, 0.5, 9.0]
    assert crc64.xz(b"".join(blocks)) in data.proofs(work)


def test_ranges_are_spread_over_the_object():
    """Ranges that touch could be merged, which is another work."""
    starts = offsets(Work("w", "ranges", GIB, 1000, block=16 * KIB))
    assert starts[0] == 0
    assert all(b - a > MIB for a, b in pairwise(starts))
    assert starts[-1] + 16 * KIB <= GIB


def test_work_says_what_its_link_alone_takes():
    """1 GiB over eight connections of 50 MB/s is 2.7 s, and the rounds of 20 ms."""
    rows = {row.name: row for row in ROWS}
    assert rows["multipart-capped"].work.ideal == pytest.approx(3.04, abs=0.01)
    assert rows["stream-paced"].work.ideal == pytest.approx(2.56)
    assert rows["small-20ms"].work.ideal == pytest.approx(3.14)
    assert rows["sign-v4"].work.ideal == 0.0
    assert rows["get-1g"].work.ideal == pytest.approx(3.0, abs=0.01)


def test_work_travels_as_json():
    """The process that runs it is another one."""
    for row in ROWS:
        text = json.dumps(row.work.as_dict())
        assert Work.from_dict(json.loads(text)) == row.work


def test_rows_have_names_of_their_own_and_known_verbs():
    """A name is how a row is asked for, and found again in the results."""
    rows, skipped = rows_of("all", stop=10.0, limit=8.0)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert {row.work.verb for row in rows} <= set(VERBS)
    assert all(cell["ideal"] > 8.0 for cell in skipped)
    assert all(row.work.ideal <= 8.0 for row in rows if row.series == "sweep")


def test_rough_writer_may_rest_for_a_minute():
    """The rest is an option, since a minute is long; what is allowed grows with it."""
    row = next(r for r in suites.rough(60.0) if r.name == "rough-writer-stops")
    assert row.work.stop == 60.0
    assert row.targets[0].seconds == 62.0


def test_quick_row_is_small_and_judges_nothing():
    """What CI runs is over soon, still in parts where parts are the work."""
    for row in ROWS:
        small = quick(row)
        assert small.work.total <= 20 * MIB
        assert small.work.ideal < 0.5
        assert small.work.parts in {0, 4}
        for target in small.targets:
            assert figures.judged(target, None) == []


def test_rows_are_chosen_by_name_or_its_beginning(capsys):
    """A name that fits nothing is an error that says how to find them."""
    names = [row.name for row in chosen(ROWS, ["stream-*", "put-1g", "put-1g"])]
    assert names[-1] == "put-1g"
    assert len(names) == 6
    rest = [row.name for row in chosen(ROWS, ["-many-*", "-start"])]
    assert len(rest) == len(ROWS) - 4
    assert "start" not in rest
    assert [row.name for row in chosen(ROWS, ["many-*", "-many-25k"])] == [
        *("many-50k", "many-100k")
    ]
    assert main(["--rows", "no-such"]) == 2
    assert "no row is called no-such" in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert re.search(r"^put-1g +one PUT", capsys.readouterr().out, re.MULTILINE)


def test_two_candidates_cannot_share_a_name():
    """One of them would silently be left out."""
    assert registry()["hand:mmap"].missing() is None
    with pytest.raises(ValueError, match="hand:mmap"):
        candidate("hand:mmap", verbs={"put"})(lambda _work, _where: print)


def test_every_reference_is_a_candidate_for_its_row():
    """Without its reference a row has no ratio, and its target could not be met."""
    known = registry()
    rows, _ = rows_of("all", stop=10.0, limit=8.0)
    for row in rows:
        named = {*row.references, row.less, *row.only} - {None}
        named |= {target.candidate for target in row.targets}
        for name in named:
            assert row.work.verb in known[name].verbs, (row.name, name)


def test_candidate_says_what_it_lacks():
    """A peer that is not installed is left out with a reason."""
    one = Candidate("x", frozenset(), lambda _work, _where: print)
    assert one.missing() is None
    assert evolve(one, needs=("no_such_module",)).missing() == (
        "no Python module no_such_module"
    )
    assert evolve(one, program="no-such-program").missing() == (
        "no program no-such-program"
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the sink needs a compiler")
def test_command_proves_that_ours_and_hand_written_bytes_arrive(tmp_path):
    """A quick run of each verb ends well, and its JSON has a proof for each candidate."""
    rows = "put-1g,multipart-uncapped,stream-64k,small-0ms,get-1g,ranges-1000,sign-v4"
    rows += ",small-grant,put-1g-grant,heads,record-1m,recall-100,recall-1m"
    out = tmp_path / "found.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "--quick", "--rows", rows),
            *("--only", "osspresigned,osspresigned:map,osspresigned:grant,hand:preadv"),
            *("--out", str(out), "--data", str(tmp_path / "data")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert [row["name"] for row in found["rows"]] == rows.split(",")
    assert found["wrong"] == []
    assert found["machine"]["cores"] >= 1
    for row in found["rows"]:
        proof = next(iter(row["candidates"].values()))["proof"]
        usual = {"ranges": "bytes", "heads": "bytes"}.get(row["verb"], "crc64")
        if row["verb"] in ("sign", "record", "recall"):
            usual = "none"
        assert proof == usual, row["name"]
        assert row["targets"] == []
