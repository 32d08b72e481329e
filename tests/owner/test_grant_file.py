"""Grants that owners make: what their policies allow, and what is never signed."""

from __future__ import annotations

import json

import pytest

from fsspec_osspresigned.errors import ConfigurationError, SignerError
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.signing.post_policy import PostPolicy
from fsspec_osspresigned.units import GIB, MIB
from tests.form_signer import signature_refusal

NOW = 1_795_773_600.5  # 2026-11-27T10:00:00Z
KEY = Credentials("LTAIfakeid", Secret("fakesecret"))
STS = Credentials("STS.fake", Secret("fakesecret"), Secret("fake-token-1234567"))
OSS = Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com")


def made(credentials=KEY, endpoint=OSS, version="v4", **terms):
    """Return a grant for ``examplebucket/in/`` that begins at NOW."""
    given = {"bucket": "examplebucket", "prefix": "in/", **terms}
    wanted = GrantTerms(**given)
    return sign_grant(
        credentials, endpoint, wanted, version=version, region="cn-hangzhou", now=NOW
    )


def refusals(grant, key="in/a", size=1, bucket="examplebucket", now=NOW, **fields):
    """Return why a form of *grant* would be refused."""
    given = {name: value.reveal() for name, value in grant.fields.items()}
    changed = {name.replace("_", "-"): value for name, value in fields.items()}
    form = {**given, "key": key, **changed}
    policy = PostPolicy.parse(grant.fields["policy"])
    refusal = signature_refusal(form, KEY, NOW)
    assert refusal is None
    return [one.text for one in policy.judge(form, bucket=bucket, size=size, now=now)]


def test_file_has_the_documented_shape():
    """Version, address, place, end, and every field of the form but the key."""
    document = json.loads(made(expires_in=7200).text())
    fields = document.pop("fields")
    assert document == {
        "version": 1,
        "url": "https://examplebucket.oss-cn-hangzhou.aliyuncs.com/",
        "bucket": "examplebucket",
        "prefix": "in/",
        "expires": "2026-11-27T12:00:00Z",
    }
    assert [*fields] == [
        "success_action_status",
        "x-oss-object-acl",
        "policy",
        "x-oss-signature-version",
        "x-oss-credential",
        "x-oss-date",
        "x-oss-signature",
    ]
    assert fields["success_action_status"] == "200"
    assert fields["x-oss-object-acl"] == "default"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"key": "out/a"}, "key 'out/a'"),
        ({"key": "in"}, "key 'in'"),
        ({"bucket": "another-bucket"}, "bucket"),
        ({"size": 5 * GIB + 1}, "size"),
        ({"now": NOW + 3600}, "expired"),
        ({"x_oss_object_acl": "public-read"}, "x-oss-object-acl"),
    ],
)
def test_terms_are_kept(form, said):
    """Bucket, prefix, size, end and ACL are bound by the policy."""
    assert refusals(made()) == []
    (found,) = refusals(made(), **form)
    assert said in found


def test_wishes_of_the_owner_are_bound():
    """Size, overwriting, ACL, storage class and types go into the policy and the fields."""
    grant = made(
        sizes=(1, MIB),
        overwrite=False,
        acl="private",
        content_types=["image/png"],
        fields={"x-oss-storage-class": "IA"},
    )
    assert refusals(grant) == []
    given = {name: value.reveal() for name, value in grant.fields.items()}
    assert given["x-oss-forbid-overwrite"] == "true"
    assert given["x-oss-object-acl"] == "private"
    assert given["x-oss-content-type"] == "image/png"
    assert given["x-oss-storage-class"] == "IA"
    assert refusals(grant, size=0)
    assert refusals(grant, x_oss_forbid_overwrite="false")
    assert refusals(grant, x_oss_content_type="text/html")
    assert refusals(grant, x_oss_storage_class="Archive")


def test_temporary_key_ends_its_grant():
    """No grant outlives the key; one of an ended key is not made."""
    grant = made(
        Credentials("STS.f", STS.access_key_secret, STS.security_token, NOW + 60.9)
    )
    assert grant.expires_at == int(NOW + 60.9)
    assert "x-oss-security-token" in grant.fields
    ended = Credentials("STS.f", STS.access_key_secret, STS.security_token, NOW)
    with pytest.raises(SignerError, match="has expired"):
        made(ended)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ({"bucket": "No"}, "not a valid name"),
        ({"prefix": "in"}, "end it with a slash"),
        ({"prefix": "/in/"}, "prefix '/in/' starts with '/'"),
        ({"prefix": "in/${filename}/"}, "which OSS would replace"),
        ({"expires_in": 604_801}, "OSS allows 7 days"),
        ({"expires_in": 0}, "would be valid for 0 s"),
        ({"sizes": (2, 1)}, "sizes from 2 to 1"),
        ({"content_types": ["image/", "text/csv"]}, "must be the only content type"),
    ],
)
def test_what_should_not_be_signed(terms, said):
    """A mistake is reported before anything is signed."""
    with pytest.raises(ConfigurationError, match=said.replace("$", r"\$")):
        made(**terms)
