"""``osspresigned doctor`` of a file: all that a URL shows, except its signature."""

from __future__ import annotations

import io
import os
import time

import pytest

from fsspec_osspresigned.owner.inspect import described
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
    request = MapRequest(url=url)
    return {fact.name: fact.text for fact in described(request, now)}


def secrets_of(url):
    """Return what must not be printed of *url*."""
    return url.reveal().rpartition("ignature=")[2]


def test_v4_url_tells_its_facts():
    """Version, host, object, lifetime, region and headers are read from a V4 URL."""
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
    assert unknown["version"].startswith("unknown: this may not be")
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
        assert cli.main(["doctor", reference]) == 3  # it expired in 2023
        out = capsys.readouterr().out
        assert "ok    object: examplebucket/a.csv" in out
        assert secrets_of(url) not in out
        assert "AKID" not in out


def test_url_on_the_command_line_is_refused(capsys):
    """A URL as an argument is refused, with the reason, and not repeated."""
    url = signed().reveal()
    for command in (["doctor"], ["check", "map"]):
        assert cli.main([*command, url]) == 2
        said = capsys.readouterr().err
        assert "(ps)" in said
        assert "history" in said
        assert url.rpartition("=")[2] not in said


def test_what_is_neither_is_an_error(tmp_path, capsys, monkeypatch):
    """A bad URL and an empty file are reported in one line each."""
    (tmp_path / "u").write_text("https://user@h/k?Signature=c2VjcmV0")
    monkeypatch.setenv("EMPTY", "")
    assert cli.main(["doctor", f"{tmp_path}/u"]) == 2
    assert "user information" in capsys.readouterr().err
    for reference in (f"{tmp_path}/missing", "env:MISSING", "env:EMPTY"):
        assert cli.main(["doctor", reference]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert "c2VjcmV0" not in said
    (tmp_path / "u").write_text("a letter")
    assert cli.main(["doctor", f"{tmp_path}/u"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path}/u: this is neither a URL map nor a grant\n"


def test_map_is_a_line_for_each_object(tmp_path, capsys, monkeypatch):
    """The report names calls, expiry, headers and host."""
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
    assert cli.main(["doctor", str(path)]) == 3  # some of its URLs are of 2023
    said = capsys.readouterr()
    a, b, c, n, edited = said.out.splitlines()
    assert edited.startswith("note  signature: only the store can tell")
    assert a.startswith("ok    examplebucket/a: PUT, get, until 2096-")
    assert "Content-Type: a/b, to examplebucket.oss-cn-hangzhou.aliyuncs.com (v4)" in a
    assert b.startswith("BAD   examplebucket/b: 2 parts of 1 MiB, the owner")
    assert "headers not said" in b
    assert "c: 2 parts, complete, until " in c
    assert n == (
        "ok    examplebucket/n: head, until not visible, without headers, to h (unknown)"
    )
    assert "warning: " in said.err
    assert "chmod 600" in said.err
    assert secrets_of(one.url) not in said.out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert cli.main(["doctor", "-"]) == 3
    assert capsys.readouterr().out == said.out


@pytest.mark.parametrize(("old", "new", "code"), [(0, 2, 0), (1, 1, 3), (1, 0, 3)])
def test_exit_code_says_what_has_expired(tmp_path, old, new, code):
    """A script can ask whether any signature of a map has expired."""
    past = MapEntry(put=MapRequest(url=signed()))
    valid = MapEntry(put=MapRequest(url=signed(now=int(time.time()))))
    entries = {f"examplebucket/{n}": past for n in range(old)}
    entries |= {f"examplebucket/new{n}": valid for n in range(new)}
    path = tmp_path / "urls.json"
    path.write_text(dump(URLMap(entries)))
    path.chmod(0o600)
    assert cli.main(["doctor", str(path)]) == code


def test_url_that_was_cut_off_says_so(tmp_path, capsys):
    """Facts and problems are shown, and the exit code reports problems to scripts."""
    cut = SecretURL(signed().reveal()[:-10])
    (tmp_path / "u").write_text(cut.reveal())
    assert cli.main(["doctor", f"{tmp_path}/u"]) == 2
    assert capsys.readouterr().out.startswith("BAD   damaged: the URL has only")
    assert told(cut)["damaged"].startswith("the URL has only the start of its sig")
    assert "damaged" not in told(signed())
