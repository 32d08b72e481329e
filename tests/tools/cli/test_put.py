"""``osspresigned put``: everything arrives, or is named with its reason."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import sys
import threading

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.files import LineFile
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.tools.cli import options
from fsspec_osspresigned.units import KIB, MIB
from fsspec_osspresigned.upload.journal import ResumeDirectory
from tests.tools.cli.conftest import BUCKET, KEYS, Text, stored

TO = f"{BUCKET}/in/"


def test_directories_files_and_patterns_go_where_slashes_say(run, oss, tree):
    """A directory keeps its name, with a slash it does not; a pattern is what matches."""
    assert run("put", "data", "data/b/*.bin", TO, *KEYS).code == 0
    assert stored(oss) == {
        "in/data/a.csv": b"a",
        "in/data/b/c.csv": b"cc",
        "in/data/b/d e.bin": b"ddd",
        "in/d e.bin": b"ddd",
    }
    oss.clear()
    assert run("put", "data/", f"osspresigned://{TO}x/", *KEYS).code == 0
    assert stored(oss)["in/x/b/c.csv"] == b"cc"
    for source, target, key in (
        ("data", "n", "n/a.csv"),
        ("dat*", "n", "n/a.csv"),
        ("dat*", "n/", "n/data/a.csv"),
        ("data/a*", "n", "n"),
        ("data/a*", "n/", "n/a.csv"),
    ):
        said = run("put", source, f"{TO}{target}", *KEYS, "--dry-run").out
        assert f" {TO}{key} from data/a.csv," in said


def test_summary_is_one_line(run, oss, tree):
    """The summary has files, bytes and destination; standard output stays empty."""
    ended = run("put", "data", TO, *KEYS)
    assert ended.out == ""
    assert ended.err.startswith("uploaded 3 files, 6 B in 0.")
    assert ended.err.endswith(f" s to {TO}data/\n")
    assert ended.err.count("\n") == 1
    assert run("put", "data", TO, *KEYS, "--quiet").err == ""
    oss.faults.add(Fault(action="PutObject", drop_reply=True, times=None))
    ended = run("put", "data/b/c.csv", TO, *KEYS, "--retries", "0")
    assert ended.err.startswith("uploaded 1 file, 2 B in ")
    assert ended.err.endswith(f" s to {TO}c.csv\n")


@pytest.mark.parametrize("pasted", ["{}", "{}\n", "\ufeff <{}>\r\n", '"{}"\n\n'])
def test_one_url_from_standard_input(run, oss, url, tree, pasted):
    """A URL that is pasted as mail programs give it uploads one file, with no DEST."""
    text = pasted.format(url("r.csv")).encode()
    assert run("put", "data/a.csv", "--url-file", "-", stdin=text).code == 0
    assert stored(oss) == {"r.csv": b"a"}


def private(place):
    """Make a file of mode 0600."""
    place.touch(0o600)
    return place


def test_url_file_that_others_can_read_is_warned_about(run, oss, url, tree):
    """The file is a secret, as a map or a grant is."""
    (tree.parent / "one.url").write_text(url("r.csv"))
    (tree.parent / "one.url").chmod(0o644)
    ended = run("put", "data/a.csv", "--url-file", "one.url")
    assert ended.code == 0
    assert "one.url holds a presigned URL and can be read by others" in ended.err


@pytest.mark.parametrize("how", ["one.url", "file:one.url", "env:ONE"])
def test_one_url_from_a_file_or_a_variable(run, oss, url, tree, monkeypatch, how):
    """DEST may name the object of the URL, and no other; Windows adds a byte order mark."""
    private(tree.parent / "one.url").write_text(f"\ufeff{url('r.csv')}\n")
    monkeypatch.setenv("ONE", url("r.csv"))
    where = f"{BUCKET}/r.csv"
    ended = run("put", "data/a.csv", "--url-file", how)
    assert (ended.code, ended.err.endswith(f" to {where}\n")) == (0, True)
    assert run("put", "data/a.csv", "--url-file", how, "--quiet").err == ""
    assert run("put", "data/a.csv", where, "--url-file", how).code == 0
    assert stored(oss) == {"r.csv": b"a"}
    ended = run("put", "data/a.csv", f"{BUCKET}/other", "--url-file", how)
    assert ended.code == 3
    assert "is only for 'examplebucket/r.csv'" in ended.err
    assert "leave DEST out" in ended.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b" \n", "holds nothing"),
        (b"https://h/k?a=1\nhttps://h/k?a=2", "several lines: join them"),
        (b"https://h/k?a=1%2\nbroken", "several lines: join them"),
        (b'"https://h/k?a=1"\nx: y', "is not an absolute http or https URL"),
        (b"https://h/k?a=1\na: b\na: c", "a header is repeated"),
        (b"https://h/k?a=1\nCookie: c", "'Cookie' may not be set"),
        (b"no url", "of --url-file"),
    ],
)
def test_what_is_no_url_is_refused(run, tree, text, why):
    """A bad paste is said, and not repeated."""
    ended = run("put", "data/a.csv", "--url-file", "-", stdin=text)
    assert ended.code == 2
    assert why in ended.err


@pytest.mark.parametrize("command", ["put", "get", "ls", "rm", "url", "doctor", "sign"])  # fmt: skip
@pytest.mark.parametrize("form", ["{}", "--url-file={}", "--map={}", "--signer={}", f"{TO}k?{{1}}"])  # fmt: skip
def test_url_as_an_argument_is_refused_with_the_remedy(run, url, tree, command, form):
    """No command takes one, in no option, nor its query; and none repeats it."""
    ended = run(command, form.format(url("k"), url("k").partition("?")[2]), TO)
    assert ended.code == 2
    assert "--url-file" in ended.err
    assert "(ps)" in ended.err


def test_bad_value_that_holds_a_signature_is_cleaned(run, oss):
    """Control characters in click's own messages are escaped."""
    ended = run("put", "a", TO, "--max-concurrency", "x-oss-signature=c2VjcmV0c2VjcmV0")
    assert ended.code == 2
    assert "c2VjcmV0" not in ended.err


def test_standard_input_is_a_stream(run, oss):
    """Any length, with the headers that were asked for; nothing is announced."""
    data = os.urandom(3 * MIB)
    more = ("--content-type", "a/b", "--metadata", "n=v", "--header", "Cache-Control=no-cache")  # fmt: skip
    ended = run("put", "-", f"{TO}s", *KEYS, *more, "--storage-class", "IA", stdin=data)
    assert ended.code == 0
    found = oss.get(BUCKET, "in/s")
    assert found.data() == data
    assert found.headers["content-type"] == "a/b"
    assert found.headers["x-oss-meta-n"] == "v"
    assert found.headers["cache-control"] == "no-cache"


def test_broken_standard_input_publishes_nothing(run, oss, monkeypatch):
    """If reading it fails, there is no object."""

    class Broken(io.BytesIO):
        def read(self, *_):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(Text, "buffer", Broken(), raising=False)
    monkeypatch.setattr(Text, "text", "")
    ended = run("put", "-", f"{TO}s", *KEYS)
    assert ended.code == 1
    assert stored(oss) == {}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["f"], "is missing: osspresigned put f BUCKET/KEY, or --url-file\n"),
        (["f", "--map", "x"], "is missing: osspresigned put f BUCKET/KEY\n"),
        (["-", "f", TO], "give no other file"),
        (["-", TO], "is not an object"),
        (["-", BUCKET], "is not an object"),
        (["-", "--url-file", "-"], "not both"),
        (["f", TO, "x", "--url-file", "one.url"], "for one file"),
        (["f", TO, "--url-file", "x", "--map", "y"], "cannot be combined"),
        (["f", TO, "--url-file", "x", "--signer", "y"], "cannot be combined"),
        (["f", TO, "--receipts", "-", "--json"], "leave out one"),
        (["f", TO, "--signer", "keys", "--receipts", "no/such"], "no directory"),
        (["f", TO, "--bwlimit", "1K"], "too slow"),
        (["f", TO, "--bwlimit", "quick"], "is not a rate"),
        (["f", TO, "--part-size", "x"], "is not a size"),
        (["f", TO, "--header", "x"], "NAME=VALUE"),
        (["f", TO, "--header", " =x"], "NAME=VALUE"),
        (["f", TO, "--expires", "8d"], "not a lifetime"),
        (
            ["f", TO, "--token", "secret", "--signer", "https://s"],
            "--token ...: must be a reference: env:OSSPRESIGNED_... or file:PATH\n",
        ),
        (["f", TO], "no source of signatures is given"),
        (["f", TO], "use --url-file (one URL, to upload), --map (a file"),
        (
            ["f", TO, "--signer", "https://s", "--endpoint", "e"],
            "--endpoint is for --signer keys",
        ),
        (
            ["f", TO, "--signer", "keys", "--part-size", "1K"],
            "--part-size 1024: must be",
        ),
        (
            ["f", TO, "--signer", "127.0.0.1:80"],
            "for an address, write https://127.0.0.1:80\n",
        ),
        (
            ["f", TO, "--signer", "sign.example.com/x/#token=t&b/"],
            "--signer sign.example.com/x is not of the form module:function; for ",
        ),
        (
            ["f", TO, "--signer", "sign.example.com/x?y"],
            "for an address, write https://sign.example.com/x\n",
        ),
        (
            ["f", TO, "--grant", "app.example.com/get"],
            "No such file or directory; the address of a server begins with https://\n",
        ),
        (["f", "--url-file", "no.url"], "no.url: No such file or directory\n"),
        (["data/e", TO, "--signer", "keys"], "no file is in data/e"),
        (["f", "/k", "--signer", "keys"], "names no bucket"),
        (["data", "--url-file", "-"], "is a directory"),
        (["data/a.csv", "data/b/../a.csv", TO, "--signer", "keys"], "both become"),
        (["data/**", TO, "--signer", "keys"], "give the directory, and --include"),
        (
            ["data/b/*", f"{BUCKET}/in", "--signer", "keys"],
            "end the destination with a slash",
        ),
        (["data/a.csv", "a.url"], "a.url is a file, but the last argument is the"),
    ],
)
def test_wrong_call_is_exit_2(run, oss, tree, url, arguments, why):
    """It says what is wrong, before anything is sent."""
    (tree / "e").mkdir()
    (tree.parent / "f").touch()
    (tree.parent / "a.url").write_text(url("k"))
    ended = run("put", *arguments, stdin=url("k").encode())
    assert ended.code == 2
    assert why in ended.err
    assert not oss.requests


def test_failures_are_named_with_reason_and_outcome(run, oss, tree):
    """The others continue; the code is 1, for some of it went well."""
    oss.faults.add(Fault(key="in/data/a.csv", refuse="denied"))
    oss.faults.add(Fault(key="in/data/b/c.csv", action="PutObject", drop_reply=True, times=None))  # fmt: skip
    oss.faults.add(Fault(key="in/data/b/c.csv", action="HeadObject", status=403, times=None))  # fmt: skip
    ended = run("put", "data", "missing", TO, *KEYS, "--retries", "1")
    assert ended.code == 1
    assert "missing: not uploaded: no such local file\n" in ended.err
    assert "in/data/a.csv: not uploaded: " in ended.err
    assert "in/data/b/c.csv: unknown whether uploaded: " in ended.err
    assert "uploaded 1 of 4 files" in ended.err
    assert "; 3 failed\n" in ended.err


def test_code_tells_what_all_failures_have_in_common(run, oss, url_map, tree):
    """If all files failed, 3 means not signed, 4 network, 5 an unknown outcome."""
    assert run("put", "data", TO, "--map", url_map("else")).code == 3
    oss.faults.add(Fault(status=503, times=None))
    assert run("put", "data", TO, *KEYS, "--retries", "0").code == 4
    oss.faults.clear()
    oss.faults.add(Fault(action="PutObject", drop_reply=True, times=None))
    oss.faults.add(Fault(action="HeadObject", status=403, times=None))
    assert run("put", "data", TO, *KEYS, "--retries", "0").code == 5


def test_equal_refusals_end_it(run, oss, url_map, tmp_path):
    """After 16 refusals no further file is sent; the rest is counted."""
    (tmp_path / "many").mkdir()
    for number in range(40):
        (tmp_path / "many" / str(number)).touch()
    oss.faults.add(Fault(refuse="denied", times=None))
    ended = run("put", "many", TO, *KEYS, "--max-concurrency", "1")
    assert ended.code == 3
    assert "16 not uploaded: " in ended.err
    assert "  and 6 more (--json names all)\n" in ended.err
    assert "uploaded 0 of 40 files" in ended.err
    assert "; stopped early, 24 left\n" in ended.err


def test_store_that_does_not_answer_ends_it(run, oss, tmp_path, monkeypatch):
    """After 16 files without a reply, no further file is tried."""
    monkeypatch.setattr("fsspec_osspresigned.tools.progress.MAX_SILENT", 2)
    (tmp_path / "many").mkdir()
    for number in range(9):
        (tmp_path / "many" / str(number)).touch()
    oss.faults.add(Fault(key="in/many/[0468]", times=None, status=503))
    oss.faults.add(Fault(key="in/many/1", refuse="denied"))
    oss.faults.add(Fault(key="in/many/5", status=503))
    ended = run("put", "many", TO, *KEYS, "--max-concurrency", "1", "--retries", "0")
    assert ended.code == 1
    assert "uploaded 2 of 9 files" in ended.err
    assert "; 4 failed; stopped early, 3 left\n" in ended.err


def test_fail_fast_stops(run, oss, tree):
    """The first failure, of a file or of a name, is the last."""
    oss.faults.add(Fault(key="in/data/a.csv", refuse="denied"))
    ended = run("put", "data", TO, *KEYS, "--fail-fast", "--max-concurrency", "1")
    assert ended.code == 3
    assert "; 2 left\n" in ended.err
    ended = run("put", "missing", "data", TO, *KEYS, "--fail-fast", "--quiet")
    assert ended.code == 1
    assert "uploaded 0 of 4 files" in ended.err
    assert stored(oss) == {}


def test_no_overwrite(run, oss, tree):
    """Existing objects stay unchanged."""
    assert run("put", "data/a.csv", f"{TO}k", *KEYS, "--no-overwrite").code == 0
    ended = run("put", "data/b/c.csv", f"{TO}k", *KEYS, "--no-overwrite")
    assert ended.code == 1
    assert "the object exists already: use another name\n" in ended.err
    assert "put --ignore-existing skips files whose object exists\n" in ended.err
    assert stored(oss) == {"in/k": b"a"}


def test_json_events_tell_everything(run, oss, tree):
    """Nothing but JSON on standard output, nothing at all on the other one."""
    oss.faults.add(Fault(key="in/data/a.csv", refuse="denied"))
    ended = run("put", "data", TO, *KEYS, "--json")
    assert ended.err == ""
    by_kind = {event["event"]: event for event in ended.events}
    assert [event["event"] for event in ended.events].count("stored") == 2
    assert by_kind["failed"]["path"] == f"{TO}data/a.csv"
    assert by_kind["failed"]["local"] == str(tree / "a.csv")
    assert by_kind["failed"]["outcome"] == "not stored"
    assert by_kind["failed"]["status"] == 403
    assert by_kind["stored"]["local"].startswith(str(tree))
    assert by_kind["end"] == {
        "event": "end",
        "done": 2,
        "failed": 1,
        "in_flight": [],
        "untried": 0,
        "bytes": 5,
        "seconds": by_kind["end"]["seconds"],
        "interrupted": False,
        "exit_code": 1,
    }
    (event, _) = run("put", "-", f"{TO}s", *KEYS, "--json", stdin=b"x").events
    assert (event["local"], event["path"]) == ("-", f"{TO}s")


def test_receipts_go_to_a_file_a_directory_or_standard_output(run, tree, tmp_path):
    """JSON lines, in private files that are appended to."""
    for _ in range(2):
        assert run("put", "data", TO, *KEYS, "--receipts", "r.jsonl").code == 0
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[0])["verified"] == "crc64"
    assert stat.S_IMODE((tmp_path / "r.jsonl").stat().st_mode) == 0o600
    assert run("put", "data", TO, *KEYS, "--receipts", "kept/").code == 0
    assert run("put", "data", TO, *KEYS, "--receipts", "kept", "--json").code == 0
    (file,) = (tmp_path / "kept").iterdir()
    assert len(file.read_text().splitlines()) == 6
    printed = run("put", "data", TO, *KEYS, "--receipts", "-", "--quiet").events
    assert {one["size"] for one in printed} == {1, 2, 3}


def test_stored_without_a_receipt_is_stored(run, oss, tree):
    """If receipts cannot be written, each object is stored, and reported as stored."""
    full = ("--receipts", "/dev/full")
    ended = run("put", "data", TO, *KEYS, *full)
    assert ended.code == 1
    assert "3 stored, but without a receipt: /dev/full: No space left " in ended.err
    assert re.search(
        r"^uploaded 3 files, 6 B .*; 3 of them not as requested$",
        ended.err,
        re.MULTILINE,
    )
    assert len(stored(oss)) == 3
    ended = run("put", "data/a.csv", f"{TO}x", *KEYS, *full)
    assert f"{TO}x: stored, but without a receipt: /dev/full" in ended.err
    *_, failed, end = run("put", "data", TO, *KEYS, *full, "--json").events
    assert (failed["outcome"], failed["error"]) == ("stored", "ReceiptFailedError")
    assert (end["done"], end["failed"], end["untried"]) == (3, 3, 0)


def test_resume_goes_on(run, oss, tmp_path, monkeypatch):
    """A second run sends only missing parts, with either directory of resume files."""
    (tmp_path / "big").write_bytes(os.urandom(500 * KIB))
    parts = ("--part-size", "100KiB", "--max-concurrency", "1", "--retries", "0")
    monkeypatch.setenv("FSSPEC_OSSPRESIGNED_MULTIPART_THRESHOLD", "1")
    monkeypatch.setattr(
        "fsspec.config.conf", {"osspresigned": {"multipart_threshold": 100 * KIB}}
    )
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for how, place in (
        (("--resume",), tmp_path / "state" / "osspresigned"),
        (("--resume-dir", "journals"), tmp_path / "journals"),
    ):
        oss.faults.add(Fault(action="UploadPart", part_number=4, refuse="denied"))
        assert run("put", "big", TO, *KEYS, *parts, *how).code == 3
        assert len(list(ResumeDirectory(place).found())) == 1
        oss.clear()
        assert run("put", "big", TO, *KEYS, *parts, *how).code == 0
        sent = [one for one in oss.requests if one.action == "UploadPart"]
        assert len(sent) == 2
        assert not list(ResumeDirectory(place).found())


def test_journal_that_cannot_be_written_is_said(run, oss, tmp_path, monkeypatch):
    """The upload continues, and one line says that --resume will not help."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LineFile, "create", full)
    (tmp_path / "big").write_bytes(bytes(20 * MIB))
    for more in ((), ("--quiet",), ("--json",)):
        ended = run("put", "big", TO, *KEYS, "--resume-dir", "journals", *more)
        assert ended.code == 0
        assert ended.err.count("warning: ") == 1
        assert (
            "cannot be used (No space left on device): the upload continues"
            in ended.err
        )


def test_what_is_no_file_is_left_out_and_said(run, oss, tree):
    """A link to a directory is not followed; a link to a file is read."""
    (tree / "loop").symlink_to(tree)
    (tree / "link").symlink_to(tree / "a.csv")
    ended = run("put", "data", TO, *KEYS)
    assert ended.code == 0
    assert "left out: " in ended.err
    assert "loop (link to a directory)\n" in ended.err
    assert stored(oss)["in/data/link"] == b"a"


def test_directory_that_cannot_be_read_is_a_failure(run, oss, tree, monkeypatch):
    """The rest is stored anyway."""
    real = os.scandir

    def scandir(place):
        if str(place).endswith("/b"):
            raise PermissionError(13, "Permission denied", place)
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    ended = run("put", "data", TO, *KEYS)
    assert ended.code == 1
    assert ended.err.startswith("data/b: not uploaded: Permission denied\n")
    assert stored(oss) == {"in/data/a.csv": b"a"}


def test_named_pipes_are_streams_by_url_and_in_a_list(run, oss, url, tmp_path):
    """A named pipe is read as a stream, alone by a URL or among other sources."""
    (tmp_path / "one.url").touch(mode=0o600)
    (tmp_path / "one.url").write_text(url("in/p"))
    by_url = ("put", "pipe", "--url-file", "one.url", "--allow-http")
    for names, command in (
        (("pipe",), by_url),
        (("x", "y"), ("put", "x", "y", TO, *KEYS)),
    ):
        for name in names:
            os.mkfifo(tmp_path / name)
        writers = [
            threading.Thread(target=(tmp_path / name).write_bytes, args=(b"flow",))
            for name in names
        ]
        for writer in writers:
            writer.start()
        assert run(*command).code == 0
        for writer in writers:
            writer.join()
    assert stored(oss) == dict.fromkeys(("in/p", "in/x", "in/y"), b"flow")


def test_signer_service_by_token(run, oss, signer, tree):
    """The token is read where it is named; a wrong one is exit 3."""
    call = ("put", "data", TO, "--signer", signer)
    assert run(*call, "--token", "env:OSSPRESIGNED_TOKEN").code == 0
    assert len(stored(oss)) == 3
    (tree.parent / "token").write_text("another-made-up-one")
    ended = run(*call, "--token", "file:token")
    assert ended.code == 3
    advice = "check --token, or ask the owner for a new token\n"
    assert f"no valid bearer token (unauthorized); {advice}" in ended.err


def test_rate_holds_for_all(run, oss, tree, monkeypatch):
    """The bytes are handed to the bucket; a slow line gets few connections."""
    taken = []
    monkeypatch.setattr(options.RateLimit, "take", lambda _, size: taken.append(size))
    assert run("put", "data", TO, *KEYS, "--bwlimit", "128K").code == 0
    assert sum(taken) == 6
    transfer = options.TransferOptions(rate=options.RateLimit(20 * KIB))
    assert transfer.options() == {"max_concurrency": 1}


@pytest.fixture
def interrupted(monkeypatch):
    """``fs.put`` stores one file, and is then interrupted."""
    real = OSSPresignedFileSystem.put

    def put(self, local, remote, **options):
        real(self, local[:1], remote[:1], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(OSSPresignedFileSystem, "put", put)


def test_interrupt_says_what_is_done(run, oss, tree, interrupted):
    """Ctrl-C is exit 130, and what was given up is not called a failure."""
    ended = run("put", "data", TO, *KEYS)
    assert ended.code == 130
    assert ended.err.startswith("interrupted: uploaded 1 of 3 files")
    assert ended.err.endswith("; 2 left\n")
    assert "stdin" not in sys.modules


def test_put_tells_what_it_would_store(run, oss, tree, url_map, tmp_path):
    """The dry run lists files with and without a signature, and sends nothing."""
    ended = run("put", "data", f"{BUCKET}/in/", "-n", *KEYS)
    assert ended.code == 0
    line = f"upload {BUCKET}/in/data/a.csv from data/a.csv, 1 B"
    assert ended.out.splitlines()[0] == line
    assert ended.err == "3 files, 6 B to upload\n"
    (tree / "gone").symlink_to("nowhere")
    call = ("put", "data", f"{BUCKET}/in/", "-n", "--map", url_map("in/data/a.csv"))
    ended = run(*call)
    assert (ended.code, ended.out) == (1, f"{line}\n")
    assert ended.err.count(": cannot be uploaded: the URL map has no entry") == 3
    assert ended.err.endswith("\n1 file, 1 B to upload\n")
    events = [one["event"] for one in run(*call, "--json").events]
    assert events == ["store", "failed", "failed", "failed", "plan"]
    quiet = run("put", "data/a.csv", f"{BUCKET}/in/", "-n", "-q", *KEYS)
    assert (quiet.out.count("\n"), quiet.err) == (1, "")
    assert run("put", "-", f"{BUCKET}/x", "-n", *KEYS).code == 2
    assert not stored(oss)


def test_quiet_and_verbose(run, oss, tree):
    """Both are a wrong call."""
    call = ("put", "data/a.csv", f"{BUCKET}/in/", *KEYS)
    for flag in ("-q", "--quiet"):
        assert run(*call, flag).err == ""
    for flag in ("-v", "--verbose"):
        ended = run(*call, flag)
        assert ended.err.startswith(
            f"{BUCKET}/in/a.csv: uploaded from data/a.csv, 1 B\n"
        )
        assert "uploaded 1 file, " in ended.err
    assert run(*call, "-q", "-v").code == 2


@pytest.mark.parametrize(
    ("call", "signed", "right"),
    [
        ("sync data in --state s", "in/data/", "in/data"),
        ("put data out/", "in/data/", "in/"),
    ],
)
def test_directory_that_is_signed_elsewhere(
    run, oss, url_map, tree, call, signed, right
):
    """One message has the reason, and the nearest entry of the map for each file."""
    names = [f"{signed}{name}" for name in ("a.csv", "b/c.csv", "b/d e.bin")]
    verb, source, target, *more = call.split()
    more += ["--map", url_map(*names)]
    ended = run(verb, source, f"{BUCKET}/{target}", *more)
    assert ended.code == 3
    first = "3 not uploaded: the URL map has no entry for BUCKET/KEY\n"
    assert ended.err.startswith(first)
    for name in names:
        assert f"/{name.removeprefix(signed)}; nearest: {BUCKET}/{name}\n" in ended.err
    assert ended.err.count("\n") == 5
    assert run(verb, source, f"{BUCKET}/{right}", *more).code == 0
    assert [*stored(oss)] == sorted(names)


def test_existing_objects_are_skipped(run, oss, tree):
    """They keep their bytes, are no failure, and are counted."""
    assert run("put", "data/a.csv", TO, *KEYS).code == 0
    (tree / "a.csv").write_bytes(b"changed")
    call = ("put", "data/", TO, *KEYS, "--ignore-existing")
    ended = run(*call, "--dry-run")
    said = "2 files, 5 B to upload; 1 skipped\n"
    assert (ended.out.count("upload "), ended.err) == (2, said)
    ended = run(*call, "--verbose")
    assert ended.code == 0
    assert f"{TO}a.csv: skipped\n" in ended.err
    assert re.search(r"^uploaded 2 files, 5 B .*; 1 skipped$", ended.err, re.MULTILINE)
    assert stored(oss)["in/a.csv"] == b"a"
    ended = run(*call, "--json")
    assert [event["event"] for event in ended.events if "rate" not in event] == [
        *(["skipped"] * 3),
        "end",
    ]
    assert (ended.code, ended.events[-1]["failed"]) == (0, 0)


def test_existing_object_is_skipped_where_looking_is_not_granted(
    run, oss, tree, signer_of
):
    """The store refuses to replace it, which is no failure either."""
    assert run("put", "data/a.csv", TO, *KEYS).code == 0
    (tree / "a.csv").write_bytes(b"changed")
    ended = run(
        "put", "data/a.csv", TO, *signer_of(Action.PutObject), "--ignore-existing"
    )
    assert (ended.code, ended.err) == (0, "uploaded 0 files; 1 skipped\n")
    assert stored(oss) == {"in/a.csv": b"a"}


@pytest.mark.parametrize("command", ["put", "sync"])
def test_files_of_a_list(run, oss, tree, tmp_path, command):
    """Each line names a file; a missing one makes the command fail."""
    text = "./b/d e.bin\r\n\n/a.csv\nb/none\n"
    (tmp_path / "list").write_text(text, newline="")
    ended = run(command, "-r", "data/", TO, *KEYS, "--files-from", "list")
    assert ended.code == 1
    assert "b/none: named in --files-from, not found\n" in ended.err
    assert stored(oss) == {"in/a.csv": b"a", "in/b/d e.bin": b"ddd"}


def test_file_of_a_list_that_only_the_destination_has(run, oss, tree, tmp_path):
    """It is missing in the source, so the sync fails, and the object stays."""
    assert run("sync", "data", TO, *KEYS).code == 0
    (tree / "a.csv").unlink()
    (tmp_path / "list").write_text("a.csv\n")
    call = ("sync", "data", TO, *KEYS, "--files-from", "list")
    for more in ((), ("--dry-run",), ("--check",)):
        ended = run(*call, *more)
        assert ended.code == 1
        assert "a.csv: named in --files-from, not found\n" in ended.err
    ended = run(*call, "--delete", "--yes")
    assert ended.code == 2
    assert "--files-from and --delete" in ended.err
    assert stored(oss)["in/a.csv"] == b"a"


def test_file_that_is_named_after_a_presigned_url(run, oss, tree):
    """It fails alone, and no signature is shown; the others are uploaded."""
    (tree / "x?Expires=1&Signature=c2VjcmV0").touch()
    for more in ((), ("--json",), ("--dry-run",)):
        ended = run("put", "data", TO, *KEYS, *more)
        assert ended.code == 1
        text = ended.out + ended.err
        assert "in/data/x?Expires=1&Signature=<hidden>" in text
        assert "rename it" in text
        assert "c2VjcmV0" not in text
    assert len(stored(oss)) == 3
