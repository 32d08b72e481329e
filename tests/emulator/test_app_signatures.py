"""Presigned URLs: every signature is verified, and CORS."""

from __future__ import annotations

import time
import warnings

import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, PresignRequest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the SDK, old as it is
    oss2 = pytest.importorskip("oss2", reason="the official SDK is not installed")

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


def test_a_header_beside_a_signed_query(client, refusal):
    """An Authorization header beside a signed query is refused."""
    headers = {"Authorization": "OSS4-HMAC-SHA256 x"}
    reply = client.call("GET", "k", unsigned=headers)
    assert refusal(reply)[:2] == (400, "InvalidArgument")


@both
def test_an_expired_url(client, refusal, version):
    """After its life a URL is AccessDenied with the documented EC."""
    reply = client.call("PUT", "k", version=version, now=time.time() - 100)
    ec = {"v1": "0002-00000069", "v4": "0002-00000236"}[version]
    assert refusal(reply) == (403, "AccessDenied", ec)


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


@both
@pytest.mark.parametrize(
    "extra", [{"Content-Type": "text/csv"}, {"x-oss-meta-a": "1"}, {"Content-MD5": "x"}]
)
def test_signed_kinds_of_headers_must_be_signed(client, refusal, version, extra):
    """Content-Type, Content-MD5 and x-oss-* that were not signed are 403."""
    reply = client.call("PUT", "k", version=version, unsigned=extra)
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")


@both
def test_a_signed_header_must_be_sent(client, refusal, version):
    """A signed Content-Type that does not come is 403."""
    url = client.url("PUT", "k", version=version, headers={"Content-Type": "text/csv"})
    assert refusal(client.send("PUT", url, data=b"x"))[:2] == (
        403,
        "SignatureDoesNotMatch",
    )


def test_a_locked_size(client, refusal):
    """A signed Content-Length locks the size: another one is 403."""
    options = {
        "headers": {"Content-Length": "3"},
        "additional_headers": ["content-length"],
    }
    url = client.url("PUT", "sized", **options)
    assert client.send("PUT", url, data=b"abc").status_code == 200
    reply = client.send("PUT", url, data=b"abcd")
    assert refusal(reply)[:2] == (403, "SignatureDoesNotMatch")


@both
def test_an_added_parameter(client, version):
    """A parameter added to a URL breaks V4 and not V1."""
    url = client.url("PUT", "k", version=version) + "&tracking=1"
    assert (
        client.send("PUT", url, data=b"x").status_code
        == {"v1": 200, "v4": 403}[version]
    )


def test_another_region(client, refusal):
    """A V4 signature must name the emulator's region; region=None takes any."""
    reply = client.call("PUT", "k", region="eu-central-1")
    assert refusal(reply) == (400, "InvalidArgument", "0002-00000226")


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


# oss2 asks for the time in a way that Python 3.12 deprecates.
@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
@pytest.mark.parametrize("kind", ["v1", "v4"])
@pytest.mark.parametrize("slash_safe", [True, False])
def test_urls_signed_by_oss2(oss, kind, slash_safe, make_client):
    """URLs of the official SDK store and read, and its client takes our answers."""
    key = oss.credentials
    pair = (key.access_key_id, key.access_key_secret.reveal())
    auth = oss2.Auth(*pair) if kind == "v1" else oss2.AuthV4(*pair)
    bucket = oss2.Bucket(auth, oss.url, BUCKET, region="cn-hangzhou")
    name = f"oss2/{kind} ü+~.bin"
    headers = {"Content-Type": "text/csv", "x-oss-meta-a": "1"}
    url = bucket.sign_url("PUT", name, 60, headers=dict(headers), slash_safe=slash_safe)
    result = bucket.put_object_with_url(url, b"data", headers=dict(headers))
    assert result.status == 200
    assert result.crc == oss.get(BUCKET, name).crc64
    url = bucket.sign_url("GET", name, 60, slash_safe=slash_safe)
    got = bucket.get_object_with_url(url)
    assert got.read() == b"data"
    assert got.headers["x-oss-meta-a"] == "1"
    with pytest.raises(oss2.exceptions.NoSuchKey):
        bucket.get_object_with_url(bucket.sign_url("GET", "absent", 60))
    # oss2 leaves its connections to the garbage collector.
    bucket.session.session.close()


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
