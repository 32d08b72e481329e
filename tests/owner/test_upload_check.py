"""``osspresigned check map``: each mistake in a map is found beforehand."""

from __future__ import annotations

import io
import json
import time

import fsspec
import pytest
from attrs import evolve

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import ConfigurationError, NotSignedError
from fsspec_osspresigned.filesystem.client_factory import client_for
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.owner.upload_check import Intent, check_map
from fsspec_osspresigned.secret import Secret, SecretURL
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.units import KIB, MIB
from fsspec_osspresigned.upload.upload import Upload
from fsspec_osspresigned.url_map.source import write
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest, URLMap

NOW = 1_700_000_000.0
KEY = Credentials("AKID", Secret("topsecret"))
OSS = Endpoint.parse("oss-cn-hangzhou.aliyuncs.com")
CNAME = Endpoint.parse("https://up.example.com", style="cname")


def signed(
    key="a", *, bucket="examplebucket", said=None, life=3600, now=NOW, at=OSS, **more
):
    """Return one request of a map; *said* are the headers that the map names."""
    url = PresignRequest(
        KEY,
        at,
        method="PUT",
        bucket=bucket,
        key=key,
        region="cn-hangzhou",
        now=now,
        expires_in=life,
        **more,
    ).url()
    return MapRequest(url=url, headers=said)


def in_parts(count, *, key="a", **more):
    """Return an entry of *count* parts."""

    def of(upload, **query):
        return signed(key, query={"uploadId": upload, **query}, **more)

    return MapEntry(
        upload_id="U",
        part_size=100 * KIB,
        parts=tuple(of("U", partNumber=str(n)) for n in range(1, count + 1)),
        complete=of("U"),
    )


def found(entry, *, path="examplebucket/a", **intent):
    """Return kind and text of each problem of a map with one entry."""
    url_map = URLMap({path: entry})
    problems = check_map(url_map, Intent(now=NOW, **intent))
    assert {p.path for p in problems} <= {path}
    return [(p.kind, p.text) for p in problems]


@pytest.fixture
def file(tmp_path):
    """Return a function that makes a local file of a size, as the file of a path."""

    def make(size, path="examplebucket/a"):
        local = tmp_path / path.replace("/", "-")
        with local.open("wb") as opened:
            opened.truncate(size)
        return {path: str(local)}

    return make


def test_good_map_has_no_problem(file):
    """What fits is passed, alone and with its file."""
    for entry in (MapEntry(put=signed()), in_parts(3)):
        assert found(entry) == []
        assert found(entry, files=file(250 * KIB), rate=1e6) == []


def test_object_that_is_not_its_path():
    """A URL for another object is named, by bucket and by key."""
    assert found(MapEntry(put=signed("b"))) == [
        ("object", "url is for examplebucket/b")
    ]
    assert found(MapEntry(put=signed(bucket="otherbucket"))) == [
        ("object", "url is for otherbucket/a")
    ]
    assert found(MapEntry(put=MapRequest(url=SecretURL("https://h/%ff")))) == [
        ("object", "the path of url is not UTF-8")
    ]


def test_plus_in_a_path_is_a_blank_or_a_plus():
    """What an upload makes of it is what the check makes of it."""
    url = signed("a b").url.reveal().replace("%20", "+")
    for path, problems in (
        ("examplebucket/a b", []),
        ("examplebucket/a+b", []),
        ("examplebucket/a", [("object", "url is for examplebucket/a b")]),
    ):
        assert (
            found(MapEntry(put=MapRequest(url=SecretURL(url))), path=path) == problems
        )


def test_cname_is_compared_by_its_key():
    """Where the host hides the bucket, the key must fit; path style does too."""
    assert found(MapEntry(put=signed(at=CNAME))) == []
    assert found(MapEntry(put=signed("b", at=CNAME))) == [("object", "url is for b")]
    path_style = Endpoint.parse("https://s3.example.com", style="path")
    assert found(MapEntry(put=signed(at=path_style))) == []


def test_url_for_another_call():
    """A URL with foreign parameters, without its part or of another upload is found."""
    assert found(MapEntry(put=signed(query={"acl": ""}))) == [
        ("object", "url has the parameter acl: it stores no object")
    ]
    entry = in_parts(2)
    bare = evolve(entry, parts=(signed(), signed()))
    assert found(bare) == [
        (
            "object",
            "parts[1] has no partNumber in its URL: it would replace the object",
        )
    ]
    other = evolve(entry, complete=signed(query={"uploadId": "V"}))
    assert found(other) == [("object", "complete is of another upload")]


def test_header_that_the_url_demands():
    """A signed header that the map does not send is found; Host is sent anyway."""
    headers = {"Cache-Control": "no-store", "Host": OSS.netloc("examplebucket")}
    more = {"headers": headers, "additional_headers": list(headers)}
    entry = MapEntry(put=signed(said={}, **more))
    assert found(entry) == [
        ("headers", "url was signed with cache-control, its headers lack it")
    ]
    assert found(MapEntry(put=signed(**more))) == []


def test_header_that_the_upload_demands(file):
    """A header of the user's that is not signed is found before the upload."""
    files = file(10)
    demanded = {"Content-Type": "text/csv"}
    entry = MapEntry(put=signed(said={}))
    ((kind, text),) = found(entry, files=files, headers=demanded)
    assert kind == "headers"
    assert "Content-Type is not signed with that value" in text
    entry = MapEntry(put=signed(said=demanded, headers=demanded))
    assert found(entry, files=files, headers=demanded) == []
    # What Initiate takes can no longer be given; Complete takes the rest.
    entry = in_parts(2, said={})
    files = file(150 * KIB)
    ((kind, text),) = found(entry, files=files, headers=demanded)
    assert kind == "upload"
    assert "has initiated this upload: Content-Type cannot be set" in text
    exclusive = {"x-oss-forbid-overwrite": "true"}
    ((kind, _),) = found(entry, files=files, headers=exclusive)
    assert kind == "headers"
    external = evolve(entry, complete="external")
    assert found(external, files=files, headers=exclusive, receipts=True) == []


def test_signed_length_is_compared_with_the_file(file):
    """A URL for exactly ten bytes takes no eleven."""
    said = {"Content-Length": "10"}
    entry = MapEntry(
        put=signed(said=said, headers=said, additional_headers=["Content-Length"])
    )
    assert found(entry, files=file(10)) == []
    ((kind, text),) = found(entry, files=file(11))
    assert kind == "headers"
    assert "exactly 10 bytes" in text


def test_too_few_parts(file):
    """A file that needs more parts than there are URLs is found."""
    ((kind, text),) = found(in_parts(2), files=file(201 * KIB))
    assert kind == "parts"
    assert "need 3 parts, 2 can be signed" in text


def test_complete_that_was_signed_for_no_body(file):
    """A list of parts never has the MD5 that was signed; it is told before any part."""
    nothing = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
    entry = in_parts(3)
    spoilt = evolve(entry, complete=evolve(entry.complete, headers=nothing))
    ((kind, text),) = found(spoilt)
    assert kind == "headers"
    assert text.startswith(
        "complete was signed with a Content-MD5, which cannot match the list of"
    )
    assert ("headers", text) in found(spoilt, files=file(250 * KIB))
    everything = {**nothing, "x-oss-complete-all": "yes"}
    assert not found(evolve(entry, complete=evolve(entry.complete, headers=everything)))


def test_parts_without_an_end(file):
    """Parts that nobody completes, and URLs that only read, store nothing."""
    entry = evolve(in_parts(2), complete=None)
    for files in ({}, file(10)):
        ((kind, text),) = found(entry, files=files)
        assert kind == "parts"
        assert 'no "complete"' in text
    assert found(evolve(entry, put=signed()), files=file(10)) == []
    ((kind, text),) = found(MapEntry(get=signed()), files=file(10))
    assert "only URLs for reading" in text


def test_expired():
    """What has ended is one problem an object; what does not say is none."""
    entry = in_parts(2, now=NOW - 7200)
    ((kind, text),) = found(entry)
    assert kind == "expiry"
    assert text.startswith("parts[1] ended at 2023-11-14T21:13:20Z, and 2 more of it")
    ((_, text),) = found(MapEntry(put=signed(), expires_at=NOW))
    assert "more of it" not in text
    silent = MapRequest(url=SecretURL("https://h.example.com/a"))
    assert found(MapEntry(put=silent)) == []


def test_rate_shows_what_comes_too_late(file):
    """The first request that the rate brings after its end is named, Complete too."""
    entry = in_parts(3, life=10)
    files = file(250 * KIB)
    assert found(entry, files=files, rate=1e6) == []
    ((kind, text),) = found(entry, files=files, rate=10 * KIB)
    assert kind == "expiry"
    assert text.startswith("parts[2] would be sent after 10 s")
    ((_, text),) = found(entry, files=files, rate=24 * KIB)
    assert text.startswith("complete would be sent after 10 s")
    external = evolve(entry, complete="external")
    assert found(external, files=files, rate=24 * KIB, receipts=True) == []
    # What has ended already is said once.
    assert len(found(in_parts(3, now=NOW - 7200), files=files, rate=1.0)) == 1


def test_surplus_parts_are_no_problem(file):
    """Parts that a small file does not need are not timed."""
    assert found(in_parts(9, life=10), files=file(10 * KIB), rate=10 * KIB) == []


def test_files_are_sent_one_after_the_other(file):
    """A single PUT waits for all the files before it."""
    files = {**file(MIB), **file(10, "examplebucket/b")}
    url_map = URLMap(
        {
            "examplebucket/a": MapEntry(put=signed("a", life=10)),
            "examplebucket/b": MapEntry(put=signed("b", life=10)),
        }
    )
    problems = check_map(url_map, Intent(files=files, rate=1000.0, now=NOW))
    assert [(p.path, p.kind) for p in problems] == [("examplebucket/b", "expiry")]
    assert "url would be sent after 17 min 28 s" in problems[0].text


def test_coverage(file):
    """Files without a URL, and URLs to upload without a file, are named."""
    files = file(10, "examplebucket/x/data.csv")
    entry = MapEntry(put=signed("x/date.csv"))
    reading = MapEntry(get=signed("r"))
    url_map = URLMap({"examplebucket/x/date.csv": entry, "examplebucket/r": reading})
    missing, unused = check_map(url_map, Intent(files=files, now=NOW))
    assert (missing.kind, unused.kind) == ("missing", "unused")
    assert missing.path == "examplebucket/x/data.csv"
    assert "has no URL; nearest: examplebucket/x/date.csv" in missing.text
    (alone,) = check_map(URLMap({}), Intent(files=files, now=NOW))
    assert alone.text.endswith("has no URL")


def test_plain_http():
    """A URL that the filesystem will refuse for its http is named, once an entry."""
    far = Endpoint.parse("http://oss-cn-hangzhou.aliyuncs.com")
    near = Endpoint.parse("http://127.0.0.1:9000")
    entry = in_parts(3, at=far)
    assert found(entry) == [
        ("http", "parts[1] is plain http: use https, or allow_http=True")
    ]
    assert found(entry, allow_http=True) == []
    assert found(MapEntry(put=signed(), get=signed(at=far)))[0][1].startswith("get is")
    assert found(MapEntry(put=signed(at=near))) == []
    ((kind, text),) = found(MapEntry(put=signed(at=near)), local=False)
    assert kind == "http"
    assert "leads to this machine over http" in text


def test_external_complete_needs_receipts(file):
    """Who cannot complete must be told to keep receipts, if an upload is asked for."""
    entry = evolve(in_parts(3), complete="external")
    files = file(150 * KIB)
    assert found(entry) == []
    ((kind, text),) = found(entry, files=files)
    assert kind == "upload"
    assert "receipts= is required" in text
    assert found(entry, files=files, receipts=True) == []


def test_mistake_is_told_once(file):
    """What an entry lacks is not said again for its file."""
    more = {"headers": {"Cache-Control": "no"}, "additional_headers": ["Cache-Control"]}
    entry = MapEntry(put=signed(said={}, **more))
    assert [kind for kind, _ in found(entry, files=file(10))] == ["headers"]


FAR = Endpoint.parse("http://oss-cn-hangzhou.aliyuncs.com")
LENGTH = {"Content-Length": "10"}


EXACT = {"headers": LENGTH, "additional_headers": ["Content-Length"]}


def living(**more):
    """Return a request that has not ended yet."""
    return signed(now=time.time(), **more)


ENTRIES = {
    "put": MapEntry(put=living()),
    "exact headers": MapEntry(put=living(said={})),
    "http": MapEntry(put=living(at=FAR)),
    "ten bytes": MapEntry(put=living(said=LENGTH, **EXACT)),
    "ended": MapEntry(put=signed(now=time.time() - 7200)),
    "reading": MapEntry(get=living()),
    "parts": in_parts(3, now=time.time()),
    "few parts": in_parts(2, now=time.time()),
    "parts, exact headers": in_parts(3, now=time.time(), said={}),
    "parts over http": in_parts(3, now=time.time(), at=FAR),
    "no complete": evolve(in_parts(3, now=time.time()), complete=None),
    "external": evolve(in_parts(3, now=time.time()), complete="external"),
    "any size": evolve(in_parts(3, now=time.time()), part_size=None),
}


@pytest.mark.parametrize("size", [10, 250 * KIB])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "a/b"}, {"x-oss-forbid-overwrite": "true"}],
    ids=["plain", "typed", "exclusive"],
)
@pytest.mark.parametrize("entry", ENTRIES)
def test_check_and_upload_agree(entry, headers, size, file):
    """What the check passes, an upload begins; what it names, an upload refuses."""
    path = "examplebucket/a"
    url_map = URLMap({path: ENTRIES[entry]})
    intent = Intent(files=file(size), headers=headers, now=time.time())
    problems = check_map(url_map, intent)
    client = client_for(Options(url_map=url_map))
    try:
        run(Upload.begin, client, Target.of(path=path, headers=headers), size=size)
    except (ConfigurationError, NotSignedError):
        assert problems
    else:
        assert not problems


def test_guesses_are_bounded(file):
    """For a wrong folder of thousands of files the first hundred guesses are enough."""
    names = [f"examplebucket/wrong/{n:05}" for n in range(120)]
    url_map = URLMap(
        {name.replace("wrong", "right"): MapEntry(get=signed()) for name in names}
    )
    files = dict.fromkeys(names, next(iter(file(1).values())))
    problems = check_map(url_map, Intent(files=files, now=NOW))
    guessed = [p for p in problems if p.kind == "missing" and "nearest" in p.text]
    assert len(guessed) == 100
    assert "examplebucket/right/00000" in guessed[0].text


@pytest.fixture
def place(tmp_path):
    """A map of two living URLs, and the local file of the first."""
    (tmp_path / "a").write_bytes(b"12345")
    path = tmp_path / "urls.json"
    entries = {
        f"examplebucket/{key}": MapEntry(
            put=MapRequest(url=SecretURL(f"https://h.example.com/{key}?Signature=s3cr"))
        )
        for key in ("a", "b")
    }
    write(entries, path)
    return path


def test_command_prints_a_table(place, capsys):
    """Problems are lines with path and kind, and the exit code is 1."""
    assert cli.main(["check", "map", str(place)]) == 0
    assert capsys.readouterr().out == "2 objects in the map, 0 files: no problems\n"
    call = ["check", "map", str(place), str(place.parent / "a"), "--to"]
    assert cli.main([*call, "examplebucket/", "--rate", "1"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "examplebucket/b  unused  no file uses this URL",
        "2 objects in the map, 1 file, 0 s at that rate: 1 problem",
    ]
    assert cli.main([*call, "examplebucket/c/", "--header", "a=b"]) == 1
    said = capsys.readouterr().out
    assert said.endswith(": 3 problems\n")
    assert "s3cr" not in said


def test_command_prints_json(place, capsys):
    """--json is for programs, with the same exit codes."""
    call = ["check", "map", str(place), "--json"]
    assert cli.main(call) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    call += [str(place.parent / "a"), "--to", "examplebucket/"]
    assert cli.main(call) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["objects"], said["files"]) == (2, 1)
    assert said["problems"][0]["kind"] == "unused"
    assert said["problems"][0]["path"] == "examplebucket/b"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["f"], "FILES need --to"),
        (["--to", "b/"], "are about FILES"),
        (["--rate", "1"], "are about FILES"),
        (["--header", "a=b"], "are about FILES"),
        (["f", "--to", "b/", "--rate", "fast"], "is not a rate"),
    ],
)
def test_wrong_call_is_exit_2(place, more, why, capsys):
    """A call that cannot be meant says why."""
    assert cli.main(["check", "map", str(place), *more]) == 2
    assert why in capsys.readouterr().err


def test_unreadable_map_is_exit_2(tmp_path, capsys):
    """A map that is none is one error with all its problems."""
    (tmp_path / "m").write_text('{"version": 2}')
    assert cli.main(["check", "map", str(tmp_path / "m")]) == 2
    assert "only 1 is known" in capsys.readouterr().err


URL = signed(now=time.time()).url.reveal()
PART = signed(query={"uploadId": "U", "partNumber": "1"}, now=time.time()).url.reveal()
SHAPES = {
    "version 1": json.dumps({"version": 1, "objects": {"examplebucket/a": URL}}),
    "bare": json.dumps({"examplebucket/a": {"url": URL, "headers": {}}}),
    "lines": json.dumps({"path": "examplebucket/a", "url": URL}) + "\n",
    "list": json.dumps([URL]),
    "list of entries": json.dumps([{"path": "examplebucket/a", "url": URL}]),
    "one": json.dumps({"method": "PUT", "url": URL, "signed_headers": None}),
    "parts": json.dumps(
        {"upload_id": "U", "complete": "external"}
        | {"parts": [{"part_number": 1, "url": PART, "method": "PUT"}]}
    ),
    "two urls": f"{URL}\n{URL.replace('/a?', '/b?')}\n",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["file", "file:", "-", "env", "memory://"])
def test_every_shape_at_every_place(shape, form, tmp_path, monkeypatch, capsys):
    """Whatever an owner has, wherever it lies, can be described and checked."""
    text = SHAPES[shape]
    path = tmp_path / "map"
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv("URLS", text)
    with fsspec.open("memory://maps/urls.json", "w") as file:
        file.write(text)
    places = {"file": str(path), "file:": f"file:{path}", "-": "-", "env": "env:URLS"}
    place = places.get(form, "memory://maps/urls.json")
    for command in (["doctor"], ["check", "map"]):
        stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
        monkeypatch.setattr("sys.stdin", stdin)
        assert cli.main([*command, place]) == 0
        said = capsys.readouterr()
        assert "examplebucket/a" in said.out or "no problems" in said.out
        assert "ignature=" not in said.out + said.err


def test_flags_say_what_the_uploader_sets(tmp_path, capsys):
    """--receipts and --allow-http take away what is a problem without them."""
    entry = evolve(
        in_parts(1, now=time.time(), at=Endpoint.parse("http://oss.example.com")),
        complete="external",
    )
    entry = evolve(
        entry,
        parts=(
            MapRequest(
                url=SecretURL(
                    "http://oss.example.com/a?uploadId=U&partNumber=1&Signature=c2VjcmV0"
                )
            ),
        ),
    )
    (tmp_path / "a").write_bytes(b"12345")
    write({"examplebucket/a": entry}, tmp_path / "m")
    call = ["check", "map", str(tmp_path / "m"), str(tmp_path / "a")]
    call += ["--to", "examplebucket/"]
    assert cli.main(call) == 1
    kinds = [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert kinds == ["http", "upload"]
    assert cli.main([*call, "--receipts", "--allow-http"]) == 0
