"""Grants in every shape that is in use, and what is refused."""

from __future__ import annotations

import io
import json

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.signers.post_grant_parser import (
    MAX_GRANT,
    parse_grant,
    read_grant,
    root_of,
)
from tests.signers.grants import (
    BUCKET,
    HOST,
    KEY,
    NOW,
    PREFIX,
    STS,
    URL,
    document,
    flat_v1,
    flat_v4,
    signed_fields,
)


def revealed(grant) -> dict[str, str]:
    """Return the fields of a grant in plain text."""
    return {name: value.reveal() for name, value in grant.fields.items()}


def camel(name: str) -> str:
    """Return ``x_oss_date`` as ``xOssDate``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def problems(found: object) -> tuple[str, ...]:
    """Return what is wrong with a document."""
    with pytest.raises(ConfigurationError) as caught:
        read_grant(found)
    return caught.value.problems


V1 = flat_v1()
V4 = flat_v4()
SHAPES = {
    "own": document(),
    "own, V1": document(version="v1"),
    "V1": V1,
    "V1 by endpoint": {
        "OssAccessKeyId": V1["accessid"],
        "Policy": V1["policy"],
        "Signature": V1["signature"],
        "BucketName": BUCKET,
        "Endpoint": "oss-cn-hangzhou.aliyuncs.com",
        "TempFileKey": "in/x",
    },
    "V1 of Model Studio": {
        "request_id": "x",
        "data": {
            "oss_access_key_id": V1["accessid"],
            "policy": V1["policy"],
            "signature": V1["signature"],
            "upload_dir": "in",
            "upload_host": URL,
            "max_file_size_mb": 100,
        },
    },
    "V4": V4,
    "V4 of Java": {
        "version": V4["x_oss_signature_version"],
        **{n: v for n, v in V4.items() if n != "x_oss_signature_version"},
    },
    "V4 without a token": flat_v4(credentials=KEY),
    "V4 in camel case": {camel(n): v for n, v in V4.items()},
    "V4 with a URL to post to": {
        "postUrl": URL,
        "key": "in/x",
        **{camel(n): v for n, v in V4.items() if n not in ("host", "signature")},
        "xOssSignature": V4["signature"],
        "xOssExpires": 3600,
    },
    "V4 without what the policy says": {
        n: V4[n] for n in ("policy", "x_oss_credential", "signature", "host")
    },
    "V4 wrapped": {"code": 0, "msg": "success", "data": V4},
    "V4 below another name": {"code": 0, "data": {"sts": V4, "page": {"size": 1}}},
    "host without a scheme": {**V4, "host": HOST},
    "ali-oss": {"formData": signed_fields(PREFIX), "url": URL},
    "boto3": {"url": URL, "fields": {"key": "in/${filename}", **signed_fields(PREFIX)}},
    "names in any case": {
        "url": URL,
        "fields": {
            n.upper(): v for n, v in signed_fields(PREFIX, version="v1").items()
        },
    },
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_the_same_grant(name):
    """Each shape in use is read as the fields that its owner signed."""
    grant = read_grant(SHAPES[name])
    assert (grant.url, grant.bucket) == (URL, BUCKET)
    assert (grant.prefixes, grant.expires_at) == (("in/",), NOW + 3600)
    fields = revealed(grant)
    if grant.version == "v1":
        assert fields == signed_fields(PREFIX, version="v1")
    else:
        token = "x-oss-security-token" in fields
        assert fields == signed_fields(PREFIX, credentials=STS if token else KEY)
        assert grant.starts_at == NOW
    assert parse_grant(io.BytesIO(json.dumps(SHAPES[name]).encode())) == grant


def test_fields_of_the_object_are_kept():
    """Additional fields of the grant are sent, except those of the upload itself."""
    flat = {
        **flat_v1(),
        "callback": "e30=",
        "x_oss_object_acl": "private",
        "x-oss-meta-by": "me",
        "successActionStatus": 200,
        "uuid": "unknown",
    }
    fields = revealed(read_grant(flat))
    assert fields["callback"] == "e30="
    assert fields["x-oss-object-acl"] == "private"
    assert fields["x-oss-meta-by"] == "me"
    assert fields["success_action_status"] == "200"
    assert len(fields) == 7
    given = document()
    given["fields"] |= {"Key": "a", "file": "b", "success_action_redirect": "c"}
    given["fields"] |= {"Cache-Control": "", "x-oss-security-token": "", "none": None}
    found = revealed(read_grant(given))
    assert found == {**signed_fields(PREFIX), "Cache-Control": ""}


def test_pinned_fields_are_added():
    """A field with one permitted value is filled in from the policy."""
    given = document(
        PREFIX, {"x-oss-object-acl": "private"}, ["eq", "$content-type", "a/b"]
    )
    given["fields"].pop("x-oss-object-acl")
    given["fields"].pop("Content-Type")
    fields = revealed(read_grant(given))
    assert (fields["x-oss-object-acl"], fields["Content-Type"]) == ("private", "a/b")


def test_own_end_is_the_earlier_one():
    """An end beside the policy, as of a temporary key, counts if it comes first."""
    for said, wanted in (
        ("2026-01-01T00:10:00Z", NOW + 600),
        ("2030-01-01T00:00:00Z", NOW + 3600),
    ):
        assert read_grant({**document(), "expires": said}).expires_at == wanted


def test_description_holds_no_secret():
    """The text of a grant shows only facts, no secrets."""
    grant = read_grant(document(credentials=STS))
    shown = json.dumps(grant.describe()) + repr(grant)
    for value in revealed(grant).values():
        assert value not in shown or value == "OSS4-HMAC-SHA256" or len(value) == 16
    assert grant.describe()["temporary_key"] is True
    assert grant.describe()["expires"] == "2026-01-01T01:00:00Z"
    assert grant.describe()["signature"] == "v4"


def flat(**facts: object) -> dict:
    """Return the flat V4 shape with other members."""
    return {**V4, **facts}


BAD = {
    "a list": ([], "not a list"),
    "two of them": (
        {"data": {"first": V4, "second": V1}}, "it has no policy",
    ),
    "of S3, V4": (
        {"url": "https://b.s3.amazonaws.com/", "fields": {
            "key": "in/", "x-amz-algorithm": "AWS4-HMAC-SHA256", "x-amz-credential": "k",
            "x-amz-date": "20260101T000000Z", "policy": V4["policy"], "x-amz-signature": "0a",
        }},
        "it is a POST policy of S3: only those of OSS are supported",
    ),
    "of Google": (
        {"url": "https://storage.googleapis.com/b/", "fields": {
            "x-goog-algorithm": "GOOG4-RSA-SHA256", "policy": V4["policy"],
            "x-goog-signature": "0a",
        }},
        "it is a POST policy of Google Cloud Storage",
    ),
    "an error": ({"code": 401, "msg": "log in\n?Signature=abcdef"}, "it says: log in"),
    "fields as a list": ({**document(), "fields": [1]}, "its fields are a list"),
    "a bucket as a number": ({**document(), "bucket": 5}, "its bucket is a number"),
    "another bucket": ({**document(), "bucket": "other"}, f"its host is for '{BUCKET}'"),
    "another bucket in the policy": (document(bucket="other"), "is for the bucket other"),
    "a broken host": (flat(host="https://a b/"), "its host contains a blank"),
    "a region alone": (
        {**V4, **flat_v4(bucket=None), "host": "oss-cn-hangzhou.aliyuncs.com"},
        "names no bucket",
    ),
    "an unknown domain": (
        {**flat_v4(bucket=None), "host": "files.example.com"},
        "does not show the bucket: name it with allowed_hosts",
    ),
    "another region": (
        {**document(), "url": f"https://{BUCKET}.oss-cn-beijing.aliyuncs.com/"},
        "its host is for 'cn-beijing'",
    ),
    "a field of the signature that it lacks": (
        document(["starts-with", "$x-oss-signature", ""], version="v1"),
        "it lacks x-oss-signature",
    ),
    "a redirect": (
        document(PREFIX, ["starts-with", "$success_action_redirect", "https://"]),
        "asks for a redirect",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_grants_are_refused(name):
    """A grant that cannot work is refused when it is read, with the reason.

    ``grant_cases.json`` has more of it, for the upload page, too.
    """
    found, reason = BAD[name]
    assert any(reason in problem for problem in problems(found))


def test_all_problems_come_at_once():
    """Host, policy, signature and what they say of each other are named together."""
    given = {**flat_v4(bucket="other"), "x_oss_date": "20250101T000000Z"}
    reasons = ("is for the bucket other", "not those of one", "x-oss-date '2025")
    found = problems(given)
    assert len(found) == 3
    assert all(reason in one for reason, one in zip(reasons, found, strict=True))
    found = problems({**given, "host": f"{HOST}?a"})
    assert [one.split()[0] for one in found] == [
        "its",
        "x-oss-signature-version,",
        "x-oss-date",
    ]
    assert problems({"formData": {"policy": ""}}) == (
        "it has no policy",
        "it has no host or url to send the file to",
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<html>", "it is not JSON"),
        (b"", "it is not JSON"),
        (b"\xff", "it is not UTF-8"),
        (b"[[[[[[[[[[[]]]]]]]]]]]", "nested deeper"),
        (b'{"policy": "a", "policy": "b"}', "appears twice"),
        (b" " * (MAX_GRANT + 1), "the limit of a grant"),
    ],
)
def test_texts_that_are_no_grant(data, reason):
    """Invalid JSON and very long texts are refused."""
    with pytest.raises(ConfigurationError, match=reason):
        parse_grant(io.BytesIO(data))


HOSTS = {"files.example.com": BUCKET, "any.example.com:8443": None}


@pytest.mark.parametrize(
    ("host", "bucket", "root"),
    [
        (HOST, None, URL),
        (HOST.upper(), None, URL),
        (f"http://{HOST}:80//", None, f"http://{HOST}:80/"),
        ("oss-cn-hangzhou.aliyuncs.com", BUCKET, URL),
        (f"https://oss-cn-hangzhou.aliyuncs.com/{BUCKET}/", None, URL),
        ("http://127.0.0.1:9000", BUCKET, f"http://127.0.0.1:9000/{BUCKET}/"),
        (f"http://localhost:9000/{BUCKET}", None, f"http://localhost:9000/{BUCKET}/"),
        (f"http://{BUCKET}.localhost:9000", None, f"http://{BUCKET}.localhost:9000/"),
        ("files.example.com", None, "https://files.example.com/"),
        ("any.example.com:8443", BUCKET, "https://any.example.com:8443/"),
        ("other.example.com", BUCKET, "https://other.example.com/"),
    ],
)
def test_roots_of_hosts(host, bucket, root):
    """A host is given in many ways, and is one root of one bucket."""
    assert root_of(host, bucket, HOSTS) == (root, BUCKET)
