"""Request records hold no secrets, and are few."""

from __future__ import annotations

import pytest
import requests

from fsspec_osspresigned.emulator import Emulator, app
from tests.emulator.authorization import (
    BUCKET,
    OWNER,
    STS,
    sender,
)

both = pytest.mark.parametrize("version", ["v1", "v4"])


@pytest.fixture
def store_options():
    """A permanent and a temporary key."""
    return {"credentials": [OWNER, STS]}


@pytest.fixture
def call(oss, make_client):
    """Send a request that is signed in its header."""
    return sender(oss, make_client(oss))


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


@both
def test_records_hold_no_field_that_signs(poster, oss, version):
    """A record shows the fields of a form, without its policy and signature."""
    poster.post("k", version=version, by=STS, also={"x-oss-meta-A": "1"})
    assert oss.requests[-1].fields == {"key": "k", "x-oss-meta-a": "1"}


def test_only_the_last_requests_are_kept(monkeypatch):
    """An emulator that runs for days does not fill the memory."""
    monkeypatch.setattr(app, "MAX_RECORDS", 3)
    with Emulator() as small:
        for number in range(5):
            requests.get(f"{small.url}/{BUCKET}/{number}", timeout=10)
        assert [record.key for record in small.requests] == ["2", "3", "4"]
