"""Signatures in URLs and in the header Authorization, and the clock that judges them.

``tests/signing/test_presigning.py`` has each reason to refuse a URL.
"""

from __future__ import annotations

import time
from email.utils import formatdate, parsedate_to_datetime

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.emulator.messages import Call, Refusal
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials
from tests.emulator.authorization import BUCKET, OWNER, STS, sender
from tests.emulator.conftest import refusal

both = pytest.mark.parametrize("version", ["v1", "v4"])
EXPIRED = {"v1": "0002-00000069", "v4": "0002-00000236"}
TEXTS = st.one_of(
    st.text(),
    st.lists(
        st.sampled_from(
            ["OSS", " ", ":", ",", "=", "/", ";", "a", "\udcff", OWNER.access_key_id,
             "OSS4-HMAC-SHA256", "Credential=", "Signature=", "AdditionalHeaders=",
             "20260101", "T000000Z", "cn-hangzhou", "/oss/aliyun_v4_request",
             "Thu, 01 Jan 2026 00:00:00 ", "GMT", "+99999999999999999999"]
        ),
        max_size=14,
    ).map("".join),
)  # fmt: skip


@pytest.fixture
def call(oss, make_client):
    """Send a request that is signed in its header."""
    return sender(oss, make_client(oss))


@both
@pytest.mark.parametrize("key", [OWNER, STS], ids=["key", "sts"])
def test_a_header_signature(call, oss, version, key):
    """It stores, reads and lists as a signature in a URL does, and is in no record."""
    headers = {"Content-Type": "text/csv", "x-oss-meta-a": "1"}
    options = {"version": version, "key": key}
    assert call("PUT", "k", data=b"abc", headers=headers, **options).status_code == 200
    assert oss.get(BUCKET, "k").headers["x-oss-meta-a"] == "1"
    shown = oss.requests[-1].request_headers
    assert not {"authorization", "x-oss-security-token"} & shown.keys()
    assert call("GET", "k", **options).content == b"abc"
    assert b"<Key>k</Key>" in call("GET", query={"prefix": "k"}, **options).content


DAY_BEFORE = formatdate(time.time() - 86_400, usegmt=True)
BOTH = ("v1", "v4")
# Versions, what is sent, and the reply.
REFUSED = [
    (BOTH, {"key": evolve(OWNER, access_key_secret=Secret("another"))},
     "403 SignatureDoesNotMatch"),
    (BOTH, {"key": Credentials("LTAIstranger", Secret("x"))},
     "403 InvalidAccessKeyId 0002-00000902"),
    (BOTH, {"key": Credentials(STS.access_key_id, STS.access_key_secret)},
     "403 InvalidAccessKeyId 0002-00000003"),
    (BOTH, {"also": {"Content-Type": "a/b"}}, "403 SignatureDoesNotMatch"),
    (BOTH, {"also": {"x-oss-meta-a": "1"}}, "403 SignatureDoesNotMatch"),
    (BOTH, {"ahead": -960}, "403 RequestTimeTooSkewed 0002-00000504"),
    (BOTH, {"ahead": 960}, "403 RequestTimeTooSkewed 0002-00000504"),
    (("v1",), {"headers": {"date": "never"}}, "403 AccessDenied"),
    (("v1",), {"headers": {"date": f"Mon, 01 Jan 2026 00:00:00 +{'9' * 30}"}},
     "403 AccessDenied"),
    (("v4",), {"headers": {"x-oss-date": "never"}}, "403 AccessDenied"),
    (("v4",), {"headers": {"x-oss-date": "20200101T000000Z"}}, "403 AccessDenied"),
    (("v4",), {"headers": {"date": DAY_BEFORE}}, "403 AccessDenied"),
    (("v4",), {"headers": {"Cache-Control": "private"}, "additional": ("cache-control",),
               "also": {"cache-control": "public"}}, "403 SignatureDoesNotMatch"),
    (("v4",), {"additional": ("cache-control",)}, "400 InvalidArgument"),
    (("v4",), {"region": "eu-central-1"}, "400 InvalidArgument 0002-00000226"),
    (("v4",), {"headers": {"x-oss-content-sha256": "0" * 64}}, "400 InvalidArgument"),
    (("v4",), {"also": {"authorization": "OSS4-HMAC-SHA256 Credential=a/b,Signature=c"}},
     "400 InvalidArgument 0002-00000224"),
    (("v4",), {"also": {"authorization": "OSS4-HMAC-SHA256 "}},
     "400 InvalidArgument 0002-00000217"),
    (("v4",), {"also": {"authorization": "OSS2 AccessKeyId:a,Signature:b"}},
     "400 InvalidArgument"),
    (("v4",), {"query": {"Expires": "1"}}, "400 InvalidArgument"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("version", "options", "wanted"),
    [(v, *row) for versions, *row in REFUSED for v in versions],
    ids=[f"{n}-{v}" for n, row in enumerate(REFUSED) for v in row[0]],
)
def test_refused_headers(call, oss, version, options, wanted):
    """What is unsigned, changed, old or of another key, region or scheme is refused."""
    options = dict(options)
    if ahead := options.pop("ahead", 0):
        options["now"] = time.time() + ahead
    status, code, ec = refusal(call("PUT", "k", version=version, data=b"x", **options))
    assert f"{status} {code} {ec}".startswith(wanted)
    assert oss.get(BUCKET, "k") is None
    assert oss.requests[-1].bytes == 0


@pytest.mark.parametrize(
    ("version", "headers"),
    [
        ("v1", {"x-oss-date": "%a, %d %b %Y %H:%M:%S GMT", "date": "never"}),
        ("v1", {"x-oss-date": "%Y%m%dT%H%M%SZ"}),
        # Go's first SDK sends no x-oss-date.
        ("v4", {"date": "%a, %d %b %Y %H:%M:%S GMT"}),
    ],
)
def test_dates(call, version, headers):
    """Each version knows x-oss-date, and the date of HTTP."""
    headers = {n: time.strftime(text, time.gmtime()) for n, text in headers.items()}
    assert call("PUT", "k", version=version, headers=headers).status_code == 200


def test_token_beside_the_signature(call):
    """alibabacloud-oss-v2 sends the token of V1 under another name, not signed."""
    key = Credentials(STS.access_key_id, STS.access_key_secret)
    also = {"security-token": STS.security_token.reveal()}
    assert call("PUT", "k", version="v1", key=key, also=also).status_code == 200


@given(
    authorization=TEXTS, date=TEXTS, oss_date=st.none() | TEXTS, token=st.none() | TEXTS
)
def test_any_text_is_refused(authorization, date, oss_date, token):
    """Any content of the headers gives a refusal, never a server error."""
    headers = {"authorization": authorization, "date": date, "x-oss-date": oss_date,
               "x-oss-security-token": token, "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}  # fmt: skip
    found = verify(
        Call(
            method="GET",
            bucket=BUCKET,
            key="k",
            headers={name: v for name, v in headers.items() if v is not None},
        ),
        find={OWNER.access_key_id: OWNER}.get,
        now=1_767_225_600,  # the date above
    )
    assert isinstance(found, Refusal)
    assert found.status in (400, 403)


def test_reading_without_a_signature(oss, call, make_client):
    """It is refused, whatever the ACL of the object."""
    call("PUT", "k", data=b"abc", headers={"x-oss-object-acl": "public-read"})
    session, url = make_client(oss).session, f"{oss.url}/{BUCKET}/k"
    assert session.get(url).status_code == 403
    assert session.head(url).status_code == 403


@both
def test_a_clock_that_is_ahead(make_client, version):
    """The server judges and dates its answers by its own clock, which tests may set."""
    with Emulator() as oss:
        oss.clock.offset = 3600
        client = make_client(oss)
        reply = client.call("PUT", "k", data=b"x", version=version)
        assert refusal(reply) == (403, "AccessDenied", EXPIRED[version])
        date = parsedate_to_datetime(reply.headers["Date"]).timestamp()
        assert date == pytest.approx(time.time() + 3600, abs=30)
        oss.clock.offset = 0
        client.put("k", version=version)
        oss.clock.jump(-3600)
        reply = client.call("PUT", "k", data=b"x", version=version)
        if version == "v4":
            assert refusal(reply) == (403, "AccessDenied", "0002-00000235")
        assert oss.clock.offset == -3600


def test_a_token_that_ends(make_client):
    """A key with a token is refused once the token has ended, URL alive or not."""
    with Emulator([evolve(STS, expires_at=time.time() + 30)]) as oss:
        client = make_client(oss)
        url = client.url("PUT", "k", expires_in=3600)
        assert client.send("PUT", url, data=b"x").status_code == 200
        oss.clock.jump(60)
        reply = client.send("PUT", url, data=b"x")
        assert refusal(reply)[:2] == (403, "SecurityTokenExpired")
