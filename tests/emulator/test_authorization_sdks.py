"""What the official SDKs sign in headers is judged right, whatever is in it.

Left out, each with its reason:

* both SDKs, padded or empty header values: HTTP strips blanks on the way.
* alibabacloud-oss-v2, V1: the parameters that it forgets to sign (see
  ``test_signing_sdks``).
"""

from __future__ import annotations

import datetime as dt
import string
import warnings
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials
from fsspec_osspresigned.signing.endpoint import check_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the SDKs, old as they are
    WHY = "the official SDKs are not installed: pip install oss2 alibabacloud-oss-v2"
    oss2 = pytest.importorskip("oss2", reason=WHY)
    sdk = pytest.importorskip("alibabacloud_oss_v2", reason=WHY)
    from alibabacloud_oss_v2.signer import SignerV1, SignerV4
    from alibabacloud_oss_v2.types import HttpRequest, SigningContext

# oss2 asks for the time in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")

ID, SECRET, TOKEN = "LTAI5tFakeKeyIdForTests", "FakeSecret01", "CAIS+fake/token=="
REGION, BUCKET = "cn-hangzhou", "examplebucket"
ODD = "ab0 /.%+~#?&=;:@!$'()*,-_\\\"<>|^`{}[]é目😀\t\n\x7f"
keys = st.text(ODD, min_size=1, max_size=30).filter(
    lambda key: check_key(key) is None and key.strip() and not key.startswith("?")
)
values = (
    st.text([chr(c) for c in range(0x20, 0x7F)], min_size=1, max_size=20)
    .map(str.strip)
    .filter(bool)
)
headers = st.dictionaries(
    st.one_of(
        st.sampled_from(["Content-Type", "Content-MD5", "Cache-Control"]),
        st.text(string.ascii_lowercase, min_size=1, max_size=6).map(
            "x-oss-meta-{}".format
        ),
    ),
    values,
    max_size=4,
)
COMMON = ["uploadId", "partNumber", "uploads", "response-content-type", "acl"]
FREE = ["prefix", "max-parts", "unknown+%", "a b"]
queries = st.dictionaries(
    st.sampled_from(COMMON + FREE), st.text(ODD, max_size=12), max_size=4
)
versions = st.sampled_from(["v1", "v4"])
tokens = st.sampled_from([None, TOKEN])
methods = st.sampled_from(["PUT", "GET", "POST", "HEAD", "DELETE"])


def by_oss2(version, token, method, bucket, key, headers, query):
    """Return the headers that oss2 sends."""
    provider = oss2.credentials.StaticCredentialsProvider(ID, SECRET, token)
    kind = oss2.ProviderAuth if version == "v1" else oss2.ProviderAuthV4
    request = oss2.http.Request(
        method, "http://x/", params=dict(query), headers=dict(headers),
        region=REGION, product="oss",
    )  # fmt: skip
    kind(provider)._sign_request(request, bucket, key)
    return request.headers


def by_oss_v2(version, token, method, bucket, key, headers, query):
    """Return the headers that alibabacloud-oss-v2 sends."""
    context = SigningContext(
        product="oss",
        region=REGION,
        bucket=bucket or None,
        key=key or None,
        request=HttpRequest(method, f"http://x/?{raw(query)}", headers=dict(headers)),
        credentials=sdk.credentials.Credentials(ID, SECRET, token),
        signing_time=dt.datetime.now(dt.UTC),
    )
    (SignerV1() if version == "v1" else SignerV4()).sign(context)
    return context.request.headers


def raw(query):
    """Return a query as it is sent."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        if value
        else quote(name, safe="")
        for name, value in query.items()
    )


def judge(method, bucket, key, query, headers, token):
    """Return the code of the refusal; None for a good signature."""
    known = {ID: Credentials(ID, Secret(SECRET), token)}
    refusal = verify(
        Call(
            method=method,
            bucket=bucket,
            key=key,
            query=raw(query),
            headers={name.lower(): value for name, value in headers.items()},
        ),
        find=known.get,
        now=dt.datetime.now(dt.UTC).timestamp(),
        regions={REGION},
    )
    return refusal and refusal.code


@pytest.mark.parametrize("sign", [by_oss2, by_oss_v2])
@given(
    version=versions, token=tokens, method=methods, key=keys, headers=headers,
    query=queries,
)  # fmt: skip
def test_signed_by_an_sdk(sign, version, token, method, key, headers, query):
    """A request on an object is accepted, and with any signed piece changed refused."""
    sent = sign(version, token, method, BUCKET, key, headers, query)
    assert judge(method, BUCKET, key, query, sent, token) is None
    wrong = "SignatureDoesNotMatch"
    assert judge(method, BUCKET, f"{key}x", query, sent, token) == wrong
    assert judge(method, "other-bucket", key, query, sent, token) == wrong
    assert judge("PATCH", BUCKET, key, query, sent, token) == wrong
    more = {**sent, "x-oss-added": "1"}
    assert judge(method, BUCKET, key, query, more, token) == wrong
    assert judge(method, BUCKET, key, {**query, "append": ""}, sent, token) == wrong
    good = sent["authorization"]
    end = "111" if good.endswith("000") else "000"
    forged = {**sent, "authorization": good[:-3] + end}
    assert judge(method, BUCKET, key, query, forged, token) == wrong


@pytest.mark.parametrize("sign", [by_oss2, by_oss_v2])
@pytest.mark.parametrize("bucket", ["", BUCKET])
@given(version=versions, token=tokens, query=queries)
def test_without_a_key(sign, bucket, version, token, query):
    """A request on a bucket and one on the service are accepted too."""
    sent = sign(version, token, "GET", bucket, "", {}, query)
    assert judge("GET", bucket, "", query, sent, token) is None
