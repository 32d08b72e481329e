"""Request records hold no secrets."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials
from tests.emulator.authorization import encoded, signed_headers

BUCKET = "examplebucket"
OWNER = Credentials("LTAIowner", Secret("secret-of-the-owner"))
STS = Credentials("STS.temporary", Secret("secret-of-sts"), Secret("token+of/sts=="))
both = pytest.mark.parametrize("version", ["v1", "v4"])


@pytest.fixture
def store_options():
    """A permanent and a temporary key."""
    return {"credentials": [OWNER, STS]}


@pytest.fixture
def call(oss, make_client):
    """Send a request that is signed in its header; *also* is sent and not signed."""
    client = make_client(oss)

    def send(
        method,
        name="",
        *,
        version="v4",
        key=OWNER,
        data=b"",
        query=None,
        also=None,
        **more,
    ):
        headers = signed_headers(
            key, version, method, bucket=BUCKET, name=name, query=query, **more
        )
        url = f"{oss.url}/{BUCKET}/{name}{encoded(query)}"
        return client.send(method, url, headers={**headers, **(also or {})}, data=data)

    return send


def test_records_hold_no_secrets(client, oss):
    """A record shows the call and its parameters, without what signs it."""
    client.put(
        "k", query={"x-oss-traffic-limit": "819200"}, headers={"x-oss-meta-a": "1"}
    )
    record = oss.requests[-1]
    assert (record.action, record.method, record.key) == ("PutObject", "PUT", "k")
    assert (record.status, record.code, record.ec, record.bytes) == (200, None, "", 1)
    assert record.path == f"/{BUCKET}/k"
    assert record.parameters["x-oss-traffic-limit"] == "819200"
    assert not {"x-oss-signature", "x-oss-credential"} & record.parameters.keys()
    assert record.request_headers["x-oss-meta-a"] == "1"
    assert record.request_id == record.response_headers["x-oss-request-id"]
    oss.clear()
    assert oss.requests == []


@both
def test_records_hold_no_header_that_signs(call, oss, version):
    """A record shows the headers, without Authorization and token."""
    call("PUT", "k", version=version, key=STS, headers={"x-oss-meta-a": "1"})
    headers = oss.requests[-1].request_headers
    assert headers["x-oss-meta-a"] == "1"
    assert not {"authorization", "x-oss-security-token"} & headers.keys()
