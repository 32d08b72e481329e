"""Reasons of refusals, from the error documents of OSS and of S3."""

from __future__ import annotations

import json
import pickle
from email.utils import formatdate
from urllib.parse import quote_plus, urlencode
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned import errors
from fsspec_osspresigned.client.error_codes import MEANINGS, from_reply
from fsspec_osspresigned.emulator.faults import Fault
from fsspec_osspresigned.errors import RefusalReason
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import (
    Action,
    Operation,
    Reply,
    SignedForm,
    SignedRequest,
)
from fsspec_osspresigned.parsing import clock_offset
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest
from fsspec_osspresigned.signing.post_policy import form_values

NOW = 1_767_225_600  # 2026-01-01T00:00:00Z
PUT = Operation(action=Action.PutObject, bucket="examplebucket", key="dir/a.csv")
TOKEN = "CAISowJ1q6Ft5B2yfSjIr5bgIOz31blR9oWmWBfCs3kDR"
S3_URL = (
    "https://examplebucket.s3.example/dir/a.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    "&X-Amz-Credential=AKID%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    "&X-Amz-Date=20260101T000000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host"
    f"&X-Amz-Signature={'0' * 64}"
)


def sign(version="v4", *, at=NOW, life=3600, token=None, headers=None, **more):
    """Sign a PUT of the object at *at*."""
    headers = headers or {}
    url = PresignRequest(
        Credentials("LTAI5tKey", "secret", token),
        Endpoint.parse("oss-cn-hangzhou.aliyuncs.com"),
        method="PUT",
        bucket=PUT.bucket,
        key=PUT.key,
        headers=headers,
        version=version,
        region="cn-hangzhou",
        now=at,
        expires_in=life,
        **more,
    ).url()
    return SignedRequest(method="PUT", url=url, headers=headers)


def refused(code="", *, ec="", status=403, date=None, message="no", **members):
    """Return the reply of a store."""
    rows = {"Code": code, "Message": message, "RequestId": "R-1", "EC": ec, **members}
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in rows.items() if text)
    headers = {} if date is None else {"date": formatdate(date, usegmt=True)}
    body = f"<?xml version='1.0'?><Error>{inner}</Error>".encode()
    return Reply(status=status, headers=headers, body=body)


def error(reply, signed=None, *, now=NOW + 60.0, offset=None, **more):
    """Return the exception, as the client makes it."""
    signed = signed or sign()
    offset = clock_offset(reply.headers, lambda: now, offset)
    return from_reply(PUT, reply, signed, now=lambda: now, offset=offset, **more)


def case(code, reason, words, *, ec="", status=403, **members):
    """Return a refusal, and what must be said of it."""
    return code, ec, status, members, reason, words


CASES = [
    case(
        "AccessDenied", RefusalReason.EXPIRED, "ask for a new one", ec="0002-00000069"
    ),
    case(
        "AccessDenied", RefusalReason.EXPIRED, "ask for a new one", ec="0002-00000236"
    ),
    case(
        "AccessDenied", RefusalReason.NOT_YET_VALID, "not valid yet", ec="0002-00000235"
    ),
    case(
        "SecurityTokenExpired",
        RefusalReason.TOKEN_ENDED,
        "STS token that signed the URL",
    ),
    case("AccessDenied", RefusalReason.TOKEN_ENDED, "has expired", ec="0002-00000007"),
    case("InvalidSecurityToken", RefusalReason.TOKEN_INVALID, "withdrawn"),
    case(
        "AccessKeyIdAndSecurityTokenNotMatch",
        RefusalReason.TOKEN_INVALID,
        "does not belong to its key",
    ),
    case(
        "RequestTimeTooSkewed",
        RefusalReason.CLOCK_SKEW,
        "the request is dated 1740 s ahead of the store's clock: set the clock",
        ec="0002-00000504",
        RequestTime="Thu, 01 Jan 2026 00:30:00 GMT",
        ServerTime="2026-01-01T00:01:00.000Z",
    ),
    case("RequestTimeTooSkewed", RefusalReason.CLOCK_SKEW, "is not the store's"),
    case(
        "RequestTimeTooSkewed",
        RefusalReason.CLOCK_SKEW,
        "the request is dated 1740 s ahead of the store's clock",
        RequestTime="20260101T003000Z",
        ServerTime="2026-01-01T00:01:00Z",
    ),
    case("ExpiredRequest", RefusalReason.EXPIRED, "ask for a new one"),
    case(
        "AccessDenied",
        RefusalReason.WRONG_REGION,
        "another region (oss-cn-x.aliyuncs.com)",
        ec="0003-00001403",
        Bucket="b",
        Endpoint="oss-cn-x.aliyuncs.com",
    ),
    case(
        "AccessDenied",
        RefusalReason.WRONG_REGION,
        "in another region: tell the owner, who must sign",
        Endpoint="evil host?",
    ),
    case(
        "InvalidArgument",
        RefusalReason.WRONG_REGION,
        "signed for the region cn-hangzhou, the store is in another",
        ec="0002-00000226",
        status=400,
    ),
    case(
        "AccessDenied", RefusalReason.DENIED, "lacks the permission", ec="0003-00000001"
    ),
    case("UserDisable", RefusalReason.ACCOUNT_DISABLED, "bill is unpaid"),
    case(
        "PermanentRedirect",
        RefusalReason.WRONG_REGION,
        "another region (oss-cn-x.aliyuncs.com)",
        Endpoint="oss-cn-x.aliyuncs.com",
    ),
    case(
        "InvalidAccessKeyId",
        RefusalReason.KEY_DISABLED,
        "is disabled",
        ec="0002-00000903",
    ),
    case(
        "InvalidAccessKeyId",
        RefusalReason.KEY_DISABLED,
        "from this address",
        ec="0002-00000904",
    ),
    case(
        "InvalidAccessKeyId",
        RefusalReason.UNKNOWN_KEY,
        "does not know the signing key",
        ec="0002-00000902",
        OSSAccessKeyId="LTAI5tKey",
    ),
    case(
        "SignatureDoesNotMatch",
        RefusalReason.MISMATCH,
        "the URL was changed or cut, or it is signed for another method",
    ),
    # S3
    case("ExpiredToken", RefusalReason.TOKEN_ENDED, "has expired", status=400),
    case("InvalidToken", RefusalReason.TOKEN_INVALID, "withdrawn", status=400),
    case(
        "AuthorizationHeaderMalformed",
        RefusalReason.WRONG_REGION,
        "the store is in another (eu-west-1)",
        status=400,
        Region="eu-west-1",
    ),
]


@pytest.mark.parametrize(("code", "ec", "status", "members", "reason", "words"), CASES)
def test_each_case(code, ec, status, members, reason, words):
    """EC decides before the code, and each case says what to do."""
    found = error(refused(code, ec=ec, status=status, **members))
    assert found.reason is reason
    assert words in found.message
    assert f"HTTP {status} {code}" in found.message
    assert found.explanation.remedy in found.message
    assert found.explanation.cause in str(found.explanation)
    again = pickle.loads(pickle.dumps(found))
    assert again.explanation == found.explanation
    assert again.reason is reason
    assert "LTAI5tKey" not in str(found) + repr(found.explanation)


@pytest.mark.parametrize("code", [*MEANINGS, ""])
def test_program_that_signs_with_keys_has_no_owner_to_tell(code):
    """The remedy never refers to an owner."""
    ec = code if code[:1].isdigit() else ""
    for status in (307, 400, 403, 503):
        reply = refused("" if ec else code, ec=ec, status=status)
        assert "owner" not in error(reply, by_keys=True).message


@pytest.mark.parametrize(
    ("code", "members", "words"),
    [
        ("SignatureDoesNotMatch", {}, "correct OSS_ACCESS_KEY_SECRET"),
        ("InvalidAccessKeyId", {}, "correct OSS_ACCESS_KEY_ID; a temporary key"),
        ("NoSuchBucket", {}, "the bucket does not exist: check its name, and region="),
        (
            "AccessDenied",
            {"Endpoint": "oss-eu-central-1.aliyuncs.com"},
            "set region= or OSS_REGION to eu-central-1",
        ),
        (
            "AuthorizationHeaderMalformed",
            {"Region": "eu-west-1"},
            "set region= or OSS_REGION to eu-west-1",
        ),
        ("PermanentRedirect", {}, "OSS_REGION to that of the bucket"),
        ("AccessDenied", {}, "lacks the permission: grant it in a RAM or bucket"),
        ("SecurityTokenExpired", {}, "OSS_ACCESS_KEY_SECRET and OSS_SESSION_TOKEN to"),
    ],
)
def test_what_is_wrong_with_keys_is_named_with_its_variable(code, members, words):
    """The message names the wrong secret, key ID, region or bucket, and nothing else."""
    found = error(refused(code, **members), by_keys=True)
    assert words in found.message
    assert "Content-Type" not in found.message


@pytest.mark.parametrize(
    ("code", "status"), [("", 403), ("Odd", 403), ("InvalidArgument", 400), ("", 500)]
)
def test_what_is_not_known_is_not_explained(code, status):
    """Without an explanation the error stays what it was."""
    found = error(refused(code, status=status))
    assert found.explanation is None
    assert found.reason is None
    assert type(found) is type(from_reply(PUT, refused(code, status=status)))


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize(
    ("here", "store", "reason", "words"),
    [
        (3670, 3670, RefusalReason.EXPIRED, "has expired 1 min 10 s ago: ask"),
        (3610, 3600, RefusalReason.EXPIRED, "the URL has expired: ask"),
        (10900, 10900, RefusalReason.EXPIRED, "has expired 2 h 1 min ago: ask"),
        (260_000, 260_000, RefusalReason.EXPIRED, "has expired 2 d 23 h ago: ask"),
        (
            60,
            7260,
            RefusalReason.CLOCK_SKEW,
            "the clock of this machine is 7200 s behind the store's: set the clock",
        ),
        (
            3599,
            3602,
            RefusalReason.CLOCK_SKEW,
            "the clock of this machine is 3 s behind the store's: set the clock",
        ),
        (3600, 3602, RefusalReason.EXPIRED, "has expired 2 s ago: ask"),
    ],
)
def test_expiry_and_clocks(version, here, store, reason, words):
    """An expiry that this machine could not see is a matter of its clock."""
    ec = {"v1": "0002-00000069", "v4": "0002-00000236"}[version]
    reply = refused("AccessDenied", ec=ec, date=NOW + store)
    found = error(reply, sign(version), now=NOW + here)
    assert type(found) is errors.URLExpiredError
    assert found.reason is reason
    assert words in found.message, found.message
    assert found.explanation.clock_offset == here - store


@pytest.mark.parametrize(
    ("here", "store", "reason", "words"),
    [
        (0, 0, RefusalReason.NOT_YET_VALID, "is not valid yet: check the clock of"),
        (
            3600,
            0,
            RefusalReason.CLOCK_SKEW,
            "the clock of this machine is 3600 s ahead of the store's: set",
        ),
    ],
)
def test_not_yet_and_clocks(here, store, reason, words):
    """A URL from the future was signed by a fast clock, ours or another."""
    reply = refused("AccessDenied", ec="0002-00000235", date=NOW + store)
    found = error(reply, sign(at=NOW + 3600), now=NOW + here)
    assert type(found) is errors.AccessDeniedError
    assert found.reason is reason
    assert words in found.message, found.message


def test_skew_is_measured():
    """The message states the offset in seconds, and which clock is ahead."""
    found = error(refused("RequestTimeTooSkewed", date=NOW + 4000), now=NOW)
    assert "the clock of this machine is 4000 s behind the store's" in found.message
    assert found.explanation.clock_offset == -4000


def test_stores_without_ec_are_judged_by_the_clock():
    """S3 answers AccessDenied to all: its time and the URL's show the reason."""
    signed = SignedRequest(method="PUT", url=S3_URL)
    denied = refused("AccessDenied", date=NOW + 60)
    assert error(denied, signed).reason is RefusalReason.DENIED
    late = error(refused("AccessDenied", date=NOW + 3700), signed, now=NOW + 3700)
    assert late.reason is RefusalReason.EXPIRED
    assert type(late) is errors.URLExpiredError
    timed = refused("AccessDenied", ServerTime="2026-01-01T01:02:00Z")
    found = error(timed, signed, now=NOW + 3720)
    assert (found.reason, found.explanation.clock_offset) == (RefusalReason.EXPIRED, 0)
    early = error(refused("AccessDenied", date=NOW - 2000), signed, now=NOW - 2000)
    assert early.reason is RefusalReason.NOT_YET_VALID
    assert error(refused("AccessDenied"), signed).reason is RefusalReason.DENIED
    other = SignedRequest(method="PUT", url="https://h.example/k?x=1")
    assert (
        error(refused("AccessDenied", date=NOW), other).reason is RefusalReason.DENIED
    )


@pytest.mark.parametrize("ec", ["0002-00000069", "0002-00000235"])
def test_urls_that_do_not_tell_their_life(ec):
    """Without times, the message states only the reason."""
    signed = SignedRequest(method="PUT", url="https://h.example/k?x=1")
    found = error(refused("AccessDenied", ec=ec, date=NOW), signed)
    assert " ago" not in found.message
    assert " from now" not in found.message


def test_wrong_region_of_a_url_without_one():
    """The message for a URL without a region names no region."""
    signed = sign("v1")
    found = error(refused("InvalidArgument", ec="0002-00000226", status=400), signed)
    assert "signed for the region, the store" in found.message


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("Thu, 01 Jan 2026 00:00:00 GMT", 60.0),
        ("Thu, 01 Jan 2026 00:02:00 GMT", -60.0),
        ("", 7.0),
        ("yesterday", 7.0),
        ("Thu, 41 Jan 2026 00:00:00 GMT", 7.0),
    ],
)
def test_clock_offset(text, offset):
    """A reply without a readable Date leaves what was known."""
    assert clock_offset({"date": text}, lambda: NOW + 60.2, 7.0) == offset


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_store_that_repeats_everything_gives_nothing_away(version):
    """Message, code, ids and members may hold the request: none of it comes through."""
    signed = sign(version, token=TOKEN)
    whole = signed.url.reveal().replace("&", "&amp;")
    signature = whole.rpartition("ignature=")[2].partition("&")[0]
    for text in (whole, TOKEN, signature, f"token {TOKEN} and {signature} again"):
        reply = refused(
            "SignatureDoesNotMatch",
            message=text,
            StringToSign=f"PUT\n\n{text}\n1\n/examplebucket/dir/a.csv",
            CanonicalRequest=f"PUT\n/examplebucket/dir/a.csv\n\ncontent-type:{text}\n\n\n",
            SignatureProvided=text,
            SecurityToken=TOKEN,
            RequestId=TOKEN,
            Endpoint=TOKEN.lower(),
        )
        found = error(reply, signed)
        shown = (
            str(found) + repr(found.__dict__) + repr(found.explanation) + repr(reply)
        )
        assert TOKEN not in shown
        assert TOKEN[:40] not in shown
        assert signature not in shown
    again = refused(TOKEN, ec=TOKEN[:20], message="x")
    assert TOKEN not in str(error(again, signed))


V1 = {
    "ossaccesskeyid": "LTAI5tKey",
    "signature": "ab+/CANARYzz9/12+Qx0000000=",
    "security-token": "CAIS+tok/CANARY2==",
}
FORMS = {
    "as it is": lambda text: text,
    "percent": quote_plus,
    "small percent": lambda text: quote_plus(text).replace("%2B", "%2b"),
    "percent twice": lambda text: quote_plus(quote_plus(text)),
    "JSON": lambda text: json.dumps(text).replace("/", r"\/"),
    "escaped JSON": lambda text: text.replace("+", r"\u002b").replace("/", r"\u002f"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("is_url", [False, True])
@pytest.mark.parametrize("name", ["signature", "security-token"])
def test_a_secret_is_hidden_however_it_is_escaped(form, is_url, name):
    """Gateways repeat a URL, or a value of it, in the notation of their own format."""
    url = f"https://examplebucket.oss.example/dir/a.csv?{urlencode(V1)}"
    signed = SignedRequest(method="PUT", url=SecretURL(url), headers={})
    message = f"bad: {form(url if is_url else V1[name])} end"
    found = str(error(refused("InvalidArgument", message=escape(message)), signed))
    assert "CANARY" not in found


@given(
    st.sampled_from([*MEANINGS, "InvalidArgument", ""]),
    st.dictionaries(
        st.sampled_from(["StringToSign", "CanonicalRequest", "ServerTime", "EC"])
        | st.sampled_from(["Endpoint", "Region", "RequestTime", "SignatureProvided"]),
        st.text(max_size=80) | st.just("2026-99-01T00:00:00Z"),
    ),
    st.sampled_from([sign("v1"), sign("v4"), SignedRequest(method="PUT", url=S3_URL)]),
    st.sampled_from([400, 403]),
)
def test_whatever_a_store_writes_is_taken(code, members, signed, status):
    """Every reply raises an error of this package, with a message of one line."""
    members = {name: escape(text) for name, text in members.items()}
    found = error(refused(code, status=status, **members), signed)
    assert isinstance(found, errors.StoreError)
    assert found.message.isprintable()


@pytest.mark.parametrize(
    ("code", "status", "kind", "words"),
    [
        ("InvalidObjectState", 403, errors.AccessDeniedError, "to restore it first"),
        (
            "PublicEndpointForbidden",
            400,
            errors.EndpointForbiddenError,
            "a domain of the bucket",
        ),
    ],
)
def test_what_is_not_about_permission_says_what_it_is(code, status, kind, words):
    """An archived object and a closed host are not denied."""
    found = error(refused(code, status=status))
    assert type(found) is kind
    assert words in found.message


def test_endpoint_that_is_closed_is_known_by_its_number():
    """The number alone says it, whatever the code is."""
    found = error(refused("InvalidRequest", ec="0048-00000401", status=400))
    assert type(found) is errors.EndpointForbiddenError
    assert isinstance(found, ValueError)


def test_a_url_without_a_signature_is_the_cause():
    """Nothing has signed such a request, unless a header holds the signature."""
    reply = refused("AccessDenied", message="because of bucket acl")
    bare = "https://b.example.com/k"
    for headers, words in (
        ({}, "the URL has no signature; it may have been cut"),
        ({"Authorization": "OSS4 a"}, "the signing key lacks the permission"),
    ):
        found = error(reply, SignedRequest(method="PUT", url=bare, headers=headers))
        assert found.reason is RefusalReason.DENIED
        assert found.message.startswith(words)


def test_directory_in_the_way_of_an_object():
    """FileAlreadyExists without forbid-overwrite is no matter of overwriting."""
    reply = refused("FileAlreadyExists", status=409)
    assert "a directory has the same name" in error(reply).message
    locked = sign(headers={"X-Oss-Forbid-Overwrite": "true"})
    for found in (error(reply, locked), from_reply(PUT, reply)):
        assert type(found) is errors.ObjectExistsError
        assert "the object exists already" in found.message


@pytest.fixture
def store_options():
    """A store whose owner has a temporary key."""
    return {"credentials": [Credentials("STS.NTemporary", "secret", TOKEN)]}


@pytest.mark.parametrize("times", [1, None])
def test_temporary_key_that_the_store_does_not_know_is_signed_again_once(oss, times):
    """That is how a store most often says that an STS key has expired."""
    receipts = []
    fs = OSSPresignedFileSystem(signer="keys", receipts=receipts.append)
    oss.faults.add(Fault(action="PutObject", refuse="key-unknown", times=times))
    if times:
        fs.pipe_file("examplebucket/k", b"x")
        assert [receipt.resigns for receipt in receipts] == [1]
        return
    with pytest.raises(
        errors.URLExpiredError, match="STS token that signed the URL"
    ) as caught:
        fs.pipe_file("examplebucket/k", b"x")
    assert caught.value.tries == 2
    assert caught.value.reason is RefusalReason.TOKEN_ENDED


# -- forms -------------------------------------------------------------------------------

POST = Operation(action=Action.PostObject, bucket="examplebucket", key="dir/a.csv")
SIGNATURE = "044a231ff808f0019da01121ef873b44d3205e17e26172a22765a9fb964d00be"
V4_FIELDS = {
    "x-oss-date": "20260101T000000Z",
    "x-oss-credential": "LTAI5tKey/20260101/cn-hangzhou/oss/aliyun_v4_request",
    "x-oss-signature": SIGNATURE,
}


def post_error(reply, *, now=NOW + 60.0, ends=None, **fields):
    """Return the exception for a form of *fields*, as the client makes it."""
    values = {"key": POST.key, "policy": "eyJleHBpcmF0aW9uIjoi", **fields}
    form = SignedForm(fields=form_values(values))
    signed = SignedRequest(
        method="POST", url="https://examplebucket.h/", form=form, expires_at=ends
    )
    offset = clock_offset(reply.headers, lambda: now, None)
    return from_reply(POST, reply, signed, now=lambda: now, offset=offset)


@pytest.mark.parametrize(
    ("code", "ec", "status", "kind", "words"),
    [
        ("AccessDenied", "0006-00000213", 403, errors.URLExpiredError, "the grant has"),
        ("AccessDenied", "0006-00000226", 403, errors.AccessDeniedError, "the policy"),
        ("AccessDenied", "0006-00000227", 403, errors.AccessDeniedError, "the policy"),
        ("AccessDenied", "0006-00000228", 403, errors.AccessDeniedError, "the policy"),
        ("AccessDenied", "", 403, errors.AccessDeniedError, "the policy of the grant"),
        ("AccessDenied", "", 403, errors.AccessDeniedError, "permission oss:PutObject"),
        ("AccessDenied", "0003-00000001", 403, errors.AccessDeniedError, "permission"),
        (
            "InvalidArgument",
            "0002-00000715",
            400,
            errors.InvalidRequestError,
            "the grant is signed for the region cn-hangzhou, the store is in another",
        ),
        (
            "SignatureDoesNotMatch",
            "",
            403,
            errors.SignatureMismatchError,
            "the signature of the grant does not match its policy: tell the owner",
        ),
        (
            "SecurityTokenExpired",
            "",
            403,
            errors.URLExpiredError,
            "that signed the grant",
        ),
        (
            "MalformedPOSTRequest",
            "",
            400,
            errors.BodyCorruptedError,
            "the form was cut",
        ),
        (
            "EntityTooLarge",
            "0006-00000003",
            400,
            ValueError,
            "a grant can allow less: use a signer",
        ),
        (
            "EntityTooSmall",
            "0006-00000004",
            400,
            ValueError,
            "a grant can demand more",
        ),
    ],
)
def test_refusals_of_a_form(code, ec, status, kind, words):
    """They speak of the grant and its policy, where those of a URL speak of the URL."""
    found = post_error(refused(code, ec=ec, status=status), **V4_FIELDS)
    assert isinstance(found, kind)
    assert words in str(found)
    assert "URL " not in str(found)
    bare = from_reply(POST, refused(code, ec=ec, status=status))
    assert isinstance(bare, kind)


def test_codes_of_forms_keep_their_meaning_for_others():
    """A part that is too small has another remedy than a file by a grant."""
    assert "set part_size" in str(error(refused("EntityTooSmall", status=400)))


def test_expiry_of_a_grant_by_the_clock():
    """A store without EC numbers is judged by its time, as for a URL."""
    late, early = refused("AccessDenied", date=NOW + 90), NOW - 2000
    found = post_error(late, now=NOW + 90, ends=NOW + 60.0, **V4_FIELDS)
    assert found.reason is RefusalReason.EXPIRED
    assert "the grant has expired 30 s ago" in str(found)
    soon = refused("AccessDenied", date=early)
    found = post_error(soon, now=early, ends=NOW + 60.0, **V4_FIELDS)
    assert found.reason is RefusalReason.NOT_YET_VALID
    assert "the grant is not valid yet" in str(found)


@pytest.mark.parametrize("token", [{}, {"x-oss-security-token": TOKEN}])
def test_key_of_a_grant_that_the_store_does_not_know(token):
    """A temporary key is forgotten at its end; another one was deleted."""
    found = post_error(refused("InvalidAccessKeyId"), **token)
    assert isinstance(found, errors.URLExpiredError) is bool(token)


@pytest.mark.parametrize(
    "said",
    [
        f"token {TOKEN} and {SIGNATURE}",
        f'Policy Condition failed: ["eq", "$x-oss-security-token", "{TOKEN}x"]',
        f'["in","$X-OSS-Security-Token",["{TOKEN[1:]}","{TOKEN[2:]}"]]',
        f'{{"x-oss-security-token": "{TOKEN[1:]}"}}',
    ],
)
def test_a_quoted_policy_gives_nothing_away(said):
    """The condition is named, its secret value is not; other values stay."""
    tail = 'failed: ["eq", "$key", "a b"]'
    found = post_error(
        refused("AccessDenied", ec="0006-00000227", message=escape(said + tail)),
        **V4_FIELDS,
        **{"x-oss-security-token": TOKEN},
    )
    for secret in (TOKEN[2:], SIGNATURE):
        assert secret not in str(found)
    assert tail in str(found)


def test_a_lock_in_a_form():
    """The form forbids to overwrite by a field, so the object is simply there."""
    reply = refused("FileAlreadyExists", status=409)
    assert "another name" in str(post_error(reply))
    locked = post_error(reply, **{"X-Oss-Forbid-Overwrite": "true"})
    assert "the object exists already" in str(locked)
