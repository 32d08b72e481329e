"""The signer over a URL map, and the one over a single URL."""

from __future__ import annotations

import json

import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NotCoveredError,
    WrongRequestSignedError,
)
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers import make_signer
from fsspec_osspresigned.signers.base import ChainSigner, Signer, sign_checked
from fsspec_osspresigned.signers.presigned_urls import OneURLSigner, URLMapSigner
from fsspec_osspresigned.url_map.source import load

HOST = "https://b.oss-cn-hangzhou.aliyuncs.com"
END = 1767229200
V1 = f"Expires={END}&OSSAccessKeyId=id&Signature=CANARY"
V4 = (
    "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20260101T000000Z"
    "&x-oss-expires=3600&x-oss-signature=CANARY&x-oss-credential=a"
)
NOW = END - 1000.0


def url(key: str = "k", query: str = "") -> str:
    """Return a presigned URL that ends at END."""
    return f"{HOST}/{key}?{query}{V1}"


def signer(entry: object, path: str = "b/k", **options: object) -> URLMapSigner:
    """Return the signer of a map with one entry."""
    options = {"clock": lambda: NOW, **options}
    return URLMapSigner(load({path: entry}), **options)  # type: ignore[arg-type]


def put(**members: object) -> Operation:
    """Return a PutObject of b/k."""
    members = {"action": Action.PutObject, "bucket": "b", "key": "k", **members}
    return Operation(**members)  # type: ignore[arg-type]


def refusal(signer: Signer, operation: Operation) -> NotCoveredError:
    """Return the refusal of *operation*, after checking that it leaks nothing."""
    with pytest.raises(NotCoveredError) as caught:
        signer.sign([operation])
    assert "CANARY" not in str(caught.value)
    assert not caught.value.final
    return caught.value


PARTS = [url("k", f"partNumber={n}&uploadId=U&") for n in (1, 2)]


def test_absent_headers_pass_the_users_demands_and_no_guess():
    """The URL does not show what was signed, so only the user's headers are sent."""
    operation = put(
        headers={"x-oss-meta-a": "1"}, optional_headers={"Content-Type": "a"}
    )
    (request,) = sign_checked(signer(url()), [operation])
    assert request.url.reveal() == url()
    assert request.method == "PUT"
    assert request.headers == {"x-oss-meta-a": "1"}
    assert request.expires_at == END
    assert request.issued_at == NOW


def test_conflicting_header_is_named():
    """A header that the user wants and the owner did not sign is an error."""
    entry = {"url": url(), "headers": {"Content-Type": "a/b"}}
    operation = put(headers={"content-type": "c/d", "x-oss-meta-a": "1"})
    error = refusal(signer(entry), operation)
    assert "content-type, x-oss-meta-a is not signed" in error.message


def test_signed_length_must_be_the_real_one():
    """A URL for ten bytes is refused before eleven are sent."""
    query = f"{V4}&x-oss-additional-headers=content-length"
    entry = {"url": f"{HOST}/k?{query}", "headers": {"Content-Length": "10"}}
    assert signer(entry).sign([put(content_length=10)])
    error = refusal(signer(entry), put(content_length=11))
    assert "exactly 10 bytes" in error.message


def test_path_outside_the_map_names_the_nearest_keys():
    """A typo is found at once."""
    error = refusal(signer(url(), "b/report.csv"), put(key="reprot.csv"))
    assert error.nearest == ("b/report.csv",)
    assert "'b/reprot.csv'; nearest: b/report.csv" in error.message
    lonely = refusal(signer(url(), "b/report.csv"), put(key="zzzzzz"))
    assert lonely.nearest == ()
    with pytest.raises(NotCoveredError):
        signer(url()).grant("b/other")


def test_end_is_taken_from_the_nearest_word():
    """The request's own time wins, then the entry's, then the URL's."""
    late = "2030-01-01T00:00:00Z"
    entry = {"expires_at": late, "url": url(), "head": {"url": url()}}
    entry["get"] = {"url": url(), "expires_at": "2031-01-01T00:00:00Z"}
    signed = signer(entry).sign(
        [put(action=action) for action in (Action.HeadObject, Action.GetObject)]
    )
    assert [request.expires_at for request in signed] == [1893456000, 1924992000]


def test_expired_url_is_refused_with_its_time():
    """The error says when it ended and what to do."""
    error = refusal(signer(url(), clock=lambda: END + 1.0), put())
    assert "expired at 2026-01-01T01:00:00Z: ask the owner" in error.message


def test_parts_with_complete_are_granted():
    """All that the map says about the upload is in the grant."""
    entry = {
        "parts": PARTS,
        "part_size": 102400,
        "complete": {"url": url(), "headers": {"X-Oss-Complete-All": "yes"}},
        "list": url(),
    }
    grant = signer(entry).grant("b/k")
    assert not grant.single
    multipart = grant.multipart
    assert multipart is not None
    assert (multipart.upload_id, multipart.part_size, multipart.max_parts) == (
        "U",
        102400,
        2,
    )
    assert multipart.completes
    assert multipart.complete_all
    assert multipart.complete_all_proven


def test_external_complete_is_granted_as_the_owners():
    """The owner completes; a single URL beside it stays granted."""
    entry = {"url": url(), "parts": PARTS, "complete": "external"}
    grant = signer(entry).grant("b/k")
    assert grant.single
    assert grant.multipart is not None
    assert not grant.multipart.completes
    plain = signer({"parts": PARTS, "complete": url()}).grant("b/k").multipart
    assert plain is not None
    assert not plain.complete_all


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"parts": PARTS}, 'no "complete"'), ({"get": url()}, "only URLs for reading")],
)
def test_entry_without_a_way_to_finish_is_refused(entry, said):
    """An upload that cannot be completed is refused before the first byte."""
    with pytest.raises(NotCoveredError, match=said):
        signer(entry).grant("b/k")


def test_multipart_calls_find_their_urls():
    """Every call of an upload is answered from its slot."""
    entry = {"parts": PARTS, "complete": url("k", "c=1&"), "abort": url("k", "a=1&")}
    entry["list"] = url("k", "l=1&")
    asked = [
        put(action=Action.UploadPart, upload_id="U", part_number=2),
        put(action=Action.CompleteMultipartUpload, upload_id="U"),
        put(action=Action.AbortMultipartUpload, upload_id="U"),
        put(action=Action.ListParts, upload_id="U", query={"max-parts": "9"}),
    ]
    found = sign_checked(signer(entry), asked)
    assert [r.url.reveal() for r in found] == [
        PARTS[1],
        entry["complete"],
        entry["abort"],
        entry["list"],
    ]


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"action": Action.UploadPart, "part_number": 3}, "part 3 is not among its 2"),
        ({"action": Action.UploadPart}, "part 0 is not among"),
        ({"action": Action.UploadPart, "upload_id": "V"}, "another upload"),
        ({"action": Action.InitiateMultipartUpload}, "no URL for it"),
        ({"action": Action.CompleteMultipartUpload}, "no URL for it"),
        ({"action": Action.DeleteObject}, "no URL for it"),
        (
            {"action": Action.ListParts, "query": {"part-number-marker": "2"}},
            "cannot be",
        ),
    ],
)
def test_what_was_not_handed_out_is_refused(members, said):
    """The refusal names the call, and holds for this entry only."""
    entry = {"parts": PARTS, "complete": "external", "list": url()}
    assert said in refusal(signer(entry), put(**members)).message


def test_plain_http_needs_leave():
    """A map may lead to this machine over http, elsewhere only if allowed."""
    far = "http://example.com/k?" + V1
    with pytest.raises(ConfigurationError, match="plain http") as caught:
        signer(far).sign([put()])
    assert "CANARY" not in str(caught.value)
    assert signer(far, allow_http=True).sign([put()])
    assert signer("http://127.0.0.1/b/k?" + V1).sign([put()])


def test_remote_map_does_not_lead_to_this_machine():
    """Whoever serves the map does not choose a service of this machine."""
    text = json.dumps({"b/k": f"http://127.0.0.1:9/b/k?{V1}"}).encode()
    remote = make_signer(Options(url_map="memory://map.json"), lambda _: text)
    with pytest.raises(ConfigurationError, match="comes from another machine"):
        remote.sign([put()])


def one(text: str, **options: object) -> OneURLSigner:
    """Return the signer of one URL."""
    options = {"clock": lambda: NOW, **options}
    return OneURLSigner(lambda: Secret(text), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        (url("dir/k"), ["", "b/dir/k"]),
        ("http://127.0.0.1:9/b/dir/k?" + V1, ["", "b/dir/k"]),
        ("https://cdn.example.com/dir/k?" + V1, ["", "any/dir/k", "dir/k"]),
    ],
)
def test_one_url_takes_its_own_object_only(text, paths):
    """Two different files never land in one object."""
    for path in paths:
        bucket, _, key = path.partition("/")
        assert one(text).sign([put(bucket=bucket, key=key)])[0].url.reveal() == text
        assert one(text).grant(path).single
    own = one(text).path
    assert own in paths
    for path in ("b/other", "b", "k"):
        with pytest.raises(NotCoveredError, match=f"is only for '{own}'") as caught:
            one(text).grant(path)
        assert caught.value.nearest == (own,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("b/k", "not an absolute"),
        (HOST + "/%ff?CANARY", "not UTF-8"),
        (HOST + "/?" + V1, "names no object"),
        ("https://127.0.0.1/b?" + V1, "names no object"),
        (PARTS[0], "use url_map="),
        ('{"objects": {"b/k": "CANARY"}}', "this is a URL map: give it as url_map="),
        ('{"policy": "CANARY"}', "this is a grant: give it as grant="),
        ("one.url", "or where it is .file:PATH, env:NAME."),
        (HOST + "/a.csv?OSSAccessKeyId=LTAICANARY", "has no signature"),
    ],
)
def test_what_is_no_presigned_url_is_refused(text, said):
    """The mistake is found when the filesystem is made."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        one(text)
    assert "CANARY" not in str(caught.value)


V4_WHOLE = (
    "x-oss-credential=a&x-oss-date=20260101T000000Z&x-oss-expires=3600"
    f"&x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-signature={64 * 'a'}"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HOST}/k?{V4_WHOLE}".replace("&", "&amp;"), "has &amp; instead of &"),
        (f"{HOST}/k?{V4_WHOLE[:-1]}", "only the start of its signature"),
        (f"https://files.example.com/k?{V4_WHOLE[:-82]}", "has no signature"),
        (f"http://127.0.0.1:9/b/k?{V4_WHOLE[:20]}", "has no signature"),
        (f"{HOST}/k?{V1.partition('&Sig')[0]}", "has no signature"),
        (f"{HOST}/k?X-Amz-Date=1&X-Amz-Signature=", "has no signature"),
        (f"{HOST}/k", "has no signature"),
    ],
)
def test_damaged_url_is_refused(text, said):
    """A URL that an e-mail cut off or changed is never sent: the owner did all right."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        one(text)
    assert "copy the whole URL again" in str(caught.value)
    assert "20260101" not in str(caught.value)


def test_renewed_url_is_used():
    """A file or variable can be renewed while the program runs."""
    texts = [url("k", "n=1&"), url("k", "n=2&")]
    now = [texts[0]]
    renewed = OneURLSigner(lambda: Secret(now[0]), clock=lambda: NOW)
    assert renewed.sign([put()])[0].url.reveal() == texts[0]
    now[0] = texts[1]
    assert renewed.sign([put()])[0].url.reveal() == texts[1]
    assert isinstance(renewed, Signer)
    assert not renewed.remote


@pytest.mark.parametrize(
    "target",
    [
        f"{HOST}/other",
        f"{HOST}/b/k",
        "https://c.oss-cn-hangzhou.aliyuncs.com/k",
        "https://files.example.com/other",
        "http://127.0.0.1:9000/c/k",
        f"{HOST}/%FF",
    ],
)
def test_url_of_another_object(target):
    """A map sends no bytes to another key or bucket without ``allow_path_mismatch``."""
    with pytest.raises(WrongRequestSignedError, match="names another object") as caught:
        signer(f"{target}?{V1}", allow_path_mismatch=False).sign([put()])
    assert "CANARY" not in str(caught.value)
    (request,) = signer(f"{target}?{V1}").sign([put()])
    assert request.url.reveal() == f"{target}?{V1}"


@pytest.mark.parametrize(
    "target",
    [
        f"{HOST}/k",
        "https://files.example.com/k",
        "https://s3.example.com/b/k",
        "http://127.0.0.1:9000/b/k",
        "https://oss-cn-hangzhou.aliyuncs.com/b/k",
    ],
)
def test_url_of_its_object(target):
    """Hosts of one bucket, and those with the bucket in the path, are understood."""
    (request,) = signer(f"{target}?{V1}", allow_path_mismatch=False).sign([put()])
    assert request.url.reveal() == f"{target}?{V1}"


def test_a_changed_map_is_read_where_that_may_take_time(tmp_path):
    """The loop, which all requests share, does not read it."""
    place = tmp_path / "map.json"
    place.write_text(json.dumps({"b/k": url("k")}))
    place.chmod(0o600)
    signer = ChainSigner(URLMapSigner(load(place), clock=lambda: NOW))
    assert not signer.waits
    place.write_text(json.dumps({"b/k": url("k"), "b/l": url("l")}))
    assert signer.waits
    signer.grant("b/l")
    assert not signer.waits
