"""The key signer: every operation, its headers, its life, and what it refuses."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from fsspec_osspresigned.emulator.messages import Call
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.errors import ConfigurationError, SignerError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.base import sign_checked
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint, describe

NOW = 1_767_225_600.5
KEY = Credentials("LTAI5tFakeKeyIdForTests", Secret("FakeSecretForTestVectorsOnly01"))
PUBLIC = Endpoint.parse("oss-cn-hangzhou.aliyuncs.com")
VARIABLES = [
    "OSS_ACCESS_KEY_ID",
    "OSS_ACCESS_KEY_SECRET",
    "OSS_SESSION_TOKEN",
    "OSS_REGION",
    "OSS_ENDPOINT",
]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Set keys and nothing else."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "id-1")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "secret-1")
    return monkeypatch


def signer(credentials: Credentials = KEY, **options) -> KeySigner:
    """Return a signer with a stopped clock."""
    facts = {"endpoint": PUBLIC, "region": "cn-hangzhou", "clock": lambda: NOW}
    return KeySigner(credentials=lambda: credentials, **{**facts, **options})


def operation(action: Action = Action.PutObject, **facts) -> Operation:
    """Return an operation on an object."""
    return Operation(**{"action": action, "bucket": "bkt", "key": "a b/ü", **facts})


def query_of(request) -> dict[str, str]:
    """Return the parameters of a signed request but for those of the signature."""
    pairs = parse_qsl(urlsplit(request.url.reveal()).query, keep_blank_values=True)
    return {name: value for name, value in pairs if not name.startswith("x-oss-")}


UPLOAD = {"upload_id": "U+/"}
CALLS = [
    (Action.PutObject, {}, {}),
    (Action.UploadPart, {**UPLOAD, "part_number": 3}, {"partNumber": "3"}),
    (
        Action.UploadPartCopy,
        {**UPLOAD, "part_number": 10000, "headers": {"x-oss-copy-source": "/b/k"}},
        {"partNumber": "10000"},
    ),
    (Action.CopyObject, {"headers": {"x-oss-copy-source": "/b/k"}}, {}),
    (Action.InitiateMultipartUpload, {}, {"uploads": ""}),
    (Action.CompleteMultipartUpload, UPLOAD, {}),
    (Action.AbortMultipartUpload, UPLOAD, {}),
    (Action.ListParts, {**UPLOAD, "query": {"max-parts": "9"}}, {"max-parts": "9"}),
    (Action.GetObject, {"query": {"versionId": "v"}}, {"versionId": "v"}),
    (Action.HeadObject, {}, {}),
    (Action.DeleteObject, {}, {}),
    (
        Action.ListObjectsV2,
        {"key": "", "query": {"prefix": "a b"}},
        {"list-type": "2", "prefix": "a b"},
    ),
]


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize(("action", "facts", "query"), CALLS)
def test_every_action(action, facts, query, version):
    """Each call has its method and parameters, and the service accepts it."""
    asked = operation(action, **facts)
    (request,) = sign_checked(signer(version=version), [asked])
    wanted = {**query, **({"uploadId": "U+/"} if asked.upload_id else {})}
    found = query_of(request)
    for name in ("OSSAccessKeyId", "Expires", "Signature"):
        found.pop(name, None)
    assert found == wanted
    parts = urlsplit(request.url.reveal())
    received = Call(
        method=request.method,
        bucket="bkt",
        key=unquote(parts.path[1:]),
        query=parts.query,
        headers={name.lower(): value for name, value in request.headers.items()},
    )
    assert received.key == asked.key
    assert verify(received, find=lambda _: KEY, now=NOW) is None


def test_headers_are_all_signed_and_returned():
    """Required and optional headers are signed; a required one wins."""
    asked = operation(
        headers={"Cache-Control": "no-cache", "content-type": "a/b"},
        optional_headers={
            "Content-Type": "text/csv",
            "Content-Encoding": "gzip",
            "Content-Length": "1",
            "Host": "x",
        },
        content_length=10,
    )
    (request,) = signer().sign([asked])
    assert dict(request.headers) == {
        "Content-Encoding": "gzip",
        "Cache-Control": "no-cache",
        "content-type": "a/b",
    }
    found = describe(request.url)
    assert found.additional_headers == ("cache-control", "content-encoding")


def test_demanded_length_and_host_are_locked():
    """Content-Length and Host are signed for who demands them, if they are true."""
    host = "bkt.oss-cn-hangzhou.aliyuncs.com"
    asked = operation(headers={"Content-Length": "10", "Host": host}, content_length=10)
    (request,) = sign_checked(signer(), [asked])
    assert describe(request.url).additional_headers == ("content-length", "host")
    empty = operation(Action.InitiateMultipartUpload, headers={"Content-Length": "0"})
    assert sign_checked(signer(), [empty])
    wrong = operation(headers={"content-length": "9", "host": "x"}, content_length=10)
    with pytest.raises(ConfigurationError) as caught:
        signer().sign([wrong])
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigurationError, match="V1 cannot sign the header host"):
        signer(version="v1").sign([operation(headers={"host": host})])


def test_life():
    """The lifetime is the operation's, or the signer's default, in whole seconds."""
    (usual, wished) = signer(expires_in=60).sign([operation(), operation(expires_in=9)])
    assert (usual.issued_at, usual.expires_at) == (NOW, 1_767_225_660)
    assert wished.expires_at == 1_767_225_609
    assert describe(usual.url).expires_at == usual.expires_at


def test_life_ends_with_a_temporary_key():
    """No URL outlives the key behind it, and an ended key signs nothing."""
    sts = Credentials("STS.a", "s", "t", expires_at=NOW + 100)
    (request,) = signer(sts).sign([operation()])
    assert request.expires_at == 1_767_225_700
    assert describe(request.url).has_token
    ended = Credentials("STS.a", "s", "t", expires_at=NOW)
    with pytest.raises(SignerError, match="has expired"):
        signer(ended).sign([operation()])


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        (operation(Action.UploadPart, part_number=1), "needs the upload_id"),
        (operation(Action.UploadPart, upload_id="U"), "part_number of 1..10000"),
        (operation(Action.UploadPart, upload_id="U", part_number=10001), "1..10000"),
        (operation(upload_id="U"), "takes no upload_id"),
        (operation(part_number=1), "takes no part_number"),
        (operation(Action.ListObjectsV2), "takes no key"),
        (operation(Action.CopyObject), "needs the header x-oss-copy-source"),
        (operation(key=""), "needs a key"),
        (operation(bucket=""), "not a valid name"),
        (operation(Action.PostObject), "is not a URL"),
        (operation(query={"uploads": ""}), "belongs to the signer"),
        (operation(expires_in=604801), "1..604800"),
    ],
)
def test_refused_operations(asked, problem):
    """A request that OSS would refuse raises one error that names the object."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        signer().sign([asked])
    assert caught.value.path == asked.path


@pytest.mark.parametrize(
    ("region", "endpoint", "options", "wanted"),
    [
        ("cn-beijing", None, {}, ("oss-cn-beijing.aliyuncs.com", "cn-beijing")),
        (
            None,
            "us-west-1.oss.aliyuncs.com",
            {},
            ("us-west-1.oss.aliyuncs.com", "us-west-1"),
        ),
        ("cn-beijing", "oss-accelerate.aliyuncs.com", {}, (None, "cn-beijing")),
        (
            "cn-hangzhou-finance",
            None,
            {},
            ("oss-cn-hzfinance.aliyuncs.com", "cn-hangzhou-finance"),
        ),
        (
            "cn-hangzhou-finance",
            "oss-cn-hzjbp-a-internal.aliyuncs.com",
            {},
            (None, "cn-hangzhou-finance"),
        ),
        ("cn-beijing", "http://127.0.0.1:9000", {}, ("127.0.0.1:9000", "cn-beijing")),
        (None, "files.example.com", {"version": "v1", "style": "cname"}, (None, None)),
    ],
)
def test_region_and_endpoint(region, endpoint, options, wanted):
    """Region and endpoint fill each other in, where that is possible."""
    made = KeySigner.from_options(region, endpoint, **options)
    assert (made.endpoint.host, made.region) == (wanted[0] or endpoint, wanted[1])
    assert made.endpoint.style == options.get("style", made.endpoint.style)
    assert made.credentials().access_key_id == "id-1"


def test_endpoint_of_the_environment_is_named(environment):
    """The error names the variable that has the invalid endpoint."""
    environment.setenv("OSS_ENDPOINT", "oss cn")
    with pytest.raises(
        ConfigurationError, match="OSS_ENDPOINT: endpoint host 'oss cn'"
    ):
        KeySigner.from_options("cn-hangzhou")


def test_everything_missing_is_one_error(environment):
    """Keys, region and endpoint are named together."""
    environment.delenv("OSS_ACCESS_KEY_ID")
    environment.delenv("OSS_ACCESS_KEY_SECRET")
    with pytest.raises(ConfigurationError) as caught:
        KeySigner.from_options()
    text = str(caught.value)
    for name in (
        "OSS_ACCESS_KEY_ID",
        "OSS_ACCESS_KEY_SECRET",
        "OSS_REGION",
        "endpoint",
    ):
        assert name in text
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("region", "endpoint", "problem"),
    [
        (None, "files.example.com", "does not tell its region"),
        ("cn-beijing", "oss-cn-hangzhou.aliyuncs.com", "does not fit"),
        (None, "ftp://x", "use https or http"),
        ("oss-cn-hangzhou", "files.example.com", "is not a region id"),
    ],
)
def test_region_and_endpoint_that_do_not_do(region, endpoint, problem):
    """A signer that cannot sign raises when it is made."""
    with pytest.raises(ConfigurationError, match=problem):
        KeySigner.from_options(region, endpoint)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_region_is_no_host(version):
    """A region with dots would be the host of another bucket, also under V1."""
    with pytest.raises(ConfigurationError, match="is not a region id"):
        KeySigner.from_options("evil.oss-accelerate", None, version, style="path")


def test_domain_is_of_one_bucket():
    """A second bucket at the same domain is refused: its signature would not fit."""
    endpoint = Endpoint.parse("files.example.com", style="cname")
    bound = signer(endpoint=endpoint)
    bound.sign([operation(bucket="first", key="a"), operation(bucket="first", key="b")])
    with pytest.raises(ConfigurationError, match="domain of one bucket, and 'first'"):
        bound.sign([operation(bucket="second", key="a")])
    signer(endpoint=endpoint).sign([operation(bucket="second", key="a")])
