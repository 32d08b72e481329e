"""PostObject: signatures and policies of forms, what is stored, and broken forms."""

from __future__ import annotations

import base64
import hashlib
import json
import random

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.http.checksums import crc64
from fsspec_osspresigned.signing.post_policy import post_signature
from tests.emulator.authorization import OWNER, STS
from tests.emulator.conftest import refusal, tree
from tests.emulator.forms import (
    ANY_KEY,
    BOUNDARY,
    BUCKET,
    Poster,
    fields_and_file,
    form,
    part,
    policy,
    signed,
    signed_text,
)

CRC = "x-oss-hash-crc64ecma"
DAY = 86_400
EXPIRED = (403, "AccessDenied", "0006-00000213")
MIB = 1024 * 1024
both = pytest.mark.parametrize("version", ["v1", "v4"])


@pytest.fixture
def fields() -> dict[str, str]:
    """Signed fields, with the key ``k``."""
    return {**signed(OWNER), "key": "k"}


# Signatures and policies.


@both
@pytest.mark.parametrize("key", [OWNER, STS], ids=["key", "sts"])
def test_each_version_and_kind_of_key(poster, oss, version, key):
    """V1 and V4 store the object, with a permanent key and with a token of STS."""
    assert poster.post("k", b"data", version=version, by=key).status_code == 204
    assert oss.get(BUCKET, "k").data() == b"data"


@both
def test_signatures(poster, oss, version):
    """A form that is unsigned, half signed, or signed for another policy is refused."""
    anonymous = (403, "AccessDenied", "0003-00000001")
    assert refusal(poster.post("k", fields={})) == anonymous
    fields = signed(OWNER, version=version)
    for name in fields.keys() - {"x-oss-signature-version"}:  # without it, it is V1
        left = {n: value for n, value in fields.items() if n != name}
        assert refusal(poster.post("k", fields=left))[:2] == (400, "InvalidArgument")
    name = {"v1": "Signature", "v4": "x-oss-signature"}[version]
    other = signed(OWNER, {"bucket": "otherbucket"}, version=version)
    reply = poster.post("k", fields={**fields, name: other[name]})
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")
    assert tree(reply).findtext("StringToSign") == fields["policy"]
    assert oss.objects(BUCKET) == {}


@pytest.mark.parametrize(
    ("name", "change", "wanted"),
    [
        ("x-oss-signature-version", lambda _: "OSS9", "InvalidArgument 0002-00000066"),
        ("x-oss-credential", lambda _: "nothing", "InvalidArgument 0002-00000708"),
        ("x-oss-credential", lambda v: v.replace("/oss/", "/ecs/"),
         "InvalidArgument 0002-00000708"),
        ("x-oss-credential", lambda v: v.replace("hangzhou", "beijing"),
         "InvalidArgument 0002-00000715"),
        ("x-oss-credential", lambda v: f"LTAIx{v}", "InvalidAccessKeyId 0002-00000902"),
        ("x-oss-date", lambda _: "20260102T000000Z", "InvalidArgument 0002-00000709"),
        ("x-oss-date", lambda _: "2026", "InvalidArgument 0002-00000709"),
        ("x-oss-security-token", lambda _: None, "InvalidAccessKeyId 0002-00000003"),
        ("x-oss-security-token", lambda v: f"{v}x", "InvalidSecurityToken 0002-00000006"),
    ],
    ids=range(9),
)  # fmt: skip
def test_each_v4_field_is_judged(poster, name, change, wanted):
    """Version, credential, day, region, key and token have an answer of their own."""
    fields = signed(STS)
    value = change(fields.pop(name))
    more = {} if value is None else {name: value}
    reply = poster.post("k", fields={**fields, **more})
    assert " ".join(refusal(reply)[1:]) == wanted


def test_a_signature_elsewhere_is_ignored(client, poster):
    """A signed URL does not stand in for the policy."""
    query = client.url("POST", "").partition("?")[2]
    body = form(part("key", "k"), part("file", b"x"))
    reply = poster.send(body, path=f"/{BUCKET}/?{query}")
    assert refusal(reply) == (403, "AccessDenied", "0003-00000001")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no base64!", "not base64"),
        (base64.b64encode(b"{").decode(), "policy is"),
        (policy([]), "no list of conditions"),
        (policy([["like", "$key", "x"]]), "does not know conditions[0]"),
    ],
    ids=range(4),  # the policies have the time of their expiry
)
def test_what_is_no_policy(poster, oss, text, said):
    """A well-signed text that is no policy is InvalidPolicyDocument."""
    reply = poster.post("refused", fields=signed_text(OWNER, text))
    assert refusal(reply)[:2] == (400, "InvalidPolicyDocument")
    assert tree(reply).findtext("Message").startswith("Invalid Policy: ")
    assert said in tree(reply).findtext("Message")
    assert oss.get(BUCKET, "refused") is None


@both
def test_a_policy_ends(poster, oss, version):
    """It is refused from its end on; a V4 signature ends after 7 days at the latest."""
    fields = signed(OWNER, version=version, life=100)
    assert poster.post("k", fields=fields).status_code == 204
    long = signed(OWNER, version=version, life=30 * DAY)
    oss.clock.jump(200)
    assert refusal(poster.post("k", fields=fields)) == EXPIRED
    oss.clock.jump(8 * DAY)
    reply = poster.post("k", fields=long)
    if version == "v1":
        assert reply.status_code == 204
    else:
        assert refusal(reply)[:2] == EXPIRED[:2]


@pytest.mark.parametrize(
    ("condition", "also", "ec"),
    [
        ({"bucket": BUCKET}, {}, None),
        ({"bucket": "otherbucket"}, {}, "227"),
        (["eq", "$key", "dir/k"], {}, None),
        (["eq", "$key", "dir/K"], {}, "227"),
        (["starts-with", "$key", "dir/"], {}, None),
        (["starts-with", "$key", "other/"], {}, "227"),
        (["in", "$content-type", ["image/png", "text/csv"]], {"Content-Type": "text/csv"},
         None),
        (["in", "$content-type", ["image/png"]], {"Content-Type": "text/csv"}, "227"),
        (["in", "$content-type", ["image/png"]], {}, "226"),
        (["not-in", "$cache-control", ["no-cache"]], {"Cache-Control": "private"}, None),
        (["not-in", "$cache-control", ["no-cache"]], {"cache-control": "no-cache"}, "227"),
        (["eq", "$X-OSS-Meta-A", "1"], {"x-oss-meta-a": "1"}, None),
        ({"success_action_status": "200"}, {}, "226"),
        ({"x-oss-forbid-overwrite": "true"}, {"x-oss-forbid-overwrite": "false"}, "227"),
        (["eq", "$fileName", "a"], {"fileName": "a"}, None),
    ],
)  # fmt: skip
def test_each_condition(poster, oss, condition, also, ec):
    """A form that a condition does not allow is refused, and nothing is stored."""
    fields = signed(OWNER, condition)
    reply = poster.post("dir/k", fields=fields, also=also)
    if ec is None:
        assert reply.status_code == 204, reply.text
        return
    assert refusal(reply) == (403, "AccessDenied", f"0006-00000{ec}")
    message = tree(reply).findtext("Message")
    assert message.startswith("Invalid according to Policy: Policy Condition failed: ")
    assert oss.get(BUCKET, "dir/k") is None


def test_v4_names_its_fields(poster):
    """A V4 policy that does not name the fields of its signature is refused."""
    fields = {**signed(OWNER), "policy": policy(list(ANY_KEY))}
    fields["x-oss-signature"] = post_signature(
        OWNER.access_key_secret,
        fields["policy"],
        day=fields["x-oss-date"][:8],
        region="cn-hangzhou",
    )
    reply = poster.post("k", fields=fields)
    assert refusal(reply) == (403, "AccessDenied", "0006-00000228")
    assert "Extra input fields" in tree(reply).findtext("Message")


# What is stored and answered.


def test_the_reply_tells_what_was_stored(poster, oss):
    """204, the CRC-64 of the file alone, and an ETag that is not its MD5."""
    reply = poster.post("k", b"hello")
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers[CRC] == str(crc64(b"hello"))
    md5 = hashlib.md5(b"hello", usedforsecurity=False).hexdigest().upper()
    stored = oss.get(BUCKET, "k")
    assert reply.headers["ETag"] == f'"{stored.etag}"'
    assert md5 not in reply.headers["ETag"]
    assert "Content-MD5" not in reply.headers
    assert (stored.data(), stored.kind) == (b"hello", "Normal")
    record = oss.requests[-1]
    assert (record.action, record.key, record.bytes) == ("PostObject", "k", 5)


@pytest.mark.parametrize(
    ("asked", "status"), [("200", 200), ("201", 201), ("204", 204), ("202", 204)]
)
def test_the_status_that_is_asked_for(poster, oss, asked, status):
    """200, 201 with a document, and 204, which stands for all others as well."""
    reply = poster.post("k/ü&b", also={"success_action_status": asked})
    assert reply.status_code == status
    assert CRC in reply.headers
    if status != 201:
        assert reply.content == b""
        return
    assert tree(reply).tag == "PostResponse"
    assert {child.tag: child.text for child in tree(reply)} == {
        "Location": f"{oss.url}/{BUCKET}/k/%C3%BC%26b",
        "Bucket": BUCKET,
        "ETag": reply.headers["ETag"],
        "Key": "k/ü&b",
    }


def test_properties_are_fields(poster, client, oss):
    """Headers of the object, metadata, ACL, class and encryption come from fields."""
    also = {
        "Cache-Control": "no-store",
        "Content-Disposition": "attachment",
        "Content-Encoding": "gzip",
        "Expires": "Thu, 01 Dec 2033 16:00:00 GMT",
        "x-oss-meta-unit": "größe",
        "x-oss-storage-class": "IA",
        "x-oss-object-acl": "public-read",
        "x-oss-server-side-encryption": "AES256",
        "x-oss-tagging": "a=b",
    }
    reply = poster.post("k", also=also)
    assert reply.headers["x-oss-server-side-encryption"] == "AES256"
    wanted = {name.lower(): value for name, value in also.items()}
    kept = {**wanted, "content-type": "application/octet-stream"}
    assert oss.get(BUCKET, "k").headers == kept
    got = client.call("GET", "k").headers
    assert got["x-oss-meta-unit"].encode("latin-1").decode() == "größe"


@pytest.mark.parametrize(
    ("head", "also", "kind"),
    [
        ((), {"Content-Type": "text/a"}, "text/a"),
        (("Content-Type: text/b",), {"Content-Type": "text/a"}, "text/b"),
        (("Content-Type: text/b",), {"x-oss-content-type": "text/c"}, "text/c"),
    ],
)
def test_the_content_type(poster, oss, head, also, kind):
    """The field of OSS's own wins over the file's part, that over the other field."""
    poster.post("k", b"x", *head, also=also)
    assert oss.get(BUCKET, "k").headers["content-type"] == kind


@pytest.mark.parametrize(
    ("key", "also", "code"),
    [
        ("/a", {}, "InvalidObjectName"),
        ("", {}, "InvalidArgument"),
        ("k", {"x-oss-object-acl": "everybody"}, "InvalidArgument"),
        ("k", {"x-oss-storage-class": "Cold"}, "InvalidStorageClass"),
        ("k", {"x-oss-forbid-overwrite": "perhaps"}, "InvalidArgument"),
        ("k", {"x-oss-meta-a": "1\r\nx-oss-meta-b: 2"}, "InvalidArgument"),
        ("k", {"x-oss-traffic-limit": "1"}, "InvalidArgument"),
        ("k", {"x-oss-process": "image/resize,w_1"}, "NotImplemented"),
        ("k", {"success_action_redirect": "http://127.0.0.1:1/"}, "NotImplemented"),
        ("k", {"callback": "nonsense"}, "InvalidArgument"),
    ],
)
def test_bad_fields(poster, oss, key, also, code):
    """A value that OSS does not take is refused, and nothing is stored."""
    assert refusal(poster.post(key, also=also))[:2] == (400, code)
    assert oss.objects(BUCKET) == {}


@pytest.mark.parametrize(
    ("filename", "stored"),
    [("a.txt", "in/a.txt"), ("C:\\b c.txt", "in/b c.txt"), ("x/ü.txt", "in/ü.txt"),
     (None, "in/")],
)  # fmt: skip
def test_the_filename_in_the_key(poster, oss, filename, stored):
    """``${filename}`` is expanded after the policy has seen the key as it was sent."""
    condition = ["eq", "$key", "in/${filename}"]
    reply = poster.post(
        "in/${filename}", b"x", conditions=[condition], filename=filename
    )
    assert reply.status_code == 204
    assert oss.get(BUCKET, stored).data() == b"x"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (9, (400, "EntityTooSmall", "0006-00000004")),
        (10, None),
        (20, None),
        (21, (400, "EntityTooLarge", "0006-00000003")),
    ],
)
def test_the_size_range(poster, oss, size, expected):
    """The size of the file is in the range of the policy, both ends included."""
    ranges = [["content-length-range", 10, 100], ["content-length-range", 0, 20]]
    reply = poster.post("k", b"x" * size, conditions=[{"bucket": BUCKET}, *ranges])
    if expected is None:
        assert reply.status_code == 204
    else:
        assert refusal(reply) == expected
        assert oss.get(BUCKET, "k") is None


@pytest.mark.parametrize("answer", [b'{"a":1}', None])
def test_a_callback(make_client, answer):
    """200 with the callback server's answer; a failure is 203, the object stays."""
    told = []
    with Emulator(callback=lambda value: told.append(value) or answer) as oss:
        value = {"callbackUrl": "http://127.0.0.1/"}
        text = base64.b64encode(json.dumps(value).encode()).decode()
        also = {"callback": text, "x:a": "1", "success_action_status": "201"}
        reply = Poster(oss, make_client(oss)).post("k", also=also)
        assert told == [value]
        assert oss.get(BUCKET, "k").data() == b"x"
        if answer is None:
            assert refusal(reply)[:2] == (203, "CallbackFailed")
        else:
            assert (reply.status_code, reply.content) == (200, answer)


# How forms arrive.


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_wherever_the_network_cuts(peer, oss, fields, step):
    """Pieces of any length give the same bytes, also where a boundary nearly begins."""
    mark = f"\r\n--{BOUNDARY}".encode()
    data = mark[:-1] + b"\r" + mark[:3] + mark[:-2] + b"\r\n--" * 3 + mark[:-1]
    body = form(*fields_and_file(fields, data))
    kind = f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
    peer.ask("POST", "", length=len(body), extra=kind)
    for at in range(0, len(body), step):
        peer.socket.sendall(body[at : at + step])
    assert peer.reply()[0] == 204
    assert oss.get(BUCKET, "k").data() == data
    assert oss.requests[-1].bytes == len(data)


def test_what_is_around_the_file(poster, oss, fields):
    """A boundary may be quoted; fields after the file are ignored, also a key."""
    kind = {"Content-Type": f'multipart/form-data; boundary="{BOUNDARY}"'}
    late = part("x-oss-object-acl", "nonsense" * 20_000)
    body = form(*fields_and_file(fields, b"first"), late, end="--")
    assert poster.send(body, headers=kind).status_code == 204
    assert oss.get(BUCKET, "k").data() == b"first"
    key = fields.pop("key")
    body = form(*fields_and_file(fields, b"other"), part("key", key))
    assert refusal(poster.send(body))[:2] == (400, "InvalidArgument")
    assert oss.get(BUCKET, "k").data() == b"first"


ONE = form(part("key", "k"), part("file", "k"))


@pytest.mark.parametrize(
    ("kind", "body", "code"),
    [
        ("text/plain", ONE, "RequestIsNotMultiPartContent"),
        ("multipart/form-data", ONE, "RequestIsNotMultiPartContent"),
        ("multipart/mixed; boundary=1", ONE, "RequestIsNotMultiPartContent"),
        (None, b"x" * 100, "MalformedPOSTRequest"),
        (None, ONE.replace(b"form-data", b"attachment"), "MalformedPOSTRequest"),
        (None, ONE.replace(b"name=", b"title="), "MalformedPOSTRequest"),
        (None, ONE.replace(b"\r\n", b"\n"), "MalformedPOSTRequest"),
        (None, form(part("key", "k")), "MalformedPOSTRequest"),
        (None, form(), "MalformedPOSTRequest"),
        (None, form(part("key", "k"), part("KEY", "k")), "InvalidArgument"),
        (None, ONE.replace(b"\r\nk", b"\r\n\xff"), "InvalidArgument"),
        (None, form(part("file", "k", "Content-Transfer-Encoding: base64")),
         "NotImplemented"),
        (None, form(part("n", "v" * 3 * MIB)), "MaxPOSTPreDataLengthExceededError"),
    ],
    ids=range(13),
)  # fmt: skip
def test_bad_forms(poster, kind, body, code):
    """What is no form of OSS, or over its limits, is refused by its code."""
    reply = poster.send(body, headers=kind and {"Content-Type": kind})
    assert refusal(reply)[:2] == (400, code)


@pytest.mark.parametrize("end", ["", "-", "\r\n", "x-\r\n"])
def test_a_form_that_breaks_off(poster, oss, fields, end):
    """Without its closing boundary, or the end of its file, nothing is stored."""
    whole = form(*fields_and_file(fields, b"x" * 5000), end=end)
    for body in (whole, whole[:-500]):
        assert refusal(poster.send(body))[:2] == (400, "MalformedPOSTRequest")
    assert oss.get(BUCKET, "k") is None


def test_damaged_forms(poster, fields):
    """Any invalid form gets a refusal, never a server error."""
    chance = random.Random(7)  # noqa: S311 - no secret
    good = form(*fields_and_file(fields, b"hello", filename="a"))
    pieces = [b"\r\n", b"--", b"\xff", b'"', b";", b"*=utf-9'%FF'x", b"\0", b"\\"]
    seen = set()
    for _ in range(200):
        at = chance.randrange(len(good))
        cut = at + chance.choice((0, 1, 30))
        body = good[:at] + chance.choice(pieces) + good[cut:]
        seen.add(poster.send(body).status_code)
    assert seen <= {204, 400, 403}
    assert seen >= {400, 403}
