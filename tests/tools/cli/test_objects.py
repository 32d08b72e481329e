"""``get``, ``ls``, ``rm`` and ``url``."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.request

import pytest
from fsspec.config import conf

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.units import KIB
from tests.tools.cli.conftest import BUCKET, KEYS, stored

FROM = f"{BUCKET}/out/"


@pytest.fixture
def objects(oss, run, tree):
    """Three objects below ``out/``, and one that stands for a directory."""
    assert run("put", "data/", FROM, *KEYS).code == 0
    assert run("put", "-", f"{BUCKET}/top", *KEYS, stdin=b"top").code == 0
    oss.clear()
    return oss


def files(place):
    """Return all files below *place* with their bytes."""
    return {
        str(one.relative_to(place)): one.read_bytes()
        for one in place.rglob("*")
        if one.is_file()
    }


def test_get_one_and_several(run, objects, tmp_path):
    """One file goes into an existing directory; several create the directory."""
    ended = run("get", f"{FROM}a.csv", ".", *KEYS)
    assert ended.code == 0
    assert ended.err.startswith("fetched 1 file, 1 B in ")
    assert (tmp_path / "a.csv").read_bytes() == b"a"
    assert run("get", f"{FROM}a.csv", f"{BUCKET}/top", "new", *KEYS).code == 0
    assert files(tmp_path / "new") == {"a.csv": b"a", "top": b"top"}


def test_get_does_not_wait_for_a_pipe_in_its_target(run, objects, tmp_path):
    """The object is a failure, and the others arrive."""
    os.mkfifo(tmp_path / "a.csv")
    ended = run("get", FROM, "./", "--recursive", *KEYS)
    assert ended.code == 1
    assert "a pipe or device exists at the path of the file: remove it" in ended.err
    assert files(tmp_path)["b/c.csv"] == b"cc"


def test_get_to_standard_output_is_refused(run, objects):
    """The command for that is named."""
    ended = run("get", f"{BUCKET}/top", "-", *KEYS)
    assert (ended.code, "cat writes objects" in ended.err) == (2, True)


def test_cat_is_compared(run, objects):
    """Printed bytes cannot be taken back, so the exit code reports the failure."""
    objects.faults.add(Fault(action="HeadObject", wrong_crc=True))
    ended = run("cat", f"{BUCKET}/top", *KEYS)
    assert ended.code == 1
    assert "the store says CRC-64" in ended.err


@pytest.mark.parametrize("command", ["get", "sync"])
def test_an_interrupted_download_is_resumed(run, oss, tmp_path, monkeypatch, command):
    """A second run downloads only the missing parts, and says so."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(conf, "osspresigned", {"part_size": 100 * KIB})
    data = os.urandom(1000 * KIB)
    (tmp_path / "big.bin").write_bytes(data)
    assert run("put", "big.bin", f"{BUCKET}/in/", *KEYS).code == 0
    source = f"{BUCKET}/in" if command == "sync" else f"{BUCKET}/in/big.bin"
    words = [command, source, "./out/", "--resume", "--max-concurrency=1", *KEYS]
    oss.faults.add(
        Fault(action="GetObject", after=6, status=400, code="Oops", times=None)
    )
    ended = run(*words)
    assert ended.code == 1
    assert f"{BUCKET}/in/big.bin: 5 of 9 parts have arrived; run the" in ended.err
    oss.faults.clear()
    oss.clear()
    ended = run(*words)
    assert ended.code == 0
    assert f"{BUCKET}/in/big.bin: resumed: 5 of 9 parts have arrived" in ended.err
    assert [r.action for r in oss.requests].count("GetObject") == 5
    assert (tmp_path / "out" / "big.bin").read_bytes() == data
    assert os.listdir(tmp_path / "out") == ["big.bin"]


def test_get_names_what_failed(run, objects, tmp_path):
    """The others are fetched; of what failed there is no file."""
    objects.faults.add(Fault(action="GetObject", key="out/a.csv", refuse="denied", times=None))  # fmt: skip
    ended = run("get", FROM, "new/", "-r", *KEYS)
    assert ended.code == 1
    assert ended.err.startswith(f"{FROM}a.csv: not fetched: ")
    assert "fetched 2 of 3 files" in ended.err
    assert "a.csv" not in files(tmp_path / "new")
    ended = run("get", f"{FROM}nowhere", "x", *KEYS, "--json")
    failed, end = ended.events
    assert (failed["path"], failed["event"]) == (f"{FROM}nowhere", "failed")
    assert (failed["local"], failed["error"]) == (str(tmp_path / "x"), "ObjectNotFoundError")  # fmt: skip
    assert end["exit_code"] == ended.code == 1
    assert run("cat", f"{FROM}nowhere", *KEYS).code == 1


def test_ls(run, objects):
    """Names; with --long sizes and times; with --json whatever there is."""
    assert run("ls", BUCKET, *KEYS).out == f"{FROM}\n{BUCKET}/top\n"
    long = run("ls", f"osspresigned://{BUCKET}", "-l", *KEYS).out.splitlines()
    assert long[0].split() == [FROM]
    size, unit, _, time, name = long[1].split()
    assert (size, unit, time[-1], name) == ("3", "B", "Z", f"{BUCKET}/top")
    lines = run("ls", FROM, "-r", "--json", *KEYS).out.splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["path"] for one in found] == [f"{FROM}a.csv", f"{FROM}b/c.csv", f"{FROM}b/d e.bin"]  # fmt: skip
    assert found[0]["size"] == 1
    assert found[0]["modified"].endswith("+00:00")
    directory = json.loads(run("ls", BUCKET, "--json", *KEYS).out.splitlines()[0])
    assert (directory["type"], directory["modified"]) == ("directory", None)


def test_paths_may_begin_as_urls_of_oss(run, objects, tree):
    """Users of other tools write oss://, users of fsspec osspresigned://."""
    for front in ("oss://", "osspresigned://"):
        to = f"{front}{BUCKET}/p/"
        assert run("put", "data/a.csv", to, *KEYS).code == 0
        assert run("ls", to, *KEYS).out == f"{BUCKET}/p/a.csv\n"
        assert run("cat", f"{to}a.csv", *KEYS).out == "a"
        assert run("sync", "data/b", to, *KEYS, "--delete", "--yes").code == 0
        assert run("url", f"{to}c.csv", *KEYS, secret=True).code == 0
        assert run("rm", f"{to}c.csv", f"{to}d e.bin", *KEYS).err == "deleted 2 files\n"


def test_ls_cannot_steer_the_terminal(run, oss, tmp_path):
    """A key with control characters is shown escaped."""
    (tmp_path / "f").touch()
    assert run("put", "f", f"{BUCKET}/a\x1b[31m", *KEYS).code == 0
    assert run("ls", BUCKET, *KEYS).out == f"{BUCKET}/a\\x1b[31m\n"


def test_ls_of_what_is_not_there_or_not_signed(run, objects, url_map):
    """1 and 3, and a line that says so."""
    ended = run("ls", f"{BUCKET}/nowhere", *KEYS)
    assert (ended.code, ended.err) == (1, f"error: {BUCKET}/nowhere: not found\n")
    ended = run("ls", "no-such-bucket", *KEYS)
    assert ended.code == 1
    assert "the bucket does not exist" in ended.err
    ended = run("ls", FROM, "--map", url_map("k"))
    assert (ended.code, ended.out) == (3, "")
    assert "ListObjectsV2 is not granted" in ended.err


def test_rm(run, objects):
    """Objects are deleted; a missing one is no failure, and not reported as deleted."""
    call = ("rm", f"{FROM}a.csv", f"{FROM}nowhere", *KEYS)
    ended = run(*call, "--dry-run")
    assert (ended.out, ended.err) == (f"delete {FROM}a.csv\n", "1 object to delete\n")
    ended = run(*call)
    assert (ended.code, ended.err) == (0, "deleted 1 file; 1 missing\n")
    assert "out/a.csv" not in stored(objects)
    ended = run(*call, "--json")
    assert (ended.code, ended.err, ended.events[-1]["done"]) == (0, "", 0)


def test_rm_where_it_cannot_look(run, objects, signer_of):
    """Without HEAD, "deleted" is printed for a missing object too."""
    by = signer_of(Action.DeleteObject)
    ended = run("rm", f"{FROM}a.csv", f"{FROM}nowhere", *by)
    assert (ended.code, ended.err) == (0, "deleted 2 files\n")
    assert "out/a.csv" not in stored(objects)


@pytest.mark.parametrize("path", [f"{FROM}b", f"{FROM}b/"])
@pytest.mark.parametrize("command", [("rm",), ("rm", "--dry-run"), ("get",)])
def test_a_prefix_needs_recursive(run, objects, tmp_path, command, path):
    """Without it a prefix is an error that says so: nothing is deleted or fetched."""
    everything = stored(objects)
    target = ["new/"] if command == ("get",) else []
    ended = run(*command, path, *target, *KEYS)
    assert ended.code in (1, 2)
    assert "add --recursive\n" in ended.err
    assert stored(objects) == everything
    assert not files(tmp_path / "new")


def test_rm_of_a_directory_asks(run, objects, monkeypatch):
    """At a terminal it asks, elsewhere it needs --yes; a dry run only lists."""
    everything = stored(objects)
    ended = run("rm", FROM, "-r", "--dry-run", *KEYS)
    names = "a.csv", "b/c.csv", "b/d e.bin"
    assert ended.out == "".join(f"delete {FROM}{name}\n" for name in names)
    assert run("rm", FROM, "-r", *KEYS).code == 2
    monkeypatch.setattr("fsspec_osspresigned.tools.cli.options.MAX_SHOWN", 1)
    ended = run("rm", FROM, "-r", *KEYS, stdin=b"n\n", terminal=True)
    assert ended.code == 1
    assert f"{FROM}a.csv\nand 2 more\ndelete 3 objects?" in ended.err
    assert stored(objects) == everything
    monkeypatch.undo()


def test_rm_of_a_directory(run, objects, monkeypatch):
    """Yes is yes, by a key or by an option."""
    ended = run("rm", f"{FROM}b", "-r", *KEYS, stdin=b"y\n", terminal=True)
    assert ended.code == 0
    assert stored(objects).keys() == {"out/a.csv", "top"}
    ended = run("rm", FROM, "-r", "--yes", "--json", *KEYS)
    assert ended.events[-1]["done"] == 1
    assert stored(objects).keys() == {"top"}


def test_url_is_printed_on_demand_alone(run, objects):
    """The text on standard output works; what is said about it holds no signature."""
    ended = run("url", f"{FROM}a.csv", *KEYS, "--expires", "2h", secret=True)
    with urllib.request.urlopen(ended.out.strip()) as reply:
        assert reply.read() == b"a"
    assert "valid for GET until " in ended.err
    assert "(1 h 59 min left)" in ended.err
    ended = run("url", f"{BUCKET}/new", "--method", "PUT", *KEYS, secret=True)
    host, _, target = ended.out.strip().removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host)
    connection.request("PUT", f"/{target}", b"x")
    assert connection.getresponse().status == 200
    connection.close()
    assert stored(objects)["new"] == b"x"
    assert re.search(r"\((59 min \d+ s|1 h) left\)", ended.err)


def test_get_tells_what_it_would_fetch(run, objects, tmp_path):
    """A dry run writes nothing, and checks objects that were not listed."""
    ended = run("get", FROM, "new/", "-r", "-n", *KEYS, "--exclude", "b/")
    assert ended.out == f"fetch {FROM}a.csv to {tmp_path}/new/a.csv\n"
    assert ended.err == "1 file to fetch\n"
    ended = run("get", f"{FROM}a.csv", "x", "--dry-run", *KEYS, "--json")
    assert [one["event"] for one in ended.events] == ["fetch", "plan"]
    ended = run("get", f"{FROM}none", "x", "--dry-run", *KEYS)
    assert (ended.code, ended.err) == (1, f"error: {FROM}none: not found\n")
    ended = run("get", f"{FROM}b", "x", "--dry-run", *KEYS)
    assert (ended.code, ended.err.endswith("add --recursive\n")) == (1, True)
    ended = run("get", FROM, "new", *KEYS)
    assert ended.code == 2
    assert ended.err.endswith(f"{FROM} is a directory: add --recursive\n")
    assert not (tmp_path / "new").exists()


def test_cat(run, objects):
    """The bytes of all objects, and no summary."""
    call = ("cat", f"{FROM}b/c.csv", f"oss://{BUCKET}/top", *KEYS)
    for terminal in (True, False):
        ended = run(*call, terminal=terminal)
        assert (ended.out, ended.err) == ("cctop", "")
    ended = run(*call, "-v", terminal=True)
    assert ended.err.startswith(f"{FROM}b/c.csv: fetched, 2 B\n")


def test_stat(run, objects):
    """The facts of HeadObject are printed for each object."""
    ended = run("stat", f"{BUCKET}/top", f"{FROM}a.csv", *KEYS)
    lines = ended.out.splitlines()
    assert lines[0].split() == ["object", f"{BUCKET}/top"]
    assert lines[1].split() == ["size", "3", "B", "(3", "bytes)"]
    assert {line.split()[0] for line in lines if line} >= {"modified", "etag", "crc64"}
    assert "" in lines
    found = json.loads(run("stat", f"{BUCKET}/top", *KEYS, "--json").out)
    assert (found["path"], found["size"]) == (f"{BUCKET}/top", 3)
    ended = run("stat", f"{FROM}b", *KEYS)
    assert (ended.code, ended.err.endswith("a prefix: ls lists it\n")) == (1, True)
    assert run("stat", f"{FROM}none", *KEYS).code == 1


def test_cp_and_mv(run, objects):
    """One object, several, and trees; a move leaves nothing behind."""
    assert run("cp", f"{FROM}a.csv", f"{BUCKET}/one", *KEYS).err == "copied 1 file\n"
    ended = run("cp", f"oss://{FROM}", f"oss://{BUCKET}/kept/", "-r", *KEYS, "-v")
    assert f"{FROM}a.csv: copied to {BUCKET}/kept/a.csv\n" in ended.err
    assert ended.err.endswith("copied 3 files\n")
    ended = run("mv", f"{FROM}a.csv", f"{BUCKET}/top", f"{BUCKET}/done", *KEYS)
    assert (ended.code, ended.err) == (0, "moved 2 files\n")
    assert stored(objects) == {
        "done/a.csv": b"a",
        "done/top": b"top",
        "one": b"a",
        "out/b/c.csv": b"cc",
        "out/b/d e.bin": b"ddd",
        "kept/a.csv": b"a",
        "kept/b/c.csv": b"cc",
        "kept/b/d e.bin": b"ddd",
    }
    assert run("cp", f"{BUCKET}/one", "no-such-bucket", *KEYS).code == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("data/a.csv", f"{BUCKET}/x"), "the bucket does not exist"),
        (("./x", f"{BUCKET}/x"), "bucket '.' is not a valid name"),
        ((f"{FROM}a.csv", "."), "bucket '.' is not a valid name"),
        ((FROM, f"{FROM}below/", "-r"), "is inside of a copied source"),
        ((FROM, f"{BUCKET}/x/"), "a prefix: add --recursive"),
        ((f"{FROM}none", f"{BUCKET}/x"), "not found"),
    ],
)
@pytest.mark.parametrize("command", ["cp", "mv"])
def test_what_cp_does_not_do(run, objects, tree, command, words, told):
    """It says why; the store is as it was."""
    before = stored(objects)
    ended = run(command, *words, *KEYS)
    assert ended.code in (1, 2)
    assert told in ended.err
    assert stored(objects) == before
