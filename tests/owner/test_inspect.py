"""``osspresigned inspect``: all that a URL tells, and never its signature."""

from __future__ import annotations

import io
import os
import sys
import time
from types import SimpleNamespace

import pytest

from fsspec_osspresigned.owner import inspect as owner_inspect
from fsspec_osspresigned.secret import Secret, SecretURL
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest, URLMap, dump

NOW = 1_700_000_000.0
KEY = Credentials("AKID", Secret("topsecret"))
OSS = Endpoint.parse("oss-cn-hangzhou.aliyuncs.com")


def signed(key="a.csv", *, credentials=KEY, endpoint=OSS, now=NOW, **more):
    """Return a presigned URL of ``examplebucket``."""
    given = {"method": "PUT", "region": "cn-hangzhou", "expires_in": 3600, **more}
    return PresignRequest(
        credentials, endpoint, bucket="examplebucket", key=key, now=now, **given
    ).url()


def told(url, now=NOW):
    """Return what is said about *url*, by name."""
    return dict(owner_inspect.about_url(url, now))


def secrets_of(url):
    """Return what must not be printed of *url*."""
    return url.reveal().rpartition("ignature=")[2]


def test_v4_url_tells_its_facts():
    """Version, place, object, life, region and headers are read from a V4 URL."""
    url = signed(
        headers={"Content-Length": "5", "Content-Type": "a/b"},
        additional_headers=["Content-Length"],
    )
    assert told(url, NOW + 60) == {
        "version": "V4",
        "goes to": "https://examplebucket.oss-cn-hangzhou.aliyuncs.com",
        "object": "examplebucket/a.csv",
        "call": "on the object; its method is not visible in a URL",
        "region": "cn-hangzhou",
        "signed at": "2023-11-14T22:13:20Z",
        "expires at": "2023-11-14T23:13:20Z (59 min left)",
        "must send": "content-length, with the signed values; Content-Type, "
        "Content-MD5 and x-oss-* may be signed unseen",
    }


def test_v1_url_with_a_token_tells_less():
    """A V1 URL has no region and no date; the temporary key is named, not shown."""
    credentials = Credentials("STS.A", Secret("s"), Secret("tokentokentoken"))
    url = signed(credentials=credentials, version="v1", query={"acl": ""})
    found = told(url, NOW + 7200)
    assert found["version"].startswith("V1")
    assert found["key"].startswith("temporary (STS)")
    assert "(EXPIRED 1 h ago)" in found["expires at"]
    assert found["call"].endswith("; parameters: acl")
    assert "region" not in found
    assert "signed at" not in found
    assert "tokentoken" not in str(found)


@pytest.mark.parametrize(
    ("query", "call"),
    [
        ({"uploadId": "U", "partNumber": "3"}, "part 3 of the upload U"),
        ({"uploadId": "U"}, "on the upload U: complete, abort or list"),
    ],
)
def test_call_on_an_upload_is_recognised(query, call):
    """The parameters of a multipart upload say which call it is."""
    assert told(signed(query=query))["call"].startswith(call)


def test_other_urls_are_described_as_far_as_possible():
    """Nothing that is read from a URL can fail, or steer the terminal."""
    unknown = told(SecretURL("https://cdn.example.com/a%1b%5b31m?x=1"))
    assert unknown["version"].startswith("none that is known")
    assert unknown["object"] == "a\\x1b[31m (the host does not tell the bucket)"
    assert unknown["expires at"] == "not visible"
    assert told(SecretURL("https://h.example.com/%ff"))["object"].startswith("not vis")
    s3 = told(
        SecretURL(
            "https://h.example.com/k?X-Amz-Algorithm=A&X-Amz-SignedHeaders=host"
            "&X-Amz-Signature=c2VjcmV0"
        )
    )
    assert s3["must send"] == "host, with the signed values"
    assert "parameters" not in s3["call"]


def test_url_is_read_from_file_variable_and_stdin(monkeypatch, tmp_path, capsys):
    """Each reference leads to the same facts; the signature stays hidden."""
    url = signed()
    (tmp_path / "u").write_text(url.reveal() + "\n")
    monkeypatch.setenv("UPLOAD_URL", url.reveal())
    for reference in (f"file:{tmp_path}/u", f"{tmp_path}/u", "env:UPLOAD_URL", "-"):
        stdin = io.TextIOWrapper(io.BytesIO(url.reveal().encode()))
        monkeypatch.setattr("sys.stdin", stdin)
        assert cli.main(["inspect", reference]) == 3  # it expired in 2023
        out = capsys.readouterr().out
        assert "object      examplebucket/a.csv" in out
        assert secrets_of(url) not in out
        assert "AKID" not in out


def test_url_on_the_command_line_is_refused(capsys):
    """A URL given in place is refused, with the reason, and not repeated."""
    url = signed().reveal()
    for command in (["inspect"], ["check", "map"]):
        assert cli.main([*command, url]) == 2
        said = capsys.readouterr().err
        assert "(ps)" in said
        assert "history" in said
        assert url.rpartition("=")[2] not in said


def test_what_is_neither_is_an_error(tmp_path, capsys, monkeypatch):
    """A bad URL and a place with nothing are one line each."""
    (tmp_path / "u").write_text("https://user@h/k?Signature=c2VjcmV0")
    monkeypatch.setenv("EMPTY", "")
    assert cli.main(["inspect", f"{tmp_path}/u"]) == 2
    assert "user information" in capsys.readouterr().err
    for reference in (f"{tmp_path}/missing", "env:MISSING", "env:EMPTY"):
        assert cli.main(["inspect", reference]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert "c2VjcmV0" not in said
    (tmp_path / "u").write_text("a letter")
    assert cli.main(["inspect", f"{tmp_path}/u"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path}/u is not a presigned URL, URL map or grant\n"


def test_map_is_a_table(tmp_path, capsys, monkeypatch):
    """One line an object: what can be done, until when, with what, where."""
    parts = tuple(
        MapRequest(url=signed(query={"uploadId": "U", "partNumber": str(n)}))
        for n in (1, 2)
    )
    one = MapRequest(url=signed(), headers={"Content-Type": "a/b"})
    none = MapRequest(url=SecretURL("https://h/examplebucket/n"), headers={})
    text = dump(
        URLMap(
            {
                "examplebucket/a": MapEntry(put=one, get=one, expires_at=4e9),
                "examplebucket/b": MapEntry(
                    upload_id="U", part_size=1 << 20, parts=parts, complete="external"
                ),
                "examplebucket/c": MapEntry(upload_id="U", parts=parts, complete=one),
                "examplebucket/n": MapEntry(head=none),
            }
        )
    )
    path = tmp_path / "urls.json"
    path.write_text(text)
    os.chmod(path, 0o644)
    assert cli.main(["inspect", str(path)]) == 1  # some of its URLs are of 2023
    said = capsys.readouterr()
    head, a, b, c, n = (
        [cell.strip() for cell in line.split("  ") if cell.strip()]
        for line in said.out.splitlines()
    )
    assert head[0] == "object"
    assert "PUT, get" in a
    assert "Content-Type: a/b" in a
    assert "2 parts of 1 MiB, the owner completes" in b
    assert "not said" in b
    assert "2 parts, complete" in c
    assert "none" in n
    assert "warning: " in said.err
    assert "chmod 600" in said.err
    assert secrets_of(one.url) not in said.out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli.main(["inspect", "-"]) == 1
    assert capsys.readouterr().out == said.out


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Return a function that gives standard output a width, as terminals have one."""

    def narrow(columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return narrow


def test_map_is_blocks_where_the_table_is_too_wide(
    tmp_path, capsys, terminal, monkeypatch
):
    """On a terminal only; long values break at blanks, names of objects never do."""
    clock = SimpleNamespace(time=lambda: NOW + 60)
    monkeypatch.setattr("fsspec_osspresigned.tools.cli.sign.time", clock)
    one = MapRequest(url=signed(), headers={"Content-Type": "text/csv"})
    key = "examplebucket/a name that is longer than a line is.csv"
    entry = MapEntry(put=one, get=one)
    path = tmp_path / "urls.json"
    path.write_text(dump(URLMap({key: entry, "examplebucket/b": entry})))
    assert cli.main(["inspect", str(path)]) == 0
    table = capsys.readouterr().out
    widest = max(map(len, table.splitlines()))
    terminal(widest + 1)
    assert cli.main(["inspect", str(path)]) == 0
    assert capsys.readouterr().out == table
    terminal(40)
    assert cli.main(["inspect", str(path)]) == 0
    said = capsys.readouterr().out
    first, second = said.split("\n\n")
    lines = first.splitlines()
    assert lines == [
        f"object   {key}",
        "what     PUT, get",
        "until    2023-11-14T23:13:20Z (59 min",
        "         left)",
        "headers  Content-Type: text/csv",
        "where    examplebucket.oss-cn-hangzhou.aliyuncs.com",
        "         (v4)",
    ]
    assert second.startswith("object   examplebucket/b\n")
    assert secrets_of(one.url) not in said


def test_facts_of_a_url_fit_the_terminal(tmp_path, capsys, terminal):
    """In a pipe each is one line; on a terminal a long one goes on below itself."""
    (tmp_path / "u").write_text(signed(now=int(time.time())).reveal())
    assert cli.main(["inspect", f"{tmp_path}/u"]) == 0
    plain = capsys.readouterr().out
    assert max(map(len, plain.splitlines())) > 80
    terminal(80)
    assert cli.main(["inspect", f"{tmp_path}/u"]) == 0
    *_, last, rest = capsys.readouterr().out.splitlines()
    assert last.startswith("must send   none is visible; Content-Type")
    assert rest == "            signed unseen"
    assert f"{last} {rest.strip()}" in plain


@pytest.mark.parametrize(
    ("old", "new", "code"), [(0, 2, 0), (1, 1, 1), (2, 0, 3), (1, 0, 3)]
)
def test_exit_code_says_what_has_expired(tmp_path, old, new, code):
    """A script can ask: nothing, some, or all of a map; a URL is one or the other."""
    past = MapEntry(put=MapRequest(url=signed()))
    valid = MapEntry(put=MapRequest(url=signed(now=int(time.time()))))
    entries = {f"examplebucket/{n}": past for n in range(old)}
    entries |= {f"examplebucket/new{n}": valid for n in range(new)}
    path = tmp_path / "urls.json"
    path.write_text(dump(URLMap(entries)))
    path.chmod(0o600)
    assert cli.main(["inspect", str(path)]) == code


def test_url_that_was_cut_off_says_so(tmp_path, capsys):
    """Its facts are shown with what is wrong with it; the exit code tells scripts."""
    cut = SecretURL(signed().reveal()[:-10])
    (tmp_path / "u").write_text(cut.reveal())
    assert cli.main(["inspect", f"{tmp_path}/u"]) == 2
    assert capsys.readouterr().out.startswith("damaged     the URL has only")
    assert told(cut)["damaged"].startswith("the URL has only the start of its sig")
    assert "damaged" not in told(signed())
