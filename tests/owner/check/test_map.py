"""``osspresigned check map``: each mistake in a map is found beforehand."""

from __future__ import annotations

import json
import time

import pytest
from attrs import evolve

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import ConfigurationError, NotCoveredError
from fsspec_osspresigned.filesystem.client_factory import client_for
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.owner.check import Intent, check_map
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


@pytest.fixture
def file(tmp_path):
    """Return a function that makes a local file of a size, as the file of a path."""

    def make(size, path="examplebucket/a"):
        local = tmp_path / path.replace("/", "-")
        with local.open("wb") as opened:
            opened.truncate(size)
        return {path: str(local)}

    return make


FAR = Endpoint.parse("http://oss-cn-hangzhou.aliyuncs.com")
NEAR = Endpoint.parse("http://127.0.0.1:9000")
PATH_STYLE = Endpoint.parse("https://s3.example.com", style="path")
CACHED = {"Cache-Control": "no-store", "Host": OSS.netloc("examplebucket")}
CACHE = {"headers": CACHED, "additional_headers": list(CACHED)}
TYPE = {"Content-Type": "text/csv"}
ONCE = {"x-oss-forbid-overwrite": "true"}
LENGTH = {"Content-Length": "10"}
EXACT = {"headers": LENGTH, "additional_headers": ["Content-Length"]}
NOTHING = {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
PARTS = in_parts(3)
EXTERNAL = evolve(PARTS, complete="external")
ENDED = in_parts(2, now=NOW - 7200)
BRIEF = in_parts(3, life=10)


def put(*key, **more):
    """Return an entry of one PUT."""
    return MapEntry(put=signed(*key, **more))


def of(url, **more):
    """Return an entry of one PUT to a URL as it is."""
    return MapEntry(put=MapRequest(url=SecretURL(url)), **more)


def completed(**headers):
    """Return parts whose Complete was signed with headers."""
    return evolve(PARTS, complete=evolve(PARTS.complete, headers=headers))


PLUS = signed("a b").url.reveal().replace("%20", "+")
# An entry, the plan to upload a file (of a size) with it, and its problem.
# fmt: off
MAPS = [
    # A valid entry passes, alone and with its file.
    (put(), {}, None),
    (put(), {"size": 250 * KIB, "rate": 1e6}, None),
    (PARTS, {}, None),
    (PARTS, {"size": 250 * KIB, "rate": 1e6}, None),
    # A URL for another object is named, by bucket and by key.
    (put("b"), {}, "object: url is for examplebucket/b"),
    (put(bucket="otherbucket"), {}, "object: url is for otherbucket/a"),
    (of("https://h/%ff"), {}, "object: the path of url is not UTF-8"),
    # Plus in a path is a blank or a plus, as for an upload.
    (of(PLUS), {"path": "examplebucket/a b"}, None),
    (of(PLUS), {"path": "examplebucket/a+b"}, None),
    (of(PLUS), {}, "object: url is for examplebucket/a b"),
    # If the host does not show the bucket, the key must match.
    (put(at=CNAME), {}, None),
    (put("b", at=CNAME), {}, "object: url is for b"),
    (put(at=PATH_STYLE), {}, None),
    # Another call, a part without its number, another upload.
    (put(query={"acl": ""}), {}, "object: url has the parameter acl: it stores no object"),
    (evolve(in_parts(2), parts=(signed(), signed())), {}, "object: parts[1] has no partNumber in its URL: it would replace the object"),
    (evolve(PARTS, complete=signed(query={"uploadId": "V"})), {}, "object: complete belongs to another upload"),
    # A signed header that the map does not send; Host is sent anyway.
    (put(said={}, **CACHE), {}, "headers: url was signed with cache-control, its headers lack it"),
    (put(said={}, **CACHE), {"size": 10}, "headers: url was signed with cache-control, its headers lack it"),
    (put(**CACHE), {}, None),
    # A header that the upload demands.
    (put(said={}), {"size": 10, "headers": TYPE}, "headers: Content-Type is not signed with that value"),
    (put(said=TYPE, headers=TYPE), {"size": 10, "headers": TYPE}, None),
    (in_parts(2, said={}), {"size": 150 * KIB, "headers": TYPE}, "upload: has initiated this upload: Content-Type cannot be set"),
    (in_parts(2, said={}), {"size": 150 * KIB, "headers": ONCE}, "headers: x-oss-forbid-overwrite"),
    (EXTERNAL, {"size": 150 * KIB, "headers": ONCE, "receipts": True}, None),
    # A URL for exactly ten bytes takes no eleven.
    (put(said=LENGTH, **EXACT), {"size": 10}, None),
    (put(said=LENGTH, **EXACT), {"size": 11}, "headers: exactly 10 bytes"),
    (in_parts(2), {"size": 201 * KIB}, "parts: need 3 parts, 2 can be signed"),
    # A list of parts never has the MD5 of nothing.
    (completed(**NOTHING), {}, "headers: complete was signed with a Content-MD5, which cannot match the list of"),
    (completed(**NOTHING, **{"x-oss-complete-all": "yes"}), {}, None),
    # Parts that nobody completes, and URLs that only read, store nothing.
    (evolve(PARTS, complete=None), {}, 'parts: no "complete"'),
    (evolve(PARTS, complete=None), {"size": 10}, 'parts: no "complete"'),
    (evolve(PARTS, complete=None, put=signed()), {"size": 10}, None),
    (MapEntry(get=signed()), {"size": 10}, "parts: only URLs for reading"),
    # An expired object is one problem; one without a known expiry is none.
    (ENDED, {}, "expiry: parts[1] ended at 2023-11-14T21:13:20Z, and 2 more of it"),
    (ENDED, {"size": 150 * KIB, "rate": 1.0}, "expiry: parts[1] ended"),
    (evolve(put(), expires_at=NOW), {}, "expiry: url ended at 2023-11-14T22:13:20Z: sign"),
    (of("https://h.example.com/a"), {}, None),
    # The first request that the rate brings after its end, Complete too.
    (BRIEF, {"size": 250 * KIB, "rate": 1e6}, None),
    (BRIEF, {"size": 250 * KIB, "rate": 10 * KIB}, "expiry: parts[2] would be sent after 10 s"),
    (BRIEF, {"size": 250 * KIB, "rate": 24 * KIB}, "expiry: complete would be sent after 10 s"),
    (evolve(BRIEF, complete="external"), {"size": 250 * KIB, "rate": 24 * KIB, "receipts": True}, None),
    (in_parts(9, life=10), {"size": 10 * KIB, "rate": 10 * KIB}, None),
    # A URL that the filesystem will refuse for its http, once an entry.
    (in_parts(3, at=FAR), {}, "http: parts[1] is plain http: use https, or allow_http=True"),
    (in_parts(3, at=FAR), {"allow_http": True}, None),
    (MapEntry(put=signed(), get=signed(at=FAR)), {}, "http: get is"),
    (put(at=NEAR), {}, None),
    (put(at=NEAR), {"local": False}, "http: leads to this machine over http"),
    # If the map has no Complete, an upload in parts needs receipts.
    (EXTERNAL, {}, None),
    (EXTERNAL, {"size": 150 * KIB}, "upload: receipts= is required"),
    (EXTERNAL, {"size": 150 * KIB, "receipts": True}, None),
]
# fmt: on


@pytest.mark.parametrize(("entry", "plan", "problem"), MAPS)
def test_each_mistake_is_one_problem(file, entry, plan, problem):
    """It has the kind and the words of the table, and what fits has none."""
    plan = dict(plan)
    path, size = plan.pop("path", "examplebucket/a"), plan.pop("size", None)
    files = {} if size is None else file(size)
    problems = check_map(URLMap({path: entry}), Intent(files=files, now=NOW, **plan))
    if problem is None:
        assert problems == []
        return
    (found,) = problems
    kind, text = problem.split(": ", 1)
    assert (found.path, found.name, found.outcome) == (path, kind, "failed")
    assert text in found.reason


def test_files_are_sent_one_after_the_other(file):
    """A single PUT waits for all the files before it."""
    files = {**file(MIB), **file(10, "examplebucket/b")}
    url_map = URLMap({f"examplebucket/{key}": put(key, life=10) for key in "ab"})
    (problem,) = check_map(url_map, Intent(files=files, rate=1000.0, now=NOW))
    assert (problem.path, problem.name) == ("examplebucket/b", "expiry")
    assert "url would be sent after 17 min 28 s" in problem.reason


def test_coverage(file):
    """Files without a URL, and URLs to upload without a file, are named."""
    files = file(10, "examplebucket/x/data.csv")
    entry = put("x/date.csv")
    reading = MapEntry(get=signed("r"))
    url_map = URLMap({"examplebucket/x/date.csv": entry, "examplebucket/r": reading})
    missing, unused = check_map(url_map, Intent(files=files, now=NOW))
    assert (missing.name, unused.name) == ("missing", "unused")
    assert missing.path == "examplebucket/x/data.csv"
    assert "has no URL; nearest: examplebucket/x/date.csv" in missing.reason
    (alone,) = check_map(URLMap({}), Intent(files=files, now=NOW))
    assert alone.reason.endswith("has no URL")


def living(**more):
    """Return a request that has not ended yet."""
    return signed(now=time.time(), **more)


LIVING = in_parts(3, now=time.time())
ENTRIES = {
    "put": MapEntry(put=living()),
    "exact headers": MapEntry(put=living(said={})),
    "http": MapEntry(put=living(at=FAR)),
    "ten bytes": MapEntry(put=living(said=LENGTH, **EXACT)),
    "ended": MapEntry(put=signed(now=time.time() - 7200)),
    "reading": MapEntry(get=living()),
    "parts": LIVING,
    "few parts": in_parts(2, now=time.time()),
    "parts, exact headers": in_parts(3, now=time.time(), said={}),
    "parts over http": in_parts(3, now=time.time(), at=FAR),
    "no complete": evolve(LIVING, complete=None),
    "complete without a body": evolve(
        LIVING, complete=evolve(LIVING.complete, headers=NOTHING)
    ),
    "external": evolve(LIVING, complete="external"),
    "any size": evolve(LIVING, part_size=None),
}


@pytest.mark.parametrize("size", [10, 250 * KIB])
@pytest.mark.parametrize(
    "headers",
    [{}, {"Content-Type": "a/b"}, {"x-oss-forbid-overwrite": "true"}],
    ids=["plain", "typed", "exclusive"],
)
@pytest.mark.parametrize("entry", ENTRIES)
def test_check_and_upload_agree(entry, headers, size, file):
    """The check and the upload accept and refuse the same files."""
    path = "examplebucket/a"
    url_map = URLMap({path: ENTRIES[entry]})
    intent = Intent(files=file(size), headers=headers, now=time.time())
    problems = check_map(url_map, intent)
    client = client_for(Options(url_map=url_map))
    try:
        run(Upload.begin, client, Target.of(path=path, headers=headers), size=size)
    except (ConfigurationError, NotCoveredError):
        assert problems
    else:
        assert not problems


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
    assert json.loads(capsys.readouterr().out)["results"] == []
    call += [str(place.parent / "a"), "--to", "examplebucket/"]
    assert cli.main(call) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["objects"], said["files"]) == (2, 1)
    assert said["results"][0]["name"] == "unused"
    assert said["results"][0]["path"] == "examplebucket/b"


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


def test_flags_say_what_the_uploader_sets(tmp_path, capsys):
    """--receipts and --allow-http take away what is a problem without them."""
    part = "http://oss.example.com/a?uploadId=U&partNumber=1&Signature=c2VjcmV0"
    entry = MapEntry(
        upload_id="U",
        part_size=100 * KIB,
        parts=(MapRequest(url=SecretURL(part)),),
        complete="external",
    )
    (tmp_path / "a").write_bytes(b"12345")
    write({"examplebucket/a": entry}, tmp_path / "m")
    call = ["check", "map", str(tmp_path / "m"), str(tmp_path / "a")]
    call += ["--to", "examplebucket/"]
    assert cli.main(call) == 1
    kinds = [line.split()[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert kinds == ["http", "upload"]
    assert cli.main([*call, "--receipts", "--allow-http"]) == 0
