"""The signer service against the bearer of a token who may only write below ``data/``.

What is refused is refused by its code; what is signed is of no use for anything else,
which the store itself shows.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import unquote

import hypothesis
import hypothesis.strategies as st
import pytest

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.model import URL_ACTIONS, Action
from fsspec_osspresigned.owner.service.policy import hash_token
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.signing import describe
from tests.conftest import presigned
from tests.owner_keys import signer_service

pytestmark = pytest.mark.slow

TOKENS = {
    "put-only-token-00": """
        name = "put"
        buckets = ["examplebucket"]
        prefixes = ["data/"]
        actions = ["PutObject"]
        max_size = 100
    """,
    "narrow-token-0000": """
        name = "narrow"
        buckets = ["examplebucket"]
        prefixes = ["data/"]
        actions = ["PutObject", "InitiateMultipartUpload", "CompleteMultipartUpload"]
        headers = ["content-type", "x-oss-meta-*"]
        storage_classes = ["IA"]
        overwrite = false
    """,
    "no-folder-token-0": """
        name = "no folder"
        buckets = ["examplebucket"]
        prefixes = ["data"]
        actions = ["PutObject", "ListObjectsV2"]
    """,
    "copier-token-0000": """
        name = "copier"
        buckets = ["examplebucket"]
        prefixes = ["data/"]
        actions = ["PutObject", "CopyObject"]
        copy_sources = ["examplebucket/public/"]
    """,
}
PUT = "put-only-token-00"
SECRET = b"of somebody else"


class Service:
    """The service and the store that it signs for."""

    def __init__(self, oss: Emulator, port: int) -> None:
        self.oss = oss
        self.port = port

    def call(self, body: bytes, token: str = PUT) -> tuple[int, Any]:
        """Return status and JSON of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with closing(connection):
            headers = {"Authorization": f"Bearer {token}"}
            connection.request("POST", "/v1/sign", body, headers)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())

    def ask(self, token: str = PUT, **members: Any) -> dict[str, Any]:
        """Return the result of one request; its members differ from a good one."""
        request = {
            "action": "PutObject",
            "bucket": "examplebucket",
            "key": "data/k",
            "content_length": 3,
            **members,
        }
        request = {name: value for name, value in request.items() if value is not ...}
        status, reply = self.call(json.dumps({"requests": [request]}).encode(), token)
        assert status == 200
        (result,) = reply["results"]
        return result

    def code(self, token: str = PUT, **members: Any) -> str | None:
        """Return the code by which a request is refused; None if it is signed."""
        code: str | None = self.ask(token, **members).get("error", {}).get("code")
        return code

    def send(
        self, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, bytes]:
        """Return what the store answers to exactly this."""
        host, _, target = url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(host)
        with closing(connection):
            connection.putrequest(method, f"/{target}")
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, reply.read()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """Tokens with little leave, and a store with something to steal."""
    text = "\n".join(
        f'[[tokens]]\nsha256 = "{hash_token(token)}"\n{grant}'
        for token, grant in TOKENS.items()
    )
    with (
        Emulator(buckets=("examplebucket", "otherbucket")) as oss,
        signer_service(oss, text) as server,
    ):
        found = Service(oss, server.port)
        url = presigned(oss, "PUT", "private/k")
        assert found.send("PUT", url, {}, SECRET)[0] == 200
        yield found


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "invalid_request"),
        ("/data/k", "invalid_request"),
        ("\\data\\k", "invalid_request"),
        ("data/" + "k" * 1019, "invalid_request"),
        ("data/\ud800", "invalid_request"),
        ("private/k", "forbidden"),
        ("data", "forbidden"),
        ("DATA/k", "forbidden"),
        ("data\\..\\private/k", "forbidden"),
        ("./data/k", "forbidden"),
        ("x/../data/k", "forbidden"),
        ("%64ata/k", "forbidden"),
        ("data%2Fk", "forbidden"),
        ("d\u0430ta/k", "forbidden"),
        ("\x00data/k", "forbidden"),
        ("private/k\x00data/k", "forbidden"),
        ("\u2215data/k", "forbidden"),
        (" data/k", "forbidden"),
    ],
)
def test_key_that_is_no_name_or_lies_outside_is_refused(service, key, code):
    """A key is compared as it is: nothing is decoded, folded or resolved first."""
    assert service.code(key=key) == code


@pytest.mark.parametrize(
    "key",
    [
        "data/../private/k",
        "data//k",
        "data//../../private/k",
        "data/./k",
        "data/%2e%2e/private/k",
        "data/%252e%252e/k",
        "data/..\\..\\private\\k",
        "data/k\x00.txt",
        "data/a\r\nHost: evil.example.com\r\n\r\n",
        "data/\x7f\x1b[2J",
        "data/?acl",
        "data/k#fragment",
        "data/k?x-oss-signature=a&acl",
        "data/\u202ek",
        "data/" + "k" * 1018,
    ],
)
def test_odd_key_is_signed_as_that_key_and_no_other(service, key):
    """The store puts it where its name says, and what others own stays theirs."""
    result = service.ask(key=key)
    url = result["url"]
    path = unquote(url.partition("?")[0]).partition("/examplebucket/")[2]
    assert path == key
    assert service.send("PUT", url, result["headers"], b"abc")[0] == 200
    assert bytes(service.oss.get("examplebucket", key).data()) == b"abc"
    assert bytes(service.oss.get("examplebucket", "private/k").data()) == SECRET


@pytest.mark.parametrize(
    "bucket",
    [
        "examplebucket2",
        "example",
        "examplebucket/data",
        "examplebucket.evil",
        "evil.example.com#",
        "evil.example.com/?",
        "u@examplebucket",
        "EXAMPLEBUCKET",
        "examplebucket\x00",
        "..",
        "",
    ],
)
def test_other_bucket_is_refused(service, bucket):
    """A bucket is a label, so it cannot carry a host, a path or a query."""
    assert service.code(bucket=bucket) in ("invalid_request", "forbidden")


HEADERS = [
    ("x-oss-copy-source", "/examplebucket/private/k"),
    ("X-OSS-COPY-SOURCE", "/examplebucket/private/k"),
    ("x-oss-copy-source-range", "bytes=0-9"),
    ("x-oss-copy-source-if-match", "x"),
    ("x-oss-object-acl", "public-read"),
    ("X-Oss-Object-Acl", "public-read-write"),
    ("x-oss-acl", "public-read"),
    ("x-oss-symlink-target", "private/k"),
    ("X-OSS-Symlink-Target", "private/k"),
    ("x-oss-callback", "eyJjYWxsYmFja1VybCI6IngifQ=="),
    ("X-Oss-CALLBACK", "e30="),
    ("x-oss-callback-var", "e30="),
    ("x-amz-copy-source", "/examplebucket/private/k"),
    ("x-amz-acl", "public-read"),
    ("x_oss_object_acl", "public-read"),
    ("x-oss_object-acl", "public-read"),
    ("xoss-object-acl", "public-read"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("X-Forwarded-Host", "evil.example.com"),
    ("Host", "evil.example.com"),
    ("Content-Length", "1000000"),
    ("content-length", "3"),
    ("Date", "Wed, 25 Nov 2026 10:00:00 GMT"),
    ("Range", "bytes=0-1"),
    ("If-None-Match", "*"),
    ("Referer", "https://example.com"),
]
INVALID = [
    ("Authorization", "OSS x:y"),
    ("Transfer-Encoding", "chunked"),
    ("Connection", "close"),
    ("Proxy-Authorization", "x"),
    ("Cookie", "a=b"),
    ("Expect", "100-continue"),
    ("x-oss-object-acl ", "private"),
    (" x-oss-object-acl", "private"),
    ("x-oss-object-acl\x00", "private"),
    ("x-oss-object-acl:", "private"),
    ("x-oss-meta-a\r\nx-oss-object-acl", "private"),
    ("x-oss-meta-a", "1\r\nx-oss-object-acl: public-read"),
    ("x-oss-meta-a", "1\nx-oss-object-acl: public-read"),
    ("x-oss-meta-a", "\x00"),
    ("x-oss-meta-a", " 1"),
    ("x-oss-meta-a", "\xe9"),
    ("x-oss-meta-a", "\ud800"),
    ("x-oss-meta-a", "v" * 9000),
    ("x-o\u017fs-object-acl", "public-read"),
    ("", "x"),
]


@pytest.mark.parametrize(("name", "value"), HEADERS)
def test_header_that_copies_opens_or_leads_elsewhere_is_refused(service, name, value):
    """Demanded it is refused; wished it is left out, in any case of its letters."""
    assert service.code(headers={name: value}) == "header_refused"
    result = service.ask(optional_headers={name: value})
    assert result["headers"] == {"Content-Length": "3"}
    assert describe(SecretURL(result["url"])).additional_headers == ("content-length",)


@pytest.mark.parametrize(("name", "value"), INVALID)
@pytest.mark.parametrize("member", ["headers", "optional_headers"])
def test_header_that_is_no_header_is_refused(service, member, name, value):
    """Headers that cannot be sent are refused, never cleaned."""
    assert service.code(**{member: {name: value}}) == "invalid_request"


@pytest.mark.parametrize(
    ("demanded", "wished", "code"),
    [
        (
            {"x-oss-meta-a": "1", "X-Oss-Meta-A": "2"},
            {},
            "invalid_request",
        ),
        ({"x-oss-meta-a": "1"}, {"X-OSS-META-A": "2"}, None),
        ({}, {"Content-Length": "9", "CONTENT-LENGTH": "8"}, "invalid_request"),
    ],
)
def test_header_that_comes_twice_is_signed_once_or_not(service, demanded, wished, code):
    """A required header replaces an optional one, in any letter case."""
    result = service.ask(headers=demanded, optional_headers=wished)
    assert result.get("error", {}).get("code") == code
    if code is None:
        assert result["headers"] == {**demanded, "Content-Length": "3"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "a/b", "X-Oss-Meta-Z": "1"}, None),
        ({"x-oss-storage-class": "IA"}, None),
        ({"x-oss-storage-class": "Archive"}, "header_refused"),
        ({"x-oss-tagging": "a=b"}, "header_refused"),
        ({"X-OSS-TAGGING": "a=b"}, "header_refused"),
        ({"x-oss-server-side-encryption": "KMS"}, "header_refused"),
        ({"x-oss-metadata-directive": "REPLACE"}, "header_refused"),
        ({"Cache-Control": "no-store"}, "header_refused"),
        ({"x-oss-forbid-overwrite": "true"}, None),
        ({"x-oss-forbid-overwrite": "false"}, "header_refused"),
        ({"X-OSS-Forbid-Overwrite": "False"}, "header_refused"),
        ({"x-oss-forbid-overwrite": "true,false"}, "header_refused"),
    ],
)
@pytest.mark.parametrize(
    "action", ["PutObject", "InitiateMultipartUpload", "CompleteMultipartUpload"]
)
def test_closed_list_of_a_policy_holds_for_every_write(service, headers, code, action):
    """Tags, classes and the lock are the owner's, whichever call would set them."""
    members = {"upload_id": "U"} if action == "CompleteMultipartUpload" else {}
    result = service.ask("narrow-token-0000", action=action, headers=headers, **members)
    assert result.get("error", {}).get("code") == code
    wished = service.ask(
        "narrow-token-0000", action=action, optional_headers=headers, **members
    )
    locks = [v for n, v in wished["headers"].items() if "overwrite" in n.lower()]
    assert locks == ["true"]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "acl",
            "ACL",
            "tagging",
            "symlink",
            "append",
            "uploads",
            "uploadId",
            "delete",
        ),
        *("partNumber", "list-type", "callback", "callback-var", "x-oss-process"),
        *("x-oss-async-process", "versionId", "restore", "objectMeta", "policy"),
        *("x-oss-traffic-limit\x00", "x-oss-traffic-limit&acl", "\ud800"),
        *("x-oss-expires", "x-oss-signature", "x-oss-security-token", "Expires"),
        *("response-content-type", "position", "worm", "inventory", "", " acl"),
    ],
)
def test_parameter_outside_the_closed_list_is_refused(service, name):
    """None of them can turn the call into another one."""
    assert service.code(query={name: ""}) == "invalid_request"


@pytest.mark.parametrize(
    "value", ["819200&acl", "819200#", "819200 HTTP/1.1\r\nHost: x", "\x00"]
)
def test_value_of_a_parameter_adds_no_other(service, value):
    """It is one value, whatever it holds, and the store judges it as that."""
    url = service.ask(query={"x-oss-traffic-limit": value})["url"]
    names = [item.partition("=")[0] for item in url.partition("?")[2].split("&")]
    assert "acl" not in names
    assert names.count("x-oss-traffic-limit") == 1
    assert not set("\r\n #") & set(url)


def test_value_that_makes_the_url_too_long_is_refused(service):
    """The protocol bounds a URL, so that no client chokes on it."""
    wish = {"x-oss-traffic-limit": "8" * 17_000}
    assert service.code(query=wish) == "invalid_request"


@pytest.mark.parametrize("action", sorted(set(URL_ACTIONS) - {Action.PutObject}))
def test_action_outside_the_grant_is_refused(service, action):
    """Members of one call do not make it another."""
    members = {"upload_id": "U", "part_number": 1}
    if action is Action.ListObjectsV2:
        members = {"key": ..., "query": {"prefix": "data/"}}
    assert service.code(action=action, **members) == "action_not_granted"
    if action is not Action.ListObjectsV2:
        url = service.ask(**members).get("url", "")
        assert "uploadId" not in url
        assert "partNumber" not in url


@pytest.mark.parametrize(
    ("key", "code"), [("data2/k", None), ("database", None), ("dat", "forbidden")]
)
def test_prefix_without_a_slash_is_a_prefix(service, key, code):
    """It grants what begins so, as the page says, and not its parent."""
    assert service.code("no-folder-token-0", key=key) == code


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"prefix": "data"}, None),
        ({"prefix": "data", "start-after": "zzz"}, None),
        ({"prefix": "dat"}, "forbidden"),
        ({"prefix": ""}, "forbidden"),
        ({}, "forbidden"),
        ({"Prefix": "data"}, "invalid_request"),
        ({"prefix": "data", "list-type": "1"}, "invalid_request"),
        ({"prefix": "data", "prefix\x00": ""}, "invalid_request"),
        ({"prefix": "%64ata"}, "forbidden"),
        ({"start-after": "data", "continuation-token": "x"}, "forbidden"),
    ],
)
def test_listing_shows_no_more_than_the_prefix(service, query, code):
    """A listing without its prefix would show everybody's names."""
    found = service.code(
        "no-folder-token-0", action="ListObjectsV2", key=..., query=query
    )
    assert found == code


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("/examplebucket/public/k", None),
        ("examplebucket/public/k", None),
        ("/examplebucket/public/k?versionId=CAE", "forbidden"),
        ("/examplebucket/public/%2e%2e/private/k", None),  # the odd name that it is
        ("/examplebucket/private/k", "forbidden"),
        ("/examplebucket/data/k", "forbidden"),
        ("//examplebucket/public/k", "forbidden"),
        ("/examplebucket/%70rivate/k", "forbidden"),
        ("/examplebucket%2Fprivate%2Fk", "forbidden"),
        ("/examplebucket/private/k?/examplebucket/public/", "forbidden"),
        ("/examplebucket/private/k%3F/examplebucket/public/", "forbidden"),
        ("\\examplebucket\\public\\k", "forbidden"),
        ("/examplebucket2/public/k", "forbidden"),
        ("/examplebucket/public", "forbidden"),
        ("/EXAMPLEBUCKET/public/k", "forbidden"),
        ("?", "forbidden"),
    ],
)
def test_copy_reads_only_what_it_may(service, source, code):
    """The source is read as the store reads it: escapes decoded once."""
    for name in ("x-oss-copy-source", "X-OSS-Copy-SOURCE"):
        found = service.code(
            "copier-token-0000",
            action="CopyObject",
            content_length=...,
            headers={name: source},
        )
        assert found == code


def test_wished_copy_source_is_none(service):
    """A source that is not demanded could be exchanged for another one."""
    found = service.code(
        "copier-token-0000",
        action="CopyObject",
        content_length=...,
        optional_headers={"x-oss-copy-source": "/examplebucket/public/k"},
    )
    assert found == "invalid_request"


def test_grant_of_copies_does_not_make_a_put_a_copy(service):
    """A token that may copy cannot use the copy header in a PUT."""
    found = service.code(
        "copier-token-0000",
        headers={"x-oss-copy-source": "/examplebucket/public/k"},
    )
    assert found == "header_refused"


MISUSES: list[tuple[str, str, dict[str, str], bytes]] = [
    ("/data/k?", "/data/other?", {}, b"abc"),
    ("/data/k?", "/private/k?", {}, b"abc"),
    ("/data/k?", "/data/../private/k?", {}, b"abc"),
    ("/data/k?", "/data/k%00?", {}, b"abc"),
    ("/examplebucket/", "/otherbucket/", {}, b"abc"),
    ("?", "?acl&", {}, b"abc"),
    ("?", "?tagging&", {}, b"<Tagging/>"),
    ("?", "?symlink&", {"x-oss-symlink-target": "private/k"}, b""),
    ("?", "?append&position=0&", {}, b"abc"),
    ("?", "?uploadId=U&partNumber=1&", {}, b"abc"),
    ("x-oss-expires=3600", "x-oss-expires=86400", {}, b"abc"),
    ("content-length", "host", {}, b"abc"),
    ("", "", {"x-oss-copy-source": "/examplebucket/private/k"}, b""),
    ("", "", {"X-OSS-Object-ACL": "public-read"}, b"abc"),
    ("", "", {"x-oss-callback": "e30="}, b"abc"),
    ("", "", {"x-oss-tagging": "a=b"}, b"abc"),
    ("", "", {"x-oss-storage-class": "Archive"}, b"abc"),
    ("", "", {"x-oss-meta-more": "1"}, b"abc"),
    ("", "", {"x-oss-symlink-target": "private/k"}, b"abc"),
    ("", "", {"Content-Type": "text/html"}, b"abc"),
    ("", "", {"Content-MD5": "kAFQmDzST7DWlj99KOF/cg=="}, b"abc"),
    ("", "", {}, b"four"),
    ("", "", {}, b""),
]


@pytest.mark.parametrize(("old", "new", "headers", "body"), MISUSES)
def test_url_that_is_misused_is_refused_by_the_store(service, old, new, headers, body):
    """Another key, header, parameter, size or life is another signature."""
    result = service.ask()
    url = result["url"].replace(old, new, 1) if old else result["url"]
    sent = {n: v for n, v in result["headers"].items() if n != "Content-Length"}
    before = dict(service.oss.objects("examplebucket").items())
    status, said = service.send("PUT", url, {**sent, **headers}, body)
    assert (status, b"SignatureDoesNotMatch" in said) == (403, True)
    after = service.oss.objects("examplebucket")
    assert dict(after.items()) == before


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_url_is_for_one_method(service, method):
    """Permission to write includes no permission to read or delete."""
    result = service.ask()
    assert service.send(method, result["url"], {}, b"")[0] == 403


def test_size_is_bounded_before_anything_is_signed(service):
    """A lie about the length is caught by the store, the truth by the service."""
    assert service.code(content_length=101) == "too_large"
    assert service.code(content_length=5 << 30) == "too_large"
    for length in ((5 << 30) + 1, 10**299, -1, 3.0, "3", True, None, [3]):
        assert service.code(content_length=length) == "invalid_request"
    assert service.code(expires_in=10**299) == "invalid_request"


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(
        ["data/k", "examplebucket", "PutObject", "\ud800", "data/\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
MEMBERS = st.sampled_from(
    [
        *("action", "bucket", "key", "upload_id", "part_number", "content_length"),
        *("headers", "optional_headers", "query", "expires_in"),
    ]
)


@hypothesis.given(changed=st.dictionaries(MEMBERS, ODD, max_size=3))
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_nothing_that_is_asked_breaks_the_service(service, changed):
    """Any values of a request give a signature or a refusal, never a 500."""
    request = {
        "action": "PutObject",
        "bucket": "examplebucket",
        "key": "data/k",
        "content_length": 3,
        **changed,
    }
    body = json.dumps({"requests": [request, 3]}).encode()
    status, reply = service.call(body)
    assert status == 200, reply
    first, second = reply["results"]
    assert second["error"]["code"] == "invalid_request"
    if "url" in first:
        assert "/examplebucket/data/" in first["url"]
