"""``doctor`` and ``check grant``: what a grant allows, and what is wrong with it."""

from __future__ import annotations

import json
import sys
import time
from http.server import BaseHTTPRequestHandler

import pytest

from fsspec_osspresigned.owner.check import Intent, check_grant
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.owner.inspect import described, warnings_of
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.post_grant_parser import read_grant
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    policy_text,
    sign_policy,
    signature_conditions,
)
from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.units import GIB, MIB
from tests.loopback_server import LoopbackServer

NOW = 1_795_773_600.0  # 2026-11-27T10:00:00Z
KEY = Credentials("LTAIfakeid", Secret("fakesecret"))
STS = Credentials("STS.fake", Secret("fakesecret"), Secret("fake-token-1234567"))
OSS = Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com")
HOST = "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"
EXACT = PolicyCondition("eq", "key", ("in/a.csv",))
BUCKET = PolicyCondition("eq", "bucket", ("examplebucket",))
SIZE = PolicyCondition.range(0, MIB)
ACL = PolicyCondition("eq", "x-oss-object-acl", ("default",))


def made(credentials=KEY, endpoint=OSS, now=NOW, **terms):
    """Return the text of a grant for ``examplebucket/in/``."""
    wanted = GrantTerms(**{"bucket": "examplebucket", "prefix": "in/", **terms})
    region = "cn-hangzhou"
    return sign_grant(credentials, endpoint, wanted, region=region, now=now).text()


def grant(**terms):
    """Return the grant that is read from such a text."""
    return read_grant(json.loads(made(**terms)))


def loose(*conditions, version="v4", **more):
    """Return a grant of an application server, with these conditions alone."""
    own = signature_conditions(KEY, version=version, region="cn-hangzhou", now=NOW)
    text = Secret(policy_text([*conditions, *own], expires_at=NOW + 3600))
    signed = sign_policy(KEY, text, version=version, region="cn-hangzhou", now=NOW)
    return read_grant({"url": HOST, "fields": {**signed, **more}})


def prefix(text):
    """Return the condition of a prefix."""
    return PolicyCondition("starts-with", "key", (text,))


def told(found):
    """Return what is said about a grant, by name."""
    return {fact.name: fact.text for fact in described(found, NOW + 60)}


def test_grant_tells_its_facts():
    """Place, size, life, and all that is bound; the default has no warning."""
    assert told(grant(expires_in=7200, sizes=(0, GIB))) == {
        "kind": "grant, signature V4",
        "goes to": f"{HOST}/",
        "objects": "begins with 'in/'",
        "size": "0 bytes to 1 GiB",
        "expires at": "2026-11-27T12:00:00Z (1 h 59 min left)",
        "existing objects": "can be replaced",
        "also bound": "success_action_status is '200'; x-oss-object-acl is 'default'",
    }


def test_grant_of_a_temporary_key_says_so():
    """The warning says that the key may expire first; restrictions are listed."""
    found = told(grant(credentials=STS, overwrite=False, content_types=["a/b", "c/d"]))
    assert found["key"].startswith("temporary (STS)")
    assert found["existing objects"] == "are kept"
    assert "x-oss-content-type is one of 'a/b', 'c/d'" in found["also bound"]
    assert "fake-token" not in repr(found)


def test_loose_grant_tells_what_is_open():
    """Restrictions that an application server left out are named."""
    found = told(loose(PolicyCondition("not-in", "key", ("secret",)), version="v4"))
    assert found["objects"] == "is none of 'secret'"
    assert found["size"] == "up to 5 GiB"
    assert found["also bound"] == "nothing"


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ([BUCKET, prefix("in/"), SIZE, ACL], []),
        ([BUCKET, EXACT, SIZE, ACL], []),
        ([prefix("in/"), SIZE, ACL], ["for every bucket of its region"]),
        ([BUCKET, SIZE, ACL], ["no prefix is fixed"]),
        ([BUCKET, prefix(""), SIZE, ACL], ["no prefix is fixed"]),
        ([BUCKET, prefix("in"), SIZE, ACL], ["the prefix 'in' is broad"]),
        ([BUCKET, prefix("in/"), ACL], ["no size is fixed"]),
        ([BUCKET, prefix("in/"), SIZE], ["the ACL is not fixed"]),
        (
            [
                *(BUCKET, prefix("in/"), SIZE, ACL),
                PolicyCondition("starts-with", "x-oss-content-type", ("image/",)),
            ],
            ["include image/svg+xml,"],
        ),
        (
            [
                *(BUCKET, prefix("in/"), SIZE, ACL),
                PolicyCondition("in", "x-oss-content-type", ("image/png",)),
            ],
            [],
        ),
    ],
)
def test_warnings(conditions, said):
    """Only unusual permissions give a warning."""
    found = [*warnings_of(loose(*conditions))]
    assert len(found) == len(said)
    for text, part in zip(found, said, strict=True):
        assert part in text


def test_v1_with_a_lasting_key_is_a_warning():
    """V1 with a long-term key, and a callback, each give a warning."""
    first = loose(BUCKET, prefix("in/"), SIZE, ACL, version="v1", callback="e30=")
    assert [text.partition(":")[0] for text in warnings_of(first)] == [
        "V1 with a lasting key",
        "it has a callback",
    ]
    other = loose(prefix("in/"), SIZE, ACL, version="v1")
    assert "every bucket that" in next(iter(warnings_of(other)))


PLAIN = Endpoint.parse("http://oss-cn-hangzhou.aliyuncs.com")
TYPES = {"content_types": ["text/csv"]}
# Terms of a grant, objects with their sizes, the plan, and the problem: object, kind, text.
# fmt: off
GRANTS = [
    ({}, {}, {}, None),
    ({}, {}, {"now": NOW + 3600}, ("in/", "expiry", "expired at 2026-11-27T11:00:00Z")),
    ({"endpoint": PLAIN}, {}, {}, ("in/", "http", "its URL is plain http")),
    ({"endpoint": PLAIN}, {}, {"allow_http": True}, None),
    ({}, {"in/a.csv": 5}, {}, None),
    ({}, {"out/a.csv": 5}, {}, ("out/a.csv", "upload", 'does not meet ["starts-with", "$key", "in/"]')),
    ({"bucket": "other"}, {"in/a.csv": 5}, {}, ("in/a.csv", "upload", "it is for the bucket 'other'")),
    ({}, {"in/a.bin": 5 * GIB + 1}, {}, ("in/a.bin", "upload", "a form upload takes at most 5 GiB")),
    ({"sizes": (0, 4)}, {"in/a.csv": 5}, {}, ("in/a.csv", "upload", "size of 5 bytes")),
    # A demanded header must be one that the policy lets through.
    (TYPES, {"in/a.csv": 5}, {"headers": {"Content-Type": "text/csv"}}, None),
    (TYPES, {"in/a.csv": 5}, {"headers": {"Content-Type": "text/html"}}, ("in/a.csv", "upload", "text/html")),
    # Files go one after the other; one that begins after the end is told.
    ({}, {"in/0": 1000, "in/1": 1000, "in/2": 1000}, {"rate": 1000.0}, None),
    ({"expires_in": 2}, {"in/0": 1000, "in/1": 1000, "in/2": 1000}, {"rate": 1000.0}, ("in/2", "expiry", "would be sent after 2 s")),
    ({"expires_in": 2}, {"in/0": 1000, "in/1": 1000}, {"rate": 1000.0, "now": NOW + 9}, ("in/", "expiry", "expired at")),
]
# fmt: on


@pytest.mark.parametrize(("terms", "objects", "plan", "problem"), GRANTS)
def test_what_stands_in_the_way_of_an_upload(tmp_path, terms, objects, plan, problem):
    """It is one problem with its object; what the policy lets through is none."""
    files = {}
    for number, (key, size) in enumerate(objects.items()):
        files[f"examplebucket/{key}"] = str(tmp_path / f"{number}")
        with (tmp_path / f"{number}").open("wb") as hole:
            hole.truncate(size)
    found = check_grant(grant(**terms), Intent(files=files, **{"now": NOW, **plan}))
    if problem is None:
        assert found == []
        return
    (one,) = found
    assert (one.path, one.name) == (f"examplebucket/{problem[0]}", problem[1])
    assert problem[2] in one.reason


# -- the commands --------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A grant file of now, in the working directory."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "grant.json"
    file.touch(0o600)
    file.write_text(made(now=time.time()))
    return file


TOKEN = "grants-token-5d1e"


class GrantServer(LoopbackServer):
    """A server of grants, as an application has one."""

    held: dict[str, bytes]  # path -> grant

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        """Return what the server holds for the path, with a token if it wants one."""
        body = self.held.get(request.path, b"")
        wanted = request.headers["Authorization"] == f"Bearer {TOKEN}"
        is_good = body and (wanted or request.path != "/token")
        request.send_response(200 if is_good else 403)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def web(place):
    """The URL of a server of grants, whose grants are for the server's own host."""
    with GrantServer() as server:
        grant = json.loads(place.read_text())
        grant["url"] = f"{server.url}/examplebucket/"
        at_oss = place.read_bytes()
        own = json.dumps(grant).encode()
        server.held = {"/grant": own, "/token": own, "/at-oss": at_oss}
        server.held["/none"] = b"<html>"
        yield server.url


@pytest.mark.parametrize("path", ["grant", "at-oss"])
def test_grants_of_a_server(web, path, capsys, monkeypatch):
    """The URL of a server is described and checked as a file is, without more packages."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert cli.main(["doctor", f"{web}/{path}"]) == 0
    assert "begins with 'in/'" in capsys.readouterr().out
    assert cli.main(["check", "grant", f"{web}/{path}"]) == 0
    assert (
        "grant for examplebucket/in/, 0 files: no problems" in capsys.readouterr().out
    )


def test_grant_of_a_server_that_wants_a_token(web, capsys, monkeypatch, tmp_path):
    """The token goes to the server alone; what the server refuses is reported."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    call = ["check", "grant", f"{web}/token"]
    assert cli.main([*call, "--token", "env:OSSPRESIGNED_TOKEN"]) == 0
    assert cli.main(call) != 0
    assert "answered HTTP 403: check --token" in capsys.readouterr().err
    assert cli.main(["doctor", f"{web}/token"]) == 2
    assert "answered HTTP 403" in capsys.readouterr().err
    assert cli.main(["check", "grant", f"{web}/none"]) != 0
    assert "did not return a grant" in capsys.readouterr().err
    file = ["check", "grant", "grant.json", "--token", "env:OSSPRESIGNED_TOKEN"]
    assert cli.main(file) == 2
    assert "--token is for the server of a grant" in capsys.readouterr().err


def test_grant_for_a_custom_domain(place, capsys):
    """The bucket of a domain is named as for an upload."""
    grant = json.loads(place.read_text())
    del grant["bucket"]
    place.write_text(json.dumps({**grant, "url": "https://files.example.com/"}))
    call = ["check", "grant", "grant.json"]
    assert cli.main([*call, "--allowed-host", "files.example.com=examplebucket"]) == 0
    assert cli.main([*call, "--allowed-host", "files.example.com=another"]) == 2
    assert "it is for the bucket examplebucket" in capsys.readouterr().err


@pytest.mark.usefixtures("place")
def test_check_grant_alone_and_for_files(tmp_path, capsys):
    """Exit code 0 without problems, 1 with some; JSON on request."""
    assert cli.main(["check", "grant", "grant.json"]) == 0
    said = capsys.readouterr()
    assert said.out == "grant for examplebucket/in/, 0 files: no problems\n"
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "a.csv").write_bytes(b"12345")
    call = ["check", "grant", "grant.json", "exports", "--rate", "1", "--to"]
    assert cli.main([*call, "examplebucket/in/"]) == 0
    assert "1 file, 0 s at that rate: no problems" in capsys.readouterr().out
    assert cli.main([*call, "examplebucket/out/"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("examplebucket/out/exports/a.csv  upload  key ")
    assert said.endswith("1 problem\n")
    assert cli.main([*call, "examplebucket/out/", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["grant"]["bucket"] == "examplebucket"
    assert found["warnings"] == []
    assert found["files"] == 1
    assert found["results"][0]["name"] == "upload"


@pytest.mark.parametrize("field", ["content-type", "x\n\x1b[2J\x9b\u202eforged"])
def test_control_characters_of_a_grant_are_shown_escaped(
    place, tmp_path, capsys, field
):
    """A hostile grant can neither move the cursor nor forge a line."""
    odd = "\x1b[2J\x07\x00\x9b\u202e\nforged"
    (tmp_path / "a.csv").write_bytes(b"1")
    values = (odd,) if field == "content-type" else (odd, "b")
    odd_ones = [PolicyCondition("eq", field, (value,)) for value in values]
    now = time.time()
    own = signature_conditions(KEY, version="v4", region="cn-hangzhou", now=now)
    conditions = [BUCKET, prefix("in/"), *odd_ones, *own]
    text = Secret(policy_text(conditions, expires_at=now + 3600))
    signed = sign_policy(KEY, text, version="v4", region="cn-hangzhou", now=now)
    place.write_text(json.dumps({"url": HOST, "fields": signed}))
    call = ["check", "grant", "grant.json", "a.csv", "--to", "examplebucket/in/"]
    assert cli.main([*call, "--header", "content-type=a/b"]) != 0
    said = "".join(capsys.readouterr())
    assert "forged" in said
    assert not any(line.startswith("forged") for line in said.splitlines())
    assert not set(said) & set("\x1b\x07\x00\x9b\u202e")
