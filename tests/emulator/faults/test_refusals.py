"""Refusals on demand."""

from __future__ import annotations

import time

import pytest

from fsspec_osspresigned.client.error_codes import from_reply
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.emulator.faults import REASONS
from fsspec_osspresigned.errors import EndpointForbiddenError
from fsspec_osspresigned.model import Action, Operation, Reply
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, Endpoint

BUCKET = "examplebucket"
both = pytest.mark.parametrize("version", ["v1", "v4"])
ALIKE = {
    "denied": ("AccessDenied", "", set()),
    "key-disabled": ("InvalidAccessKeyId", "0002-00000903", {"OSSAccessKeyId"}),
    "key-expired": ("InvalidAccessKeyId", "0002-00000002", {"OSSAccessKeyId"}),
    "key-unknown": ("InvalidAccessKeyId", "0002-00000902", {"OSSAccessKeyId"}),
    "not-yet": ("AccessDenied", "0002-00000235", {"ServerTime"}),
    "public-endpoint": ("PublicEndpointForbidden", "0048-00000401", set()),
    "skewed": ("RequestTimeTooSkewed", "0002-00000504",
               {"MaxAllowedSkewMilliseconds", "RequestTime", "ServerTime"}),
    "token-expired": ("SecurityTokenExpired", "0002-00000007", set()),
    "wrong-region": ("AccessDenied", "0003-00001403", {"Bucket", "Endpoint"}),
}  # fmt: skip
OWN = {
    "expired": {"v1": "0002-00000069", "v4": "0002-00000236"},
    "signature": {"v1": "0002-00000040", "v4": "0002-00000201"},
}


@pytest.fixture(autouse=True)
def without_faults(oss):
    """Leave no fault for the next test."""
    oss.faults.clear()
    yield
    oss.faults.clear()


@both
@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_refusal_for_a_reason(client, oss, refusal, tree, version, reason):
    """Each reason has its code, EC and elements; nothing is stored."""
    oss.faults.add(Fault(refuse=reason))
    reply = client.call("PUT", f"refused-{reason}", data=b"x", version=version)
    elements = {child.tag for child in tree(reply)}
    if reason in ALIKE:
        code, ec, wanted = ALIKE[reason]
    else:
        code = "AccessDenied" if reason == "expired" else "SignatureDoesNotMatch"
        ec, wanted = OWN[reason][version], {"Expires", "ServerTime"}
        if reason == "signature":
            wanted = {"SignatureProvided", "StringToSign", "StringToSignBytes"}
            wanted |= {"CanonicalRequest"} if version == "v4" else set()
    is_closed = reason == "public-endpoint"
    assert refusal(reply) == (400 if is_closed else 403, code, ec)
    assert wanted <= elements
    assert "Date" in reply.headers
    assert (tree(reply).findtext("RecommendDoc") or "").endswith(ec)
    assert oss.get(BUCKET, f"refused-{reason}") is None
    if reason.startswith("key-"):
        assert tree(reply).findtext("OSSAccessKeyId") == oss.credentials.access_key_id
    error = from_reply(
        Operation(action=Action.PutObject, bucket="b", key="k"),
        Reply(
            status=reply.status_code, headers=dict(reply.headers), body=reply.content
        ),
    )
    assert isinstance(error, EndpointForbiddenError if is_closed else PermissionError)


def test_a_reason_may_say_more(client, oss, refusal, tree):
    """Message, EC and elements can be added to a reason, and it may act first."""
    oss.faults.add(
        Fault(refuse="denied", message="by a policy", ec="0003-9", acts=True,
              extras={"PolicyType": "Bucket"})
    )  # fmt: skip
    reply = client.call("PUT", "told", data=b"x")
    assert refusal(reply) == (403, "AccessDenied", "0003-9")
    assert tree(reply).findtext("Message") == "by a policy"
    assert tree(reply).findtext("PolicyType") == "Bucket"
    assert oss.get(BUCKET, "told") is not None


def test_a_region_is_never_its_own_other(make_client, tree):
    """Wherever the emulator stands, the wrong region names another one."""
    fault = Fault(refuse="wrong-region")
    with Emulator(region="eu-central-1", faults=[fault]) as oss:
        reply = make_client(oss).call("PUT", "k", region="eu-central-1")
        assert tree(reply).findtext("Endpoint") == "oss-cn-hangzhou.aliyuncs.com"


@pytest.mark.parametrize(
    ("host", "is_right"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", True),
        ("oss-cn-hangzhou-internal.aliyuncs.com:80", True),
        ("oss-accelerate.aliyuncs.com", True),
        ("oss-cn-beijing.aliyuncs.com", False),
        ("eu-central-1.oss.aliyuncs.com", False),
    ],
)
def test_the_endpoint_of_another_region(client, refusal, tree, host, is_right):
    """A host name of another region is refused with the endpoint that is right."""
    endpoint = Endpoint.parse(client.oss.url, style="cname")
    url = client.url("PUT", "k", endpoint=endpoint, version="v1")
    headers = {"Host": f"{BUCKET}.{host}"}
    reply = client.send("PUT", url, headers=headers, data=b"x")
    if is_right:
        assert reply.status_code == 200
    else:
        assert refusal(reply) == (403, "AccessDenied", "0003-00001403")
        assert tree(reply).findtext("Endpoint") == "oss-cn-hangzhou.aliyuncs.com"


@both
def test_a_url_that_expires_midway(make_client, refusal, version):
    """The clock jumps at the third part: it and what follows are expired."""
    with Emulator() as oss:
        client = make_client(oss)
        upload = client.initiate("long")
        oss.faults.add(Fault(action="UploadPart", part_number=3, clock_jump=120))
        parts = [
            client.part("long", upload, number, b"x", version=version)
            for number in (1, 2, 3, 4)
        ]
        assert [part.status_code for part in parts] == [200, 200, 403, 403]
        assert refusal(parts[2])[2] == OWN["expired"][version]
        fresh = client.part("long", upload, 3, b"x", now=oss.clock(), version=version)
        assert fresh.status_code == 200
        assert sorted(oss.uploads(BUCKET)[0].parts) == [1, 2, 3]


def test_a_token_that_ends(make_client, refusal):
    """A key with a token is refused once the token has ended, URL alive or not."""
    key = Credentials(
        access_key_id="STS.one",
        access_key_secret=Secret("1"),
        security_token=Secret("token"),
        expires_at=time.time() + 30,
    )
    with Emulator([key]) as oss:
        client = make_client(oss)
        url = client.url("PUT", "k", expires_in=3600)
        assert client.send("PUT", url, data=b"x").status_code == 200
        oss.clock.jump(60)
        reply = client.send("PUT", url, data=b"x")
        assert refusal(reply)[:2] == (403, "SecurityTokenExpired")
