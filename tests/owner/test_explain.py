"""``osspresigned explain``: the cause and the remedy of refusals of other programs."""

from __future__ import annotations

import base64
import contextlib
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import (
    ConfigurationError,
    SignatureMismatchError,
    StoreUnavailableError,
)
from fsspec_osspresigned.owner.explain import Explained, explain
from fsspec_osspresigned.owner.refusal import MAX_TEXT, read_refusal
from tests.owner.refusals import (
    MISMATCH,
    OSS,
    S3,
    SECRETS,
    THREADS,
    TOKEN,
    V1_SIGNATURE,
    oss,
    query_v1,
    query_v4,
    v1,
)

NOW = 1_700_000_000.0
TYPE = "application/x-www-form-urlencoded"
DUMP = f"""\
*   Trying 192.0.2.1:443...
* Connected to examplebucket.oss-cn-beijing.aliyuncs.com (192.0.2.1) port 443
> PUT /in/a.csv?{query_v1(1608690732)} HTTP/1.1
> Host: examplebucket.oss-cn-beijing.aliyuncs.com
> User-Agent: curl/7.88.1
> Accept: */*
> Content-Length: 5
> Content-Type: {TYPE}
>
< HTTP/1.1 100 Continue
< HTTP/1.1 403 Forbidden
< Server: AliyunOSS
< Date: Wed, 23 Dec 2020 02:00:00 GMT
< x-oss-request-id: 5FE2B07E50ED1C3034C9258B
< x-oss-ec: 0002-00000040
<
"""


def explained(text: str) -> Explained:
    """Return the explanation of *text*, which shows no secret."""
    result = explain(text, now=lambda: NOW)
    shown = repr(result) + json.dumps(result.as_dict())
    for secret in SECRETS:
        assert secret not in shown
        assert quote(secret, safe="") not in shown
    return result


@pytest.mark.parametrize("thread", THREADS, ids=lambda thread: thread.where)
def test_refusal_of_a_public_thread_is_explained(thread):
    """The first cause is the one that solved the thread, and has its remedy."""
    result = explained(thread.text)
    first, *_ = result.causes
    assert result.code == thread.code
    assert thread.cause in first.cause
    assert thread.remedy in first.remedy


def test_dump_of_curl_shows_what_was_sent_and_what_arrived():
    """All facts of request and reply are shown, and equal ones are no difference."""
    text = f"PUT\n\n{TYPE}\n1608690732\n/examplebucket/in/a.csv"
    result = explained(DUMP + oss("SignatureDoesNotMatch", MISMATCH, **v1(text)))
    assert (result.status, result.ec) == (403, "0002-00000040")
    assert result.kind is SignatureMismatchError
    assert dict(result.url)["object"] == "examplebucket/in/a.csv"
    assert result.sent == result.received == f"PUT Content-Type {TYPE!r}"
    assert result.differences == ()
    evidence = [cause.evidence for cause in result.causes]
    assert evidence == ["likely", "possible", "possible"]


def test_headers_of_the_store_may_be_signed_otherwise():
    """Their names are shown, and not their values."""
    text = "PUT\n\n\n1608690732\nx-oss-meta-a:private\n/examplebucket/in/a.csv"
    result = explained(oss("SignatureDoesNotMatch", MISMATCH, **v1(text)))
    assert result.received == "PUT without Content-Type, x-oss-meta-a"
    causes = [cause.cause for cause in result.causes]
    assert any(cause.startswith("x-oss-meta-a arrived") for cause in causes)
    assert "private" not in repr(result)


def test_expiry_is_judged_by_the_clock_of_the_store():
    """A URL that was valid on the day of the refusal is no cause."""
    url = f"{OSS}/a.csv?{query_v1(1608690732)}\n"
    valid = "HTTP/1.1 403 Forbidden\nDate: Wed, 23 Dec 2020 02:00:00 GMT\n"
    late = valid.replace("02:00:00", "03:00:00")
    denied = oss("AccessDenied", "AccessDenied")
    assert "lacks the permission" in explained(url + valid + denied).causes[0].cause
    assert "expired 27 min" in explained(url + late + denied).causes[0].cause


def test_status_alone_asks_for_the_body():
    """The exception of requests has the URL and no code: it leads to what is missing."""
    url = f"{OSS}/a.csv?{query_v1(1608690732)}"
    result = explained(f"HTTPError: 403 Client Error: Forbidden for url: {url}")
    assert result.code == ""
    assert "EXPIRED" in dict(result.url)["expires at"]
    assert "response.text" in result.causes[-1].remedy


def test_code_or_ec_alone_is_enough():
    """Both are explained as in the error of an upload."""
    assert "disabled" in explained("0002-00000903").causes[0].cause
    assert "STS token" in explained("SecurityTokenExpired").causes[0].cause
    assert explained("HTTP/1.1 503 Slow Down").kind is StoreUnavailableError
    unknown = explained("HTTP/1.1 418\n" + oss("Teapot", "I am one")).causes[0]
    assert "error reference" in unknown.remedy


def test_document_of_a_head_is_read_from_its_header():
    """A reply to HEAD has its document in x-oss-err, in base64."""
    document = oss("SecurityTokenExpired", "expired", SecurityToken=TOKEN)
    packed = base64.b64encode(document.encode()).decode()
    result = explained(f"< HTTP/1.1 403 Forbidden\n< x-oss-err: {packed}\n")
    assert result.code == "SecurityTokenExpired"


def test_escaped_documents_are_read():
    """XML may be escaped for HTML, and be a bytes literal over several lines."""
    document = oss("InvalidSecurityToken", "no")
    html = document.replace("<", "&lt;").replace(">", "&gt;")
    literal = f"{document[:90]!r}\n         b{document[90:]!r}".replace("'<", "b'<", 1)
    assert explained(html).code == explained(literal).code == "InvalidSecurityToken"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no refusal"),
        ("it does not work\nexit code: 1", "no refusal"),
        (f"{S3}/a?{query_v4()}", "doctor describes a URL"),
        ("HTTP/1.1 200 OK\n", "no refusal"),
        ("x" * (MAX_TEXT + 1), "longer than 64 KiB"),
    ],
)
def test_text_without_a_refusal_is_an_error(text, words):
    """The error says what is missing, and repeats nothing of the text."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_refusal(text, NOW)
    assert V1_SIGNATURE not in str(caught.value)
    assert "https://" not in str(caught.value)


PIECES = st.sampled_from(
    [thread.text for thread in THREADS]
    + ["<Error>", "</Code>", "'Code': '", '"', "\\n", "\n", "> PUT /", " HTTP/1.1", "&"]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=30)), max_size=6))
def test_any_text_is_explained_or_refused(pieces):
    """No mixture of refusals makes the command fail or show a secret."""
    with contextlib.suppress(ConfigurationError):
        assert explained("".join(pieces)).causes
