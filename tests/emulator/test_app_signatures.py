"""Presigned URLs: every signature is verified, and CORS.

``tests/signing/test_presigning.py`` has each reason to refuse one.
"""

from __future__ import annotations

import time

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, PresignRequest

BUCKET = "examplebucket"
both = pytest.mark.parametrize("version", ["v1", "v4"])


@pytest.fixture
def page() -> dict[str, str]:
    """What a browser says of the page that asks."""
    return {"Origin": "https://app.example.com"}


def test_anonymous_requests_are_refused(client, refusal, oss):
    """Without a signature there is no access."""
    reply = client.send("GET", f"{oss.url}/{BUCKET}/k")
    assert refusal(reply)[:2] == (403, "AccessDenied")
    assert oss.requests[-1].status == 403
    assert oss.requests[-1].code == "AccessDenied"


@both
def test_a_wrong_signature(client, refusal, version):
    """One changed character is SignatureDoesNotMatch, and nothing is stored."""
    url = client.url("PUT", "wrong", version=version)
    name = {"v1": "Signature=", "v4": "x-oss-signature="}[version]
    head, _, tail = url.partition(name)
    reply = client.send(
        "PUT", f"{head}{name}{'b' if tail[0] == 'a' else 'a'}{tail[1:]}", data=b"x"
    )
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")
    assert client.oss.get(BUCKET, "wrong") is None
    assert client.oss.requests[-1].bytes == 0


def test_any_region_and_several_keys(make_client, refusal):
    """Every given key may sign, with its token; others are InvalidAccessKeyId."""
    keys = [
        Credentials(access_key_id="one", access_key_secret=Secret("1")),
        Credentials(
            access_key_id="two",
            access_key_secret=Secret("2"),
            security_token=Secret("token"),
        ),
    ]
    stranger = Credentials(access_key_id="three", access_key_secret=Secret("3"))
    with Emulator(keys, region=None) as oss:
        client = make_client(oss)
        assert oss.credentials is keys[0]

        def send(key, version):
            url = PresignRequest(
                key, oss.endpoint, method="PUT", bucket=BUCKET, key="k", headers={},
                query={}, version=version, region="anywhere", now=time.time(),
                expires_in=60,
            ).url()  # fmt: skip
            return client.send("PUT", url.reveal(), data=b"x")

        for version in ("v1", "v4"):
            assert [send(key, version).status_code for key in keys] == [200, 200]
            reply = send(stranger, version)
            assert refusal(reply)[:2] == (403, "InvalidAccessKeyId")
        shown = str(oss.requests)
        assert "token" not in shown.replace("security-token", "")
        assert "ignature=" not in shown


def test_preflight(client, oss, page):
    """A browser's question needs no signature and allows what it asks for."""
    headers = {
        **page,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type, x-oss-meta-a",
    }
    reply = client.send("OPTIONS", f"{oss.url}/{BUCKET}/k", headers=headers)
    assert reply.status_code == 200
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert "PUT" in reply.headers["Access-Control-Allow-Methods"]
    assert reply.headers["Access-Control-Allow-Headers"] == "content-type, x-oss-meta-a"
    del headers["Access-Control-Request-Headers"]
    reply = client.send("OPTIONS", f"{oss.url}/{BUCKET}/k", headers=headers)
    assert "Access-Control-Allow-Headers" not in reply.headers


def test_replies_expose_what_uploads_need(client, page):
    """A page can read ETag and CRC-64, also of a refusal."""
    reply = client.put("k", unsigned=page)
    exposed = reply.headers["Access-Control-Expose-Headers"].lower().split(", ")
    assert {"etag", "x-oss-hash-crc64ecma", "x-oss-request-id"} <= set(exposed)
    reply = client.call("GET", "absent", unsigned=page)
    assert reply.headers["Access-Control-Allow-Origin"] == "*"


def test_foreign_origins(make_client, refusal, page):
    """Only the listed origins are allowed; a preflight without its headers is not."""
    with Emulator(origins=["https://app.example.com"]) as oss:
        client = make_client(oss)
        url = f"{oss.url}/{BUCKET}/k"
        wanted = {"Access-Control-Request-Method": "PUT"}
        allow = "Access-Control-Allow-Origin"
        reply = client.send("OPTIONS", url, headers={**page, **wanted})
        assert reply.headers[allow] == page["Origin"]
        other = {"Origin": "https://evil.example.com"}
        for headers in ({**other, **wanted}, page, wanted):
            reply = client.send("OPTIONS", url, headers=headers)
            assert refusal(reply)[:2] == (403, "AccessForbidden")
        assert allow not in client.put("k", unsigned=other).headers
