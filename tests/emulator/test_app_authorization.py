"""Signatures in the header Authorization."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.emulator.messages import Received, Refusal
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials
from tests.emulator.authorization import (
    BUCKET,
    OWNER,
    STS,
    sender,
)

both = pytest.mark.parametrize("version", ["v1", "v4"])
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
def store_options():
    """A permanent and a temporary key."""
    return {"credentials": [OWNER, STS]}


@pytest.fixture
def call(oss, make_client):
    """Send a request that is signed in its header."""
    return sender(oss, make_client(oss))


@both
@pytest.mark.parametrize("key", [OWNER, STS], ids=["key", "sts"])
def test_a_header_signature(call, oss, version, key):
    """It stores, reads and lists as a signature in a URL does."""
    headers = {"Content-Type": "text/csv", "x-oss-meta-a": "1"}
    options = {"version": version, "key": key}
    assert call("PUT", "k", data=b"abc", headers=headers, **options).status_code == 200
    assert oss.get(BUCKET, "k").headers["x-oss-meta-a"] == "1"
    assert call("GET", "k", **options).content == b"abc"
    assert b"<Key>k</Key>" in call("GET", query={"prefix": "k"}, **options).content


@both
def test_another_secret(call, oss, refusal, version):
    """A wrong signature is a 403 that says what the server has signed."""
    stranger = Credentials(OWNER.access_key_id, Secret("another"))
    reply = call("PUT", "k", version=version, key=stranger, data=b"x")
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")
    assert "<StringToSign>" in reply.text
    assert oss.get(BUCKET, "k") is None
    assert oss.requests[-1].bytes == 0


@both
def test_unknown_key_and_missing_token(call, refusal, version):
    """A key that nobody has, and a temporary one without its token, are unknown."""
    for key, ec in (
        (Credentials("LTAIstranger", Secret("x")), "0002-00000902"),
        (Credentials(STS.access_key_id, STS.access_key_secret), "0002-00000003"),
    ):
        reply = call("GET", "k", version=version, key=key)
        assert refusal(reply) == (403, "InvalidAccessKeyId", ec)


@both
def test_unsigned_additions(call, refusal, version):
    """What must be signed and was added, or changed, is a 403."""
    for also in ({"Content-Type": "a/b"}, {"x-oss-meta-a": "1"}):
        reply = call("PUT", "k", version=version, also=also)
        assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")


@both
@pytest.mark.parametrize("offset", [-960, 960])
def test_clocks_that_differ(call, refusal, version, offset):
    """Beyond fifteen minutes it is RequestTimeTooSkewed, which tells both times."""
    reply = call("GET", "k", version=version, now=time.time() + offset)
    assert refusal(reply) == (403, "RequestTimeTooSkewed", "0002-00000504")
    assert "<ServerTime>" in reply.text
    assert "<RequestTime>" in reply.text
    assert "<MaxAllowedSkewMilliseconds>900000<" in reply.text


def test_dates(call, refusal):
    """Each version knows x-oss-date; without a date that can be read it is a 403."""
    call("PUT", "k", data=b"x")
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    later = {"x-oss-date": date, "date": "never"}
    assert call("GET", "k", version="v1", headers=later).status_code == 200
    iso = {"x-oss-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())}
    assert call("GET", "k", version="v1", headers=iso).status_code == 200
    for version, headers in (
        ("v1", {"date": "never"}),
        ("v1", {"date": f"Mon, 01 Jan 2026 00:00:00 +{'9' * 30}"}),
        ("v4", {"x-oss-date": "never"}),
        ("v4", {"x-oss-date": "20200101T000000Z"}),
    ):
        reply = call("GET", "k", version=version, headers=headers)
        assert refusal(reply)[:2] == (403, "AccessDenied")


def test_version_4_takes_the_date_of_http(call, refusal):
    """Go's first SDK sends no x-oss-date: Date is signed as it is, and of the day signed for."""
    headers = {"date": formatdate(usegmt=True)}
    assert call("PUT", "k", data=b"x", headers=headers).status_code == 200
    headers = {"date": formatdate(time.time() - 86_400, usegmt=True)}
    assert refusal(call("GET", "k", headers=headers))[:2] == (403, "AccessDenied")


def test_a_region_that_is_not_here(call):
    """The message says where the wrong region stands."""
    reply = call("GET", "k", region="eu-central-1")
    assert "<Message>Invalid signing region in Authorization header.<" in reply.text


def test_token_beside_the_signature(call):
    """alibabacloud-oss-v2 sends the token of V1 under another name, not signed."""
    key = Credentials(STS.access_key_id, STS.access_key_secret)
    also = {"security-token": STS.security_token.reveal()}
    assert call("PUT", "k", version="v1", key=key, also=also).status_code == 200


def test_additional_headers(call, refusal):
    """They are signed if they are listed, and must be sent then."""
    headers = {"Cache-Control": "private"}
    signed = {"headers": headers, "additional": ("cache-control",)}
    assert call("PUT", "k", **signed).status_code == 200
    reply = call("PUT", "k", also={"cache-control": "public"}, **signed)
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")
    reply = call("PUT", "k", additional=("cache-control",))
    assert refusal(reply)[:2] == (400, "InvalidArgument")


@pytest.mark.parametrize(
    "options",
    [
        {"region": "eu-central-1"},
        {"headers": {"x-oss-content-sha256": "0" * 64}},
        {"also": {"authorization": "OSS4-HMAC-SHA256 Credential=a/b,Signature=c"}},
        {"also": {"authorization": "OSS4-HMAC-SHA256 "}},
        {"also": {"authorization": "OSS2 AccessKeyId:a,Signature:b"}},
        {"also": {"authorization": "Basic YTpi"}},
        {"query": {"Expires": "1"}},
    ],
)
def test_what_cannot_be_judged(call, refusal, options):
    """Another region, a hashed body, another scheme, two signatures: 400."""
    assert refusal(call("GET", "k", **options))[:2] == (400, "InvalidArgument")


@both
def test_faults_speak_of_the_key_that_signed(call, oss, refusal, version):
    """A refusal by name is worded for a header signature as well."""
    oss.faults.add(Fault(refuse="key-disabled"), Fault(refuse="signature"))
    reply = call("GET", "k", version=version)
    assert f"<OSSAccessKeyId>{OWNER.access_key_id}<" in reply.text
    reply = call("GET", "k", version=version)
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")
    oss.faults.add(Fault(refuse="expired"))
    ec = {"v1": "0002-00000069", "v4": "0002-00000236"}[version]
    assert refusal(call("GET", "k", version=version))[2] == ec


@given(
    authorization=TEXTS, date=TEXTS, oss_date=st.none() | TEXTS, token=st.none() | TEXTS
)
def test_any_text_is_refused(authorization, date, oss_date, token):
    """Whatever stands in the headers, the answer is a refusal and no accident."""
    headers = {"authorization": authorization, "date": date, "x-oss-date": oss_date,
               "x-oss-security-token": token, "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}  # fmt: skip
    given_headers = {
        name: value for name, value in headers.items() if value is not None
    }
    found = verify(
        Received(method="GET", bucket=BUCKET, key="k", headers=given_headers),
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
