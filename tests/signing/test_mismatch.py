"""Explanations of a signature that does not match."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.model import SignedRequest
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.signing.mismatch import compare, unsent_headers
from fsspec_osspresigned.signing.presigning import PresignRequest

NOW = 1_767_225_600
KEY = Credentials("LTAI5tKey", "secret", "security-token-0123456789", NOW + 9e9)
WRONG = Credentials("LTAI5tKey", "another", "security-token-0123456789", NOW + 9e9)
BUCKET = "examplebucket"
VERSIONS = pytest.mark.parametrize("version", ["v1", "v4"])
STYLES = pytest.mark.parametrize("style", ["virtual", "path", "cname"])


def sign(
    version, *, key="dir/a.csv", headers=None, query=None, style="virtual", **more
):
    """Sign a PUT, and return it with its key."""
    host = "files.example.com" if style == "cname" else "oss-cn-hangzhou.aliyuncs.com"
    url = PresignRequest(
        KEY,
        Endpoint.parse(host, style=style),
        method=more.pop("method", "PUT"),
        bucket=BUCKET,
        key=key,
        headers=headers or {},
        query=query or {},
        version=version,
        region="cn-hangzhou",
        now=NOW,
        expires_in=60,
        additional_headers=tuple(more.pop("additional", ())),
    ).url()
    return SignedRequest(method="PUT", url=url, headers=headers or {}), key


def received(signed, *, style="virtual", **changed):
    """Return *signed* as it arrives, but for what is *changed*."""
    parts = urlsplit(signed.url.reveal())
    key = unquote(parts.path[1:], errors="surrogateescape")
    if style == "path":
        key = key.partition("/")[2]
    headers = {name.lower(): value for name, value in signed.headers.items()}
    facts = {"method": signed.method, "bucket": BUCKET, "key": key}
    facts |= {"query": parts.query, "headers": {"host": parts.netloc, **headers}}
    return Call(**facts | changed)


def document(arrived, key=WRONG):
    """Return the members of the refusal that a store with another secret answers."""
    refusal = verify(arrived, find=lambda _: key, now=NOW)
    assert refusal is not None
    assert refusal.code == "SignatureDoesNotMatch"
    return refusal.extras


@VERSIONS
@STYLES
@pytest.mark.parametrize(
    "key", ["a", "a/../b", "a//b", "a b+c%2F", "日本", "k?x", "q??"]
)
def test_what_arrived_as_it_was_sent_differs_in_nothing(version, style, key):
    """With another secret all that can be said is that nothing changed on the way."""
    headers = {"Content-Type": "text/csv", "x-oss-meta-a": "1  2"}
    query = {"partNumber": "1", "uploadId": "A&B"} if "?" not in key else {}
    signed, key = sign(version, key=key, headers=headers, query=query, style=style)
    found = compare(document(received(signed, style=style)), signed, key)
    assert (found.changed, found.spoilt) == ((), ())
    assert found.sent == "PUT Content-Type 'text/csv', x-oss-meta-a"


CHANGES = [
    ({"method": "POST"}, "the method was sent as 'PUT' and arrived as 'POST'"),
    (
        {"key": "dir/b.csv"},
        "the path was sent as '/dir/a.csv' and arrived as '/examplebucket/dir/b.csv'",
    ),
    (
        {"bucket": "other"},
        "the path was sent as '/dir/a.csv' and arrived as '/other/dir/a.csv'",
    ),
    ({"headers": {}}, "Content-Type was sent as 'text/csv' and did not arrive"),
    (
        {"headers": {"content-type": "text/csv"}},
        "x-oss-meta-a was sent and did not arrive",
    ),
    (
        {"headers": {"content-type": "text/html", "x-oss-meta-a": "1"}},
        "Content-Type was sent as 'text/csv' and arrived as 'text/html'",
    ),
    (
        {"headers": {"content-type": "text/csv", "x-oss-meta-a": "2"}},
        "x-oss-meta-a arrived with another value",
    ),
    (
        {"headers": {"content-type": "text/csv", "x-oss-meta-a": "1", "x-oss-b": "9"}},
        "x-oss-b arrived and was not sent",
    ),
    (
        {
            "headers": {
                "content-type": "text/csv",
                "x-oss-meta-a": "1",
                "content-md5": "abc",
            }
        },
        "Content-MD5 arrived as 'abc' and was not sent",
    ),
]


@VERSIONS
@pytest.mark.parametrize(("change", "line"), CHANGES)
def test_each_change_on_the_way_is_named(version, change, line):
    """Method, path, bucket and headers are compared piece by piece."""
    signed, key = sign(
        version, headers={"Content-Type": "text/csv", "x-oss-meta-a": "1"}
    )
    found = compare(document(received(signed, **change)), signed, key)
    assert line in found.changed
    assert found.spoilt == ()


@VERSIONS
def test_changed_queries_are_named_without_values(version):
    """Differing parameters are named, except those that V1 may not sign."""
    signed, key = sign(version, query={"uploadId": "U-secret", "x-oss-a": "1"})
    query = urlsplit(signed.url.reveal()).query
    other = query.replace("U-secret", "V-secret").replace("x-oss-a=1", "acl")
    found = compare(document(received(signed, query=other)), signed, key)
    lines = ["query parameter acl arrived and was not sent"]
    lines += ["query parameter uploadId arrived with another value"]
    if version == "v4":
        lines.append("query parameter x-oss-a was sent and did not arrive")
    assert found.changed == tuple(sorted(lines))
    assert "secret" not in str(found)


def test_an_object_of_the_store_itself():
    """A path that arrives without its bucket is a difference, not an accident."""
    signed, key = sign("v4")
    text = {"CanonicalRequest": "PUT\n/\nx=1\n\n\nUNSIGNED-PAYLOAD"}
    found = compare(text, signed, key)
    assert "the path was sent as '/dir/a.csv' and arrived as '/'" in found.changed


def test_additional_headers():
    """Headers that V4 lists are compared by value; those of the transport if possible."""
    headers = {"Content-Language": "de", "Content-Length": "3"}
    signed, key = sign(
        "v4",
        headers={**headers, "Host": "x", "User-Agent": "me"},
        additional=["content-language", "content-length", "host", "user-agent"],
    )
    host = urlsplit(signed.url.reveal()).netloc
    sent = SignedRequest(method="PUT", url=signed.url, headers=headers)
    same = {"content-language": "de", "content-length": "3"}
    same |= {"host": host, "user-agent": "me"}
    assert unsent_headers(sent) == ()
    found = compare(document(received(sent, headers=same)), sent, key)
    assert (found.changed, found.spoilt) == ((), ())
    assert found.sent == "PUT without Content-Type, content-language, content-length"
    other = same | {"host": "proxy", "content-language": "en"}
    found = compare(document(received(sent, headers=other)), sent, key)
    assert found.changed == (
        "content-language arrived with another value",
        "host arrived with another value",
    )
    bare = SignedRequest(method="PUT", url=signed.url)
    assert unsent_headers(bare) == ("content-language",)
    found = compare({}, bare, key)
    assert found.spoilt == ("content-language is signed by the URL and was not sent",)


def test_signature_that_was_cut():
    """The length of V1's signature is known."""
    signed, key = sign("v1")
    url = signed.url.reveal().replace("%3D", "=")
    (found,) = compare({}, SignedRequest(method="PUT", url=url[:-2]), key).spoilt
    assert "is incomplete" in found


def test_a_bare_plus_in_a_signature():
    """A V1 signature that was decoded holds a blank where it had a plus."""
    url = f"https://{BUCKET}.x.example/dir/a.csv?OSSAccessKeyId=A&Expires=1&Signature="
    key = "dir/a.csv"
    signed = SignedRequest(method="PUT", url=url + "ab+c7Qf2hXk4mTnW8rLs3uVyZ1q=")
    (found,) = compare({}, signed, key).spoilt
    assert "unescaped '+'" in found


def test_another_key_and_double_encoding():
    """The key that was asked is laid beside the one in the URL."""
    signed, key = sign("v4", key="a%2Fb")
    (line,) = compare({}, signed, "a/b").spoilt
    assert line == (
        "the key is 'a/b' and the path of the URL means '/a%2Fb', percent-encoded twice"
    )
    found = compare(document(received(signed)), signed, "c")
    assert (found.changed, found.spoilt) == ((), ())  # a map may say so
    assert compare(document(received(signed)), signed, "").spoilt == ()
    assert compare(document(received(signed)), signed, key).spoilt == ()


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"StringToSign": "PUT\n\n"},
        {"CanonicalRequest": "PUT\n/"},
    ],
)
@VERSIONS
def test_a_store_that_does_not_say(version, told):
    """Without the store's text nothing is claimed about the way."""
    signed, key = sign(version)
    found = compare(told, signed, key)
    assert found.changed == ()


S3 = (
    "https://s3.example/examplebucket/dir/a.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600"
    "&X-Amz-SignedHeaders=content-type%3Bhost&X-Amz-Signature=" + "0" * 64
)
S3_TEXT = (
    "PUT\n/examplebucket/dir/a.csv\n"
    "X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600"
    "&X-Amz-SignedHeaders=content-type%3Bhost\n"
    "content-type:{}\nhost:s3.example\n\ncontent-type;host\nUNSIGNED-PAYLOAD"
)


def test_s3():
    """S3's URL lists every signed header, so that a missing one is known for sure."""
    key = "dir/a.csv"
    headers = {"Content-Type": "text/csv"}
    signed = SignedRequest(method="PUT", url=S3, headers=headers)
    found = compare({"CanonicalRequest": S3_TEXT.format("text/csv")}, signed, key)
    assert (found.changed, found.spoilt) == ((), ())
    bare = SignedRequest(method="PUT", url=S3)
    found = compare({"CanonicalRequest": S3_TEXT.format("")}, bare, key)
    assert found.spoilt == ("Content-Type is signed by the URL and was not sent",)
    assert found.changed == ()
    more = SignedRequest(method="PUT", url=S3, headers={**headers, "x-amz-acl": "p"})
    found = compare({}, more, key)
    assert found.spoilt == ("x-amz-acl was sent and is not signed by the URL",)
    assert found.sent == "PUT Content-Type 'text/csv', x-amz-acl"


def test_s3_version_2():
    """The older signature of S3 is laid out as OSS's V1."""
    url = f"https://s3.example/{BUCKET}/a?AWSAccessKeyId=A&Expires=1&Signature=x"
    key = "a"
    signed = SignedRequest(method="PUT", url=url)
    text = f"PUT\n\n\n1\nx-amz-acl:private\n/{BUCKET}/a"
    told = {"StringToSign": text, "AWSAccessKeyId": "B"}
    assert compare(told, signed, key).changed == ("x-amz-acl arrived and was not sent",)


def test_what_is_shown_is_short_and_clean():
    """A value is hidden before it is cut, so that no half of a secret is left."""
    signed, key = sign("v4")
    text = f"PUT\n/{'x' * 70}SECRET{'y' * 99}\n\n\n\nUNSIGNED-PAYLOAD"
    found = compare(
        {"CanonicalRequest": text},
        signed,
        key,
        lambda t: t.replace("SECRET", "*"),
    )
    assert "SECRET"[:3] not in str(found)
    assert max(map(len, found.changed)) < 250


@given(st.text(max_size=300), st.sampled_from(["v1", "v4"]))
def test_any_text_of_a_store_is_compared(text, version):
    """Comparing never fails, for any text."""
    signed, key = sign(version)
    told = {"StringToSign": text, "CanonicalRequest": text}
    for more in ("", "PUT\n\n\n\n\n\n", "PUT\n\n\n1\nx-oss-a:"):
        told["CanonicalRequest"] = told["StringToSign"] = more + text
        found = compare(told, signed, key)
        assert all(line.isprintable() for line in found.changed)
