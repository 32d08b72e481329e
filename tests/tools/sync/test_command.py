"""``osspresigned sync``: what it does, says, asks and ends with."""

from __future__ import annotations

import json

import click
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.tools.cli import sync as sync_command
from tests.tools.sync.conftest import BUCKET, FILES, write

DEST = f"{BUCKET}/backup"
OBJECTS = {f"backup/{name}": data for name, data in FILES.items()}


@pytest.fixture
def run(environment, source, capsys):
    """Run the command on the source with keys; return exit code, output and errors."""

    def call(*more, signer=("--signer", "keys"), place=None, to=DEST):
        code = cli.main(["sync", str(place or source), to, *signer, *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def events(out):
    """Return the events of JSON lines."""
    return [json.loads(line) for line in out.splitlines()]


def test_dry_run_tells_what_the_run_does(run, fs, owner, source):
    """One line for each object on standard output."""
    fs.pipe_file(f"{DEST}/old", b"old")
    (source / "link").symlink_to(source / "logs")
    fs.pipe_file(f"{DEST}/empty", b"not")
    code, out, err = run("--dry-run", "--delete")
    assert code == 0
    assert sorted(out.splitlines()) == [
        "delete old",
        "send a.csv (new, 8 B)",
        "send empty (other size, 0 B)",
        "send logs/2026/one.log (new, 400 B)",
        "send logs/two.log (new, 4 B)",
        "send ü %2B+&.txt (new, 8 B)",
    ]
    assert err.splitlines() == [
        "left out: link (link to a directory)",
        "5 to send, 1 to delete, 1 left out",
    ]
    assert set(owner.stored()) == {"backup/old", "backup/empty"}
    code, out, err = run("-n", "--delete", "--json")
    assert (code, err) == (0, "")
    told = events(out)
    assert [e["event"] for e in told] == ["send"] * 5 + ["delete", "left_out", "plan"]
    assert told[-1]["sent"] == 5


def test_json_tells_everything(run, fs, owner):
    """Events, one a line, the last one with the counts."""
    fs.pipe_file(f"{DEST}/old", b"old")
    code, out, err = run("--json", "--delete", "--yes")
    assert (code, err) == (0, "")
    told = events(out)
    stored = {e["local"] for e in told if e["event"] == "stored"}
    assert stored == set(FILES)
    assert [e["name"] for e in told if e["event"] == "deleted"] == ["old"]
    (counts,) = (e for e in told if e["event"] == "sync")
    assert (counts["sent"], counts["deleted"], counts["kept"]) == (5, 1, 0)
    assert told[-1]["event"] == "end"


def test_state_and_map(run, owner, tmp_path):
    """Files in the map are sent; the rest is listed, and the exit code is 1."""
    place = owner.map_file("backup/a.csv", "backup/empty")
    signer = ("--map", place)
    code, _, err = run(signer=signer)
    assert (code, "--state FILE" in err) == (2, True)
    state = str(tmp_path / "state")
    code, out, err = run("-n", "--state", state, signer=signer)
    assert (code, len(out.splitlines())) == (1, 2)
    assert err.count("cannot send ") == 3
    assert err.endswith("2 to send, 3 not covered\n")
    code, out, err = run("-n", "--json", "--state", state, signer=signer)
    assert [e["event"] for e in events(out)] == ["send"] * 2 + ["failed"] * 3 + ["plan"]
    code, _, err = run("--state", state, signer=signer)
    assert code == 1
    assert "logs/two.log" in err
    assert err.endswith("; 3 failed\n")
    assert set(owner.stored()) == {"backup/a.csv", "backup/empty"}
    code, _, err = run("--state", state, "--exclude", "logs/", "--exclude", "ü*", signer=signer)  # fmt: skip
    assert (code, "; 2 same" in err) == (0, True)


def test_failure_keeps_what_was_to_be_deleted(run, fs, owner, source):
    """After a failure nothing is deleted, and the message says why."""
    fs.pipe_file(f"{DEST}/old", b"old")
    owner.oss.faults.add(Fault(key="backup/empty", status=403, code="AccessDenied"))
    code, _, err = run("--delete", "--yes")
    assert code == 1
    assert "uploaded 4 of 5 files, " in err
    assert "; 1 failed; 1 kept, because something failed\n" in err
    assert f"{DEST}/empty: not uploaded: " in err
    assert "backup/old" in owner.stored()
    (source / "x").symlink_to(source / "none")
    code, out, _ = run("-n", "--delete")
    assert (code, "delete" in out) == (1, False)


def test_somebody_is_asked_before_anything_is_deleted(run, fs, owner, monkeypatch):
    """On a terminal; No does nothing at all."""
    fs.pipe({f"{DEST}/old{n:02}": b"old" for n in range(12)})
    code, _, err = run("--delete")
    assert (code, "--delete needs --yes" in err) == (2, True)
    monkeypatch.setattr(sync_command.sys.stdin, "isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr(click, "confirm", lambda text, **_: bool(asked.append(text)))
    code, _, err = run("--delete")
    assert (code, asked) == (1, ["delete 12 objects?"])
    assert err.count("would be deleted: old") == 10
    assert "and 2 more" in err
    assert "nothing was done" in err
    assert len(owner.stored()) == 12
    monkeypatch.setattr(click, "confirm", lambda *_, **__: True)
    code, _, err = run("--delete", "--quiet")
    assert (code, owner.stored()) == (0, OBJECTS)
    fs.pipe_file(f"{DEST}/old", b"old")
    code, _, err = run("--delete")
    assert (code, err.count("would be deleted")) == (0, 1)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (("--max-delete", "1"), "needs --delete"),
        (("--url-file", "x"), "No such option"),
        (("--source-option", "x"), "NAME=VALUE"),
    ],
)
def test_wrong_calls_are_refused(run, wrong, why):
    """With exit code 2 and the reason."""
    code, _, err = run(*wrong)
    assert (code, why in err) == (2, True)


def test_options_of_the_source_are_read(run, owner):
    """As JSON where they are some, else as texts."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem().pipe_file("/there/a", b"a")
    options = ("--source-option", "skip_instance_cache=true", "--source-option", "x=y")
    assert run(*options, place="memory://there")[0] == 0
    MemoryFileSystem.store.clear()
    assert owner.stored() == {"backup/a": b"a"}


# -- downloads ---------------------------------------------------------------------------


@pytest.fixture
def down(fs, environment, tmp_path, monkeypatch, capsys):
    """Run a download into ./got; return exit code, output and errors."""
    fs.pipe({f"{DEST}/{name}": data for name, data in FILES.items()})
    monkeypatch.chdir(tmp_path)

    def call(*more, place=DEST, to="./got"):
        code = cli.main(["sync", place, to, "--signer", "keys", *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def test_local_destination_is_a_download(down, tmp_path):
    """Each form of a local path works; equal files are not fetched."""
    code, out, err = down()
    assert (code, out) == (0, "")
    assert err.startswith("fetched 5 files, ")
    assert (tmp_path / "got" / "logs" / "two.log").read_bytes() == b"two\n"
    code, _, err = down(place=f"oss://{DEST}/", to=str(tmp_path / "got"))
    assert (code, err.endswith("; 5 same\n")) == (0, True)


def test_dry_run_and_deletion_of_a_download(down, tmp_path, monkeypatch):
    """The words are those of a download; local files are deleted only if confirmed."""
    write(tmp_path / "got", {"old": b"old", "a.csv": b"another size"})
    code, out, err = down("-n", "--delete")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "fetch a.csv (other size, 8 B)"
    assert lines[-1] == "delete old"
    assert err == "5 to fetch, 1 to delete\n"
    told = events(down("-n", "--delete", "--json")[1])
    assert [one["event"] for one in told] == ["fetch"] * 5 + ["delete", "plan"]
    assert told[-1]["fetched"] == 5
    monkeypatch.setattr(sync_command.sys.stdin, "isatty", lambda: True, raising=False)
    asked = []
    monkeypatch.setattr(click, "confirm", lambda text, **_: bool(asked.append(text)))
    code, _, err = down("--delete")
    assert (code, asked) == (1, ["delete 1 local file?"])
    code, _, err = down(
        "--delete", "--yes", "-v", "--max-concurrency", "2", "--bwlimit", "10M"
    )
    assert code == 0
    assert f"{DEST}/a.csv: fetched to a.csv, 8 B\n" in err
    assert "deleted: old\n" in err
    assert err.endswith("; 1 deleted\n")


@pytest.mark.parametrize(
    ("place", "more", "why"),
    [
        ("./x", (), "'./x' is not a source: write BUCKET/PREFIX"),
        (DEST, ("--state", "x"), "are for uploads"),
        (DEST, ("--header", "a=b"), "are for uploads"),
        (DEST, ("--grant", "x"), "are for uploads"),
    ],
)
def test_what_is_no_download_is_refused(down, tmp_path, place, more, why):
    """With exit code 2, before anything is done."""
    code, _, err = down(*more, place=place)
    assert (code, why in " ".join(err.split())) == (2, True)
    assert not (tmp_path / "got").exists()


def test_check_compares_both_sides(run, owner, source):
    """Each difference is a line, in both directions; nothing is sent."""
    code, out, err = run("--check")
    assert (code, err) == (1, "5 different, 0 same\n")
    assert "a.csv: only in SRC, 8 B\n" in out
    assert not owner.stored()
    run()
    assert run("--check") == (0, "", "0 different, 5 same\n")
    assert run("--check", place=DEST, to=f"{source}/") == run("--check")
    write(source, {"a.csv": b"a,b\n1,3\n"}, age=3600)
    (source / "empty").unlink()
    code, out, err = run("--check")
    assert (code, err) == (1, "2 different, 3 same\n")
    assert out == "a.csv: other content, 8 B\nempty: only in DEST, 0 B\n"
    assert run("--check", "--size-only")[1] == "empty: only in DEST, 0 B\n"
    assert owner.stored() == OBJECTS
    code, out, _ = run("--check", "--json")
    assert [each["event"] for each in events(out)] == ["differs", "differs", "check"]
    assert events(out)[-1] == {
        "event": "check",
        "different": 2,
        "same": 3,
        "exit_code": code,
    }


def test_check_names_what_it_cannot_read(run, source):
    """It is neither equal nor different."""
    run()
    (source / "a.csv").unlink()
    (source / "a.csv").symlink_to(source / "nowhere")
    code, out, err = run("--check")
    assert (code, out) == (1, "")
    assert err.startswith("cannot compare a.csv: ")
    assert err.endswith("\n0 different, 4 same\n")
