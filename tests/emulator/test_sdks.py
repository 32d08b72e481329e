"""The official SDKs as oracles: the same URLs as ours, and headers that are judged right.

Left out, each with its reason:

* oss2, blank keys: refused there, though the service takes them.
* oss2, keys with ``?`` in front: refused there.
* oss2, V1 with additional headers: a TypeError there; we say that V1 cannot.
* both SDKs, padded header values: signed with their blanks, which HTTP strips; we
  refuse such values.
* alibabacloud-oss-v2, ``x-oss-*`` parameters in V1: not signed there, though they are
  sub-resources.
* alibabacloud-oss-v2, sub-resources outside its short list in V1: the same.
* alibabacloud-oss-v2, additional headers: its Client drops them, so they are compared
  with its signer alone; it also drops empty ones.
* both SDKs, V1, keys that read like a key with sub-resources: signed there; refused here.
* both SDKs, V4 without a region: an empty region is signed there; refused here.
* both SDKs, padded or empty values of headers beside an Authorization: HTTP strips blanks.
"""

from __future__ import annotations

import datetime as dt
import string
import warnings
from types import SimpleNamespace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest
from fsspec_osspresigned.signing.endpoint import check_key

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the SDKs, old as they are
    WHY = "the official SDKs are not installed: pip install oss2 alibabacloud-oss-v2"
    oss2 = pytest.importorskip("oss2", reason=WHY)
    sdk = pytest.importorskip("alibabacloud_oss_v2", reason=WHY)
    from alibabacloud_oss_v2.signer import SignerV1, SignerV4
    from alibabacloud_oss_v2.types import HttpRequest, SigningContext
    from oss2.credentials import StaticCredentialsProvider

# oss2 asks for the time in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")

NOW = 1_772_323_199  # the last second of February 2026
ID, SECRET, TOKEN = "LTAI5tFakeKeyIdForTests", "FakeSecret01", "CAIS+fake/token=="
REGION, HOST, BUCKET = "cn-hangzhou", "oss-cn-hangzhou.aliyuncs.com", "examplebucket"
ENDPOINT = Endpoint.parse(HOST)

ODD = "ab0 /.%+~#?&=;:@!$'()*,-_\\\"<>|^`{}[]é目😀\t\n\x7f"
PIECES = [
    "",
    ".",
    "..",
    "a b",
    "%2F",
    "%",
    "+",
    "~",
    "#",
    "目",
    "é",
    "a+b",
    "%7E",
    "?x",
]
keys = st.one_of(
    st.text(ODD, min_size=1, max_size=30),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("/".join),
).filter(lambda key: check_key(key) is None)
keys_of_both = keys.filter(lambda key: key.strip() and not key.startswith("?"))
values = st.text([chr(c) for c in range(0x20, 0x7F)], max_size=20).map(str.strip)
metadata = st.dictionaries(
    st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=8).map(
        lambda name: f"X-Oss-Meta-{name}"
    ),
    values,
    max_size=3,
).filter(lambda found: len({name.lower() for name in found}) == len(found))
headers = st.builds(
    lambda meta, standard: {**meta, **standard},
    metadata,
    st.dictionaries(
        st.sampled_from(["Content-Type", "Content-MD5", "Cache-Control"]),
        values.filter(bool),
        max_size=2,
    ),
)
# Signed by both SDKs in V1.
COMMON = ["uploadId", "partNumber", "uploads", "response-content-type", "callback"]
SIGNED = ["uploadId", "partNumber", "uploads", "response-content-type", "acl"]
# Signed by neither in V1, by both in V4.
FREE = ["prefix", "max-parts", "unknown+%", "Zeta", "|bar", "a b"]
# Signed by oss2 in V1, and forgotten by alibabacloud-oss-v2.
FORGOTTEN = ["x-oss-process", "x-oss-traffic-limit", "x-oss-request-payer", "lifecycle"]


def queries(*names: str) -> st.SearchStrategy[dict[str, str]]:
    """Draw odd values for some of *names*."""
    return st.dictionaries(
        st.sampled_from(names), st.text(ODD, max_size=12), max_size=4
    )


versions = st.sampled_from(["v1", "v4"])
tokens = st.sampled_from([None, TOKEN])
methods = st.sampled_from(["PUT", "GET", "POST", "HEAD", "DELETE"])


def facts(url: str) -> tuple[str, str, str, list[tuple[str, str]]]:
    """Return what makes a URL: its text may differ in encoding and order."""
    parts = urlsplit(url)
    query = sorted(parse_qsl(parts.query, keep_blank_values=True))
    return parts.scheme, parts.netloc, unquote(parts.path), query


def ours(version: str, token: str | None, **request) -> str:
    """Sign with this package, without the cases that are ambiguous in V1."""
    credentials = Credentials(ID, Secret(SECRET), token)
    try:
        url = PresignRequest(
            credentials,
            ENDPOINT,
            version=version,
            region=REGION,
            bucket=BUCKET,
            **{"now": NOW, "expires_in": 3600, **request},
        ).url()
    except ConfigurationError as error:
        assume("in V1: use v4" not in str(error))
        raise
    return url.reveal()


class FrozenDate(dt.datetime):
    """A datetime whose now is always the same second."""

    @classmethod
    def utcnow(cls):
        """Return that second, naive as oss2 wants it."""
        moment = dt.datetime.fromtimestamp(NOW, dt.UTC)
        return moment.replace(tzinfo=None)


def oss2_url(version: str, token: str | None, *, additional=None, **request) -> str:
    """Sign with oss2, which changes its arguments: it gets copies."""
    auth = oss2.ProviderAuth if version == "v1" else oss2.ProviderAuthV4
    bucket = oss2.Bucket(
        auth(StaticCredentialsProvider(ID, SECRET, token)),
        f"https://{HOST}",
        BUCKET,
        region=REGION,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oss2.auth, "time", SimpleNamespace(time=lambda: NOW + 0.7))
        patch.setattr(oss2.auth, "datetime", FrozenDate)
        return bucket.sign_url(
            request["method"],
            request["key"],
            3600,
            headers=dict(request["headers"]),
            params=dict(request["query"]),
            slash_safe=True,
            additional_headers=additional,
        )


def raw(query):
    """Return a query as it is sent."""
    return "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}"
        if value
        else quote(name, safe="")
        for name, value in query.items()
    )


def v2_url(version: str, token: str | None, *, additional=None, **request) -> str:
    """Sign with the signer of alibabacloud-oss-v2, which takes the time."""
    query = raw(request["query"])
    address = ENDPOINT.url(BUCKET, request["key"])
    context = SigningContext(
        product="oss",
        region=REGION,
        bucket=BUCKET,
        key=request["key"],
        request=HttpRequest(
            request["method"],
            f"{address}?{query}" if query else address,
            headers=dict(request["headers"]),
        ),
        credentials=sdk.credentials.Credentials(ID, SECRET, token),
        signing_time=dt.datetime.fromtimestamp(NOW, dt.UTC),
        additional_headers=additional,
    )
    context.expiration_time = context.signing_time + dt.timedelta(hours=1)
    context.auth_method_query = True
    (SignerV1() if version == "v1" else SignerV4()).sign(context)
    return context.request.url


@given(
    version=versions,
    token=tokens,
    method=methods,
    key=keys_of_both,
    headers=headers,
    query=queries(*COMMON, *FREE, *FORGOTTEN),
)
def test_same_as_oss2(version, token, **request):
    """oss2 makes the same URL of every key, header and parameter, but for its bugs."""
    assert facts(ours(version, token, **request)) == facts(
        oss2_url(version, token, **request)
    )


@given(
    token=tokens,
    method=methods,
    key=keys,
    headers=headers,
    query=queries(*COMMON, *FREE, *FORGOTTEN),
)
def test_same_as_v2_sdk_in_v4(token, **request):
    """alibabacloud-oss-v2 makes the same V4 URL of everything."""
    assert facts(ours("v4", token, **request)) == facts(v2_url("v4", token, **request))


@given(
    token=tokens,
    method=methods,
    key=keys,
    headers=headers,
    query=queries(*COMMON, *FREE),
)
def test_same_as_v2_sdk_in_v1(token, **request):
    """alibabacloud-oss-v2 makes the same V1 URL where it signs all parameters."""
    assert facts(ours("v1", token, **request)) == facts(v2_url("v1", token, **request))


@given(
    method=methods,
    key=keys_of_both,
    values=st.lists(values.filter(bool), min_size=3, max_size=3),
    listed=st.sets(
        st.sampled_from(["Host", "Cache-Control", "Content-Length", "Content-Type"])
    ),
)
def test_additional_headers_as_in_both(method, key, values, listed):
    """Both SDKs' signers list and sign additional headers the same way."""
    names = ("Host", "Cache-Control", "Content-Length", "Content-Type")
    request = {
        "method": method,
        "key": key,
        "headers": dict(zip(names, [*values, "a/b"], strict=True)),
        "query": {},
    }
    made = facts(ours("v4", None, additional_headers=listed, **request))
    assert made == facts(oss2_url("v4", None, additional=listed, **request))
    assert made == facts(v2_url("v4", None, additional=listed, **request))


# Signatures in headers, as the SDKs send them.


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
    version=versions, token=tokens, method=methods, key=keys_of_both,
    headers=headers.map(lambda found: {n: v for n, v in found.items() if v}),
    query=queries(*SIGNED, *FREE),
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
@given(version=versions, token=tokens, query=queries(*SIGNED, *FREE))
def test_without_a_key(sign, bucket, version, token, query):
    """A request on a bucket and one on the service are accepted too."""
    sent = sign(version, token, "GET", bucket, "", {}, query)
    assert judge("GET", bucket, "", query, sent, token) is None
