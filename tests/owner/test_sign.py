"""``osspresigned sign``: what it writes really uploads, and nothing leaks."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import stat
import subprocess
from pathlib import Path

import fsspec
import pytest

from fsspec_osspresigned import parsing
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.owner import sign as owner_sign
from fsspec_osspresigned.owner.sign import Cut, Order, local_objects
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.tools.cli import sign as owner_commands
from fsspec_osspresigned.units import KIB, MIB
from fsspec_osspresigned.url_map.source import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def keys(oss, monkeypatch, tmp_path):
    """Put the emulator's keys into the environment, and work in an empty directory."""
    key = oss.credentials
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
    monkeypatch.setenv("OSS_ENDPOINT", oss.url)
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")
    monkeypatch.chdir(tmp_path)
    return oss


def uploader(place="urls.json"):
    """Return a filesystem that has nothing but the map."""
    return fsspec.filesystem(
        "osspresigned", url_map=os.path.abspath(place), skip_instance_cache=True
    )


def stored(oss, key):
    """Return the bytes that the emulator has under *key*."""
    return oss.get("examplebucket", key).data()


def test_one_object_uploads(keys, capsys):
    """A map of one object carries its upload, and only its owner can read it."""
    assert cli.main(["sign", "osspresigned://examplebucket/a b.txt"]) == 0
    said = capsys.readouterr()
    assert "PUT of 1 object signed: urls.json (mode 0600, a secret)" in said.err
    assert "\nvalid until 20" in said.err
    assert said.out == ""
    assert "ignature" not in said.err
    assert stat.S_IMODE(os.stat("urls.json").st_mode) == 0o600
    uploader().pipe_file("examplebucket/a b.txt", b"hello")
    assert stored(keys, "a b.txt") == b"hello"


def test_directory_uploads_where_put_places_it(keys, tmp_path, capsys):
    """A directory is signed below --to exactly as ``fs.put`` sends it."""
    tree = tmp_path / "tree"
    (tree / "deep" / "empty").mkdir(parents=True)
    (tree / "a.txt").write_bytes(b"a")
    (tree / "deep" / "b.txt").write_bytes(b"b")
    call = ["sign", str(tree), "--to", "examplebucket/in/", "--output", "m.json"]
    assert cli.main(call) == 0
    assert "PUT of 2 objects" in capsys.readouterr().err
    uploader("m.json").put(str(tree), "examplebucket/in/", recursive=True)
    assert stored(keys, "in/tree/a.txt") == b"a"
    assert stored(keys, "in/tree/deep/b.txt") == b"b"


def test_headers_are_signed_and_sent(keys):
    """Headers that the owner demands must be sent, and are stored."""
    call = ["sign", "examplebucket/a", "--content-type", "text/csv"]
    call += ["--header", "x-oss-storage-class=IA", "--header", "x-oss-meta-team=blue"]
    assert cli.main([*call, "--no-overwrite", "--expires", "2h"]) == 0
    entry = load("urls.json").current()["examplebucket/a"]
    assert dict(entry.put.headers) == {
        "Content-Type": "text/csv",
        "x-oss-storage-class": "IA",
        "x-oss-forbid-overwrite": "true",
        "x-oss-meta-team": "blue",
    }
    uploader().pipe_file("examplebucket/a", b"1")
    headers = {n.lower(): v for n, v in keys.get("examplebucket", "a").headers.items()}
    assert headers["content-type"] == "text/csv"
    with pytest.raises(FileExistsError):
        uploader().pipe_file("examplebucket/a", b"2")
    assert stored(keys, "a") == b"1"


@pytest.mark.parametrize(
    "size", [["--parts", "3"], ["--file-size", "250KiB"]], ids=["parts", "file-size"]
)
def test_parts_upload(keys, size, capsys):
    """An upload that was begun by the owner is finished through its part URLs."""
    call = ["sign", "examplebucket/big.bin", *size, "--part-size", "100KiB"]
    assert cli.main([*call, "--no-overwrite", "--content-type", "a/b"]) == 0
    (upload,) = keys.uploads("examplebucket")
    said = capsys.readouterr().err
    assert f"in up to 3 parts of 100 KiB, upload {upload.upload_id}" in said
    data = os.urandom(250 * KIB)
    fs = uploader()
    with fs.open("examplebucket/big.bin", "wb") as file:
        file.write(data)
    assert stored(keys, "big.bin") == data
    assert not keys.uploads("examplebucket")
    done = {record.action for record in keys.requests}
    assert "UploadPart" in done
    assert "PutObject" not in done


def test_owner_completes_from_the_receipts(keys, tmp_path, capsys):
    """With --owner-completes the uploader sends parts, and their receipt is enough."""
    call = ["sign", "examplebucket/big.bin", "--parts", "3", "--part-size", "100KiB"]
    assert cli.main([*call, "--owner-completes", "--content-type", "a/b"]) == 0
    (upload,) = keys.uploads("examplebucket")
    assert f"upload {upload.upload_id} (you complete it)" in capsys.readouterr().err
    with open("urls.json") as file:
        (entry,) = json.load(file)["objects"].values()
    assert entry["complete"] == "external"
    assert entry.keys() >= {"abort", "list"}
    assert cli.main(["doctor", "urls.json"]) == 0
    assert "the owner completes" in capsys.readouterr().out
    data = os.urandom(250 * KIB)
    with pytest.raises(ConfigurationError, match="receipts= is required"):
        uploader().pipe_file("examplebucket/big.bin", data)
    fs = fsspec.filesystem(
        "osspresigned",
        url_map=os.path.abspath("urls.json"),
        receipts=str(tmp_path / "receipts"),
    )
    receipt = fs.pipe_file("examplebucket/big.bin", data)
    assert receipt.status == "pending"
    assert keys.get("examplebucket", "big.bin") is None
    (complete,) = KeySigner.from_options().sign(
        [
            Operation(
                action=Action.CompleteMultipartUpload,
                bucket="examplebucket",
                key="big.bin",
                upload_id=receipt.upload_id,
            )
        ]
    )
    document = parsing.complete_multipart_upload(
        (part.part_number, part.etag) for part in receipt.parts
    )
    host, _, target = complete.url.reveal().removeprefix("http://").partition("/")
    with contextlib.closing(http.client.HTTPConnection(host)) as connection:
        connection.request("POST", f"/{target}", document)
        assert connection.getresponse().status == 200
    assert stored(keys, "big.bin") == data


def test_delete_is_only_printed(keys, capsys):
    """A DELETE cannot be part of a map, and says so before anything is written."""
    assert cli.main(["sign", "examplebucket/a", "--method", "DELETE"]) == 2
    assert "use --print" in capsys.readouterr().err
    assert not os.path.exists("urls.json")
    call = ["sign", "examplebucket/a", "--method", "DELETE", "--print"]
    assert cli.main(call) == 0
    assert "DELETE until" in capsys.readouterr().err
    signed = owner_sign.sign(
        KeySigner.from_options(), ["examplebucket/a"], Order(method="DELETE")
    )
    with pytest.raises(ConfigurationError, match="no place for the DELETE"):
        signed.map_text()


def test_print_gives_a_file_that_uploads(keys, capsys):
    """--print writes the URL and its headers: put and doctor need nothing more."""
    call = ["sign", "examplebucket/a", "--print", "--no-overwrite", *HEADERS]
    assert cli.main(call) == 0
    said = capsys.readouterr()
    url, *headers = said.out.splitlines()
    assert url.startswith(f"{keys.url}/examplebucket/a?")
    assert headers == ["Content-Type: text/csv", "x-oss-forbid-overwrite: true", NOTE]
    assert not os.path.exists("urls.json")
    Path("x.url").touch(0o600)
    Path("x.url").write_text(said.out, encoding="utf-8")
    assert cli.main(["doctor", "x.url"]) == 0
    shown = capsys.readouterr().out
    sent = f"Content-Type: text/csv; x-oss-forbid-overwrite: true; {NOTE}"
    assert f"must send: {sent}\n" in shown
    assert url.partition("?")[2] not in shown
    Path("b").write_bytes(b"b")
    assert cli.main(["put", "b", "--url-file", "x.url", "--content-type", "a/b"]) == 3
    assert cli.main(["put", "b", "--url-file", "x.url"]) == 0
    assert keys.get("examplebucket", "a").headers["content-type"] == "text/csv"
    fs = fsspec.filesystem("osspresigned", presigned_url="file:x.url")
    with pytest.raises(FileExistsError):
        fs.put_file("b", "")


HEADERS = ["--content-type", "text/csv", "--header", "x-oss-meta-note=it's; a 'b' $c"]
NOTE = "x-oss-meta-note: it's; a 'b' $c"


@pytest.mark.parametrize("name", ["a.csv", "it's [1-2] {x,y} $HOME.csv", "-", "@a"])
@pytest.mark.parametrize("data", [b"", b"x" * 3 * MIB])
def test_curl_uploads(keys, capsys, name, data):
    """The printed line is a whole command: a shell runs it, and the object is stored."""
    Path(name).write_bytes(data)
    assert cli.main(["sign", f"examplebucket/in/{name}", "--curl", *HEADERS]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    subprocess.run(["/bin/sh", "-c", line], check=True, stdin=subprocess.DEVNULL)
    assert stored(keys, f"in/{name}") == data
    headers = keys.get("examplebucket", f"in/{name}").headers
    assert headers["x-oss-meta-note"] == "it's; a 'b' $c"
    os.unlink(name)
    assert cli.main(["sign", f"examplebucket/in/{name}", "--curl", "--method=GET"]) == 0
    line = capsys.readouterr().out
    subprocess.run(["/bin/sh", "-c", line], check=True)
    assert Path(name).read_bytes() == data
    for method in ("HEAD", "DELETE"):
        call = ["sign", f"examplebucket/in/{name}", "--curl", "--method", method]
        assert cli.main(call) == 0
        line = capsys.readouterr().out
        subprocess.run(["/bin/sh", "-c", line], check=True, stdout=subprocess.DEVNULL)
    assert keys.get("examplebucket", f"in/{name}") is None
    failed = subprocess.run(["/bin/sh", "-c", line.replace("ignature=", "ignature=x")], check=False)  # fmt: skip
    assert failed.returncode == 22


def words_of_powershell(line):
    """Return the words of a line of PowerShell, by the rules of about_Quoting_Rules."""
    word = r"'((?:[^'\u2018-\u201b]|['\u2018-\u201b]{2})*)'|([A-Za-z.-]+)"
    assert re.fullmatch(rf"(?:(?:{word})(?: |$))+", line)
    found = re.findall(rf"(?:{word})(?: |$)", line)
    return [
        re.sub("(['\u2018-\u201b])['\u2018-\u201b]", r"\1", q) or w for q, w in found
    ]


@pytest.mark.parametrize("name", ["a.csv", "it's \u2018so\u2019 $x `n [1].csv"])
def test_powershell_command_has_the_words_of_curl(keys, capsys, name):
    """PowerShell gives curl.exe what sh gives curl, which is shown to work."""
    call = ["sign", f"examplebucket/{name}", *HEADERS]
    assert cli.main([*call, "--curl"]) == 0
    program, *words = shlex.split(capsys.readouterr().out)
    assert cli.main([*call, "--powershell"]) == 0
    ours, *others = words_of_powershell(capsys.readouterr().out.rstrip("\n"))
    assert (program, ours) == ("curl", "curl.exe")
    assert others[:-1] == words[:-1]  # the time of the signature may differ
    assert others[-1].partition("?")[0] == words[-1].partition("?")[0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["bucket/k/", "--curl"], "does not end in the name of a file"),
        (["bucket/k\n", "--curl"], "does not end in the name of a file"),
        (["bucket/..", "--curl"], "does not end in the name of a file"),
        (["bucket/..\\k", "--powershell"], "the name of a file of Windows"),
        (["bucket/C:k.exe", "--powershell"], "the name of a file of Windows"),
        (["bucket/NUL.csv", "--powershell"], "the name of a file of Windows"),
        (["bucket/k", "--powershell", "--header", 'a="b"'], "double quote"),
    ],
)
def test_what_no_command_can_say_is_refused(keys, capsys, arguments, why):
    """Nothing is printed then: a shell would run something else."""
    assert cli.main(["sign", *arguments]) == 2
    said = capsys.readouterr()
    assert why in said.err
    assert said.out == ""


def test_pipe_takes_the_map_and_a_terminal_does_not(keys, capsys, monkeypatch):
    """Secrets are not written to a terminal."""
    assert cli.main(["sign", "examplebucket/a", "--output", "-"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["version"] == 1
    assert "standard output" in said.err
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert cli.main(["sign", "examplebucket/a", "--output", "-"]) == 2
    assert "do not go to a terminal" in capsys.readouterr().err


def test_file_that_is_there_stays(keys, tmp_path, capsys):
    """Nothing is replaced without --force, and nothing is begun either."""
    (tmp_path / "urls.json").write_text("mine")
    call = ["sign", "examplebucket/a", "--parts", "1"]
    assert cli.main(call) == 2
    assert "urls.json exists already" in capsys.readouterr().err
    assert (tmp_path / "urls.json").read_text() == "mine"
    assert not keys.requests
    assert cli.main([*call, "--force"]) == 0


def test_upload_is_aborted_if_the_map_cannot_be_written(keys, monkeypatch, capsys):
    """If the map cannot be written, the upload is aborted."""

    def full(text, path):
        raise OSError(28, "no space left")

    monkeypatch.setattr(owner_commands, "write_text", full)
    assert cli.main(["sign", "examplebucket/a", "--parts", "2"]) == 1
    assert "no space left" in capsys.readouterr().err
    assert not keys.uploads("examplebucket")
    assert cli.main(["sign", "examplebucket/a"]) == 1


def test_upload_is_aborted_if_its_parts_cannot_be_signed(keys):
    """A failure between the first and the last signature leaves no upload behind."""
    calls = iter(range(100))

    def credentials():
        if next(calls) == 2:  # after Initiate and part 1
            raise KeyboardInterrupt
        return keys.credentials

    signer = KeySigner(
        credentials=credentials, endpoint=keys.endpoint, region="cn-hangzhou"
    )
    order = Order(cut=Cut(parts=2, part_size=MIB))
    with pytest.raises(KeyboardInterrupt):
        owner_sign.sign(signer, ["examplebucket/a"], order)
    assert not keys.uploads("examplebucket")
    assert [r.action for r in keys.requests] == [
        "InitiateMultipartUpload",
        "AbortMultipartUpload",
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Missing argument"),
        (["nokey"], "is not an object"),
        (["b/"], "is not an object"),
        (["https://h/k?Signature=c2VjcmV0"], "(ps)"),
        (["https://h/k"], "not by a URL"),
        (["a", "b"], "need --to"),
        (["b/k", "tests/conftest.py"], "'tests/conftest.py' is not an object"),
        (["b/k", "b/l", "--parts", "2"], "parts are of one object"),
        (["b/k", "--expires", "8d"], "not a lifetime from 1s to 7d"),
        (["b/k", "--expires", "1 week"], "not a lifetime from 1s to 7d"),
        (["b/k", "--header", "nonsense"], "NAME=VALUE"),
        (["b/k", "--header", "=v"], "NAME=VALUE"),
        (["b/k", "--method", "GET", "--content-type", "a/b"], "sends no object"),
        (["b/k", "--method", "GET", "--parts", "2"], "sends no object"),
        (["b/k", "--parts", "2", "--file-size", "1G"], "give one of them"),
        (["b/k", "--part-size", "1MiB"], "--part-size needs"),
        (["b/k", "--owner-completes"], "--owner-completes needs --parts"),
        (["b/k", "--file-size", "much"], "is not a size"),
        (["b/k", "--print", "--output", "f"], "--print writes no file"),
        (["b/k", "--print", "--parts", "2"], "--print is for one URL"),
        (["b/k", "b/l", "--curl"], "--curl is for one URL"),
        (["b/k", "--curl", "--powershell"], "give one of them"),
        (["f", "--to", "b/", "--parts", "2"], "parts are of one object"),
    ],
)
def test_wrong_call_is_exit_2(arguments, why, capsys, monkeypatch):
    """A call that cannot be meant says why; no key is needed to find out."""
    monkeypatch.chdir(ROOT)
    assert cli.main(["sign", *arguments]) == 2
    said = capsys.readouterr().err
    assert why in said
    assert "c2VjcmV0" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["b/k"], 2, "OSS_ACCESS_KEY_ID is not set"),
        (["missing.txt", "--to", "b/"], 1, "no such local file"),
        (["b/k", "--parts", "1", "--part-size", "1KiB"], 2, "OSS accepts 100 KiB"),
        (["b/k", "--file-size", "1TiB"], 2, "--part-size 109951163 or more"),
    ],
)
def test_failure_is_one_line(arguments, code, why, capsys, monkeypatch, tmp_path):
    """Errors of keys and files are shown without a traceback."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["sign", *arguments]) == code
    said = capsys.readouterr().err
    assert why in said
    assert "Traceback" not in said


def test_a_name_that_is_not_utf_8_is_left_out(keys, tmp_path, monkeypatch, capsys):
    """It is named, and all other files are signed; the name of the source is no key."""
    monkeypatch.chdir(tmp_path)
    top = os.fsencode(tmp_path) + b"/d\xff"
    os.mkdir(top)
    for name in (b"a", "ü".encode(), b"bad\xff"):
        with open(top + b"/" + name, "wb") as file:
            file.write(b"a")
    assert cli.main(["sign", os.fsdecode(b"d\xff/"), "--to", "b-1/in/"]) == 0
    said = capsys.readouterr().err
    assert "bad\\udcff has a name that is not UTF-8: rename the file\n" in said
    written = json.loads((tmp_path / "urls.json").read_text())
    assert set(written["objects"]) == {"b-1/in/a", "b-1/in/ü"}


def test_domain_is_of_one_bucket(keys):
    """URLs at a domain for two buckets cannot both be right."""
    signer = KeySigner.from_options("cn-hangzhou", "files.example.com", style="cname")
    with pytest.raises(ConfigurationError, match=r"otherbucket/a: .* of one bucket"):
        owner_sign.sign(signer, ["examplebucket/a", "otherbucket/a"], Order())


def test_collisions_and_nothing(tmp_path):
    """Two files for one path, no file and no bucket are errors."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").touch()
    (tmp_path / "empty").mkdir()
    sources = [str(tmp_path / "x" / "a"), str(tmp_path / "y" / "a")]
    with pytest.raises(ConfigurationError, match="would both go to b/p/a"):
        local_objects(sources, "b/p/")
    with pytest.raises(ConfigurationError, match="no file exists at"):
        local_objects([str(tmp_path / "empty")], "b/p/")
    with pytest.raises(ConfigurationError, match="names no bucket"):
        local_objects(sources, "/p/")
    assert list(local_objects(sources[:1], "b/other")) == ["b/other"]
