"""Uploads through a signer that is broken or hostile: an error, and not one byte sent.

The signatures are good ones, made with the store's own key, so that nothing but the
client's own rules keeps the bytes on this machine.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from attrs import frozen

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.errors import OSSPresignedError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.units import KIB
from tests.owner_keys import owner_signer

pytestmark = pytest.mark.slow

TOKEN = "tokenCANARYtoken"
WITH_BYTES = ("PutObject", "UploadPart")

Item = dict[str, Any]


@frozen(kw_only=True)
class Answer:
    """The signer's reply; None is never sent, and an endless one is sent slowly."""

    body: bytes | None
    endless: bool = False
    status: int = 200
    headers: Mapping[str, str] = {}


class Hostile:
    """A signer that signs truly what it was not requested.

    Attributes:
        spoil: (request, right result) -> another result.
        answer: (results) -> what is sent.
    """

    def __init__(self, oss: Emulator) -> None:
        self.oss = oss
        self.spoil: Callable[[Hostile, Item, Item], Any] = lambda *_: None
        self.answer: Callable[[list[Any]], Answer] | None = None
        self.calls = 0

    def sign(self, request: Mapping[str, Any], ago: float = 0.0) -> Item:
        """Return a true signature for *request*, made *ago* seconds ago."""
        signer = owner_signer(self.oss, clock=lambda: time.time() - ago)
        members = {**request, "action": Action(request["action"])}
        (signed,) = signer.sign([Operation(**members)])
        return {
            "method": signed.method,
            "url": signed.url.reveal(),
            "headers": dict(signed.headers),
            "expires_in": 900,
        }

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        """Answer one call (ASGI)."""
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.calls += 1
        requests = json.loads(body)["requests"]
        asks_for_bytes = any(r["action"] in WITH_BYTES for r in requests)
        results = [
            self.spoil(self, request, self.sign(request))
            if request["action"] in WITH_BYTES
            else self.sign(request)
            for request in requests
        ]
        answer = Answer(body=json.dumps({"results": results}).encode())
        if asks_for_bytes and self.answer is not None:
            answer = self.answer(results)
        if answer.body is None:
            await asyncio.Event().wait()
        headers = {"content-type": "application/json", **answer.headers}
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(n.encode(), v.encode()) for n, v in headers.items()],
            }
        )
        body = {"type": "http.response.body", "body": answer.body}
        while answer.endless:
            await send({**body, "more_body": True})
            await asyncio.sleep(0.02)
        await send(body)


@pytest.fixture
def elsewhere() -> Iterator[Emulator]:
    """The bucket to which a hostile signer directs the bytes; it has the same key."""
    with Emulator(buckets=("examplebucket", "other-bucket")) as oss:
        yield oss


def members(**changes: Any) -> Callable[..., Item]:
    """Answer with other members."""
    return lambda _, __, result: {**result, **changes}


def headers(**changes: Any) -> Callable[..., Item]:
    """Answer with more headers; ``__`` in a name stands for a dash."""
    more = {name.replace("__", "-"): value for name, value in changes.items()}
    return lambda _, __, result: {
        **result,
        "headers": {**result["headers"], **more},
    }


def url(change: Callable[[str], str]) -> Callable[..., Item]:
    """Answer with another URL."""
    return lambda _, __, result: {**result, "url": change(result["url"])}


def signs(**changes: Any) -> Callable[..., Item]:
    """Sign another request than the one that was asked for."""
    return lambda signer, request, _: signer.sign({**request, **changes})


def expired(signer: Hostile, request: Item, _: Item) -> Item:
    """Answer with a URL that ended an hour ago, and say nothing about it."""
    result = signer.sign({**request, "expires_in": 60}, ago=3660)
    del result["expires_in"]
    return result


ITEMS = {
    "other host": (url(lambda u: u.replace("127.0.0.1", "localhost")), "allowed_hosts"),
    "host that resembles": (
        url(
            lambda _: (
                "https://examplebucket.oss-cn-hangzhou.aliyuncs.com.evil.example/data/k"
            )
        ),
        "allowed_hosts",
    ),
    "other service there": (
        url(lambda u: "https://examplebucket.cn-hangzhou.fc.aliyuncs.com/k?a=b"),
        "allowed_hosts",
    ),
    "other key": (signs(key="secret/other"), "is not that of"),
    "odd key": (signs(key="data/../data/k"), "is not that of"),
    "other bucket": (signs(bucket="other-bucket"), "is not that of"),
    "bucket in the host": (
        url(lambda u: "https://other-bucket.oss-cn-hangzhou.aliyuncs.com/data/k?a=b"),
        "belongs to bucket 'other-bucket'",
    ),
    "http": (
        url(lambda u: "http://examplebucket.oss-cn-hangzhou.aliyuncs.com/data/k?a=b"),
        "plain http",
    ),
    "other scheme": (
        url(lambda u: u.replace("http", "ftp", 1)),
        "not an absolute http",
    ),
    "userinfo": (
        url(lambda u: u.replace("://", "://examplebucket:CANARY@", 1)),
        "user information",
    ),
    "fragment": (url(lambda u: u + "#x"), "fragment"),
    "blank": (url(lambda u: u.replace("?", "? ", 1)), "contains a blank"),
    "line break": (url(lambda u: u + "\r\nX-A: b"), "contains a blank, a control"),
    "other call": (
        url(lambda u: u + "&acl"),
        "'acl' may turn the URL into another call",
    ),
    "parameter twice": (
        url(lambda u: u + "&partNumber=1&partNumber=1"),
        "appears twice",
    ),
    "endless URL": (url(lambda u: u + "&a=" + "b" * 17_000), "longer than"),
    "other method": (members(method="DELETE"), "method is not PUT"),
    "CR/LF in a value": (headers(X__A="a\r\nX-B: c"), "not printable ASCII"),
    "CR/LF in a name": (headers(**{"X-A\r\nX-B": "c"}), "not an HTTP token"),
    "header twice": (headers(X__A="1", x__a="2"), "appears twice"),
    "endless headers": (headers(X__A="a" * 9_000), "longer than"),
    "Host": (headers(Host="evil.example.com"), "only if it is signed"),
    "Content-Length": (headers(Content__Length="1"), "only if it is signed"),
    "Transfer-Encoding": (headers(Transfer__Encoding="chunked"), "may not be set"),
    "Authorization": (headers(Authorization="OSS a:b"), "may not be set"),
    "Cookie": (headers(Cookie="a=b"), "may not be set"),
    "Connection": (headers(connection="close"), "may not be set"),
    "Expect": (headers(EXPECT="100-continue"), "may not be set"),
    "Proxy-*": (headers(Proxy__Authorization="x"), "may not be set"),
    "copy source": (
        headers(x__oss__copy__source="/examplebucket/secret"),
        "was not requested",
    ),
    "ACL": (headers(X__OSS__Object__ACL="public-read"), "was not requested"),
    "symlink": (headers(x__oss__symlink__target="secret"), "was not requested"),
    "expired by its word": (members(expires_in=0), "not positive"),
    "expired by its URL": (expired, "had expired when it arrived"),
    "null result": (lambda *_: None, "is null"),
    "null method": (members(method=None), "method is null"),
    "null URL": (members(url=None), "url is"),
    "null headers": (members(headers=None), "headers is null"),
    "null header": (headers(X__A=None), "not a string"),
    "null life": (members(expires_in=None), "not a whole number"),
    "null error": (members(error=None), "error has no status"),
    "list": (lambda *_: [], "is a list"),
    "refusal": (
        lambda *_: {"error": {"status": 403, "code": "forbidden"}},
        "forbidden",
    ),
}


DEMANDS = {
    "changed": (headers(x__oss__meta__owner="somebody else"), "x-oss-meta-owner"),
    "dropped": (members(headers={}), "x-oss-meta-owner"),
}


def sends(body: bytes | None, status: int = 200, **headers: str) -> Any:
    """Answer with something else."""
    return lambda _: Answer(body=body, status=status, headers=headers)


def results(change: Callable[[list[Any]], Any]) -> Any:
    """Answer with other results."""
    return lambda found: Answer(body=json.dumps({"results": change(found)}).encode())


REPLIES = {
    "redirect": (
        sends(b"", 307, location="http://localhost:1/v1/sign"),
        "redirects are not followed",
    ),
    "see other": (sends(b"", 303, location="/v1/sign"), "redirects are not followed"),
    "fifty megabytes": (sends(b" " * 50_000_000), "more than 4194304 bytes"),
    "fifty megabytes of refusal": (
        sends(b" " * 50_000_000, 500),
        "HTTP 500",
    ),
    "deep JSON": (sends(b"[" * 1_000_000), "nested too deeply"),
    "deeper than allowed": (
        sends(b'{"results": ' + b"[" * 30 + b"]" * 30 + b"}"),
        "nested deeper than",
    ),
    "no JSON": (sends(b"<html>sign in</html>"), "not JSON"),
    "no text": (sends(b"\xff\xfe"), "not UTF-8"),
    "nothing": (sends(b""), "not JSON"),
    "NaN": (sends(b'{"results": [NaN]}'), "not a JSON number"),
    "endless number": (sends(b'{"results": [' + b"1" * 9_999 + b"]}"), "digits"),
    "member twice": (sends(b'{"results": [], "results": []}'), "appears twice"),
    "null": (sends(b"null"), "no list of results"),
    "null results": (results(lambda _: None), "no list of results"),
    "too few": (results(lambda found: found[1:]), "results for"),
    "too many": (results(lambda found: found + found[:1]), "results for"),
    "thousands": (results(lambda found: found * 1000), "results for"),
    "unauthorized": (sends(b"{}", 401), "HTTP 401"),
}


def upload(
    signer: Hostile, elsewhere: Emulator, *, parts: bool, patience: float = 30.0
) -> OSSPresignedError:
    """Return what an upload raises, after checking that no byte went anywhere."""
    secret = b"user bytes " * 20_000
    with LoopbackServer(signer) as server:
        fs = OSSPresignedFileSystem(
            signer=server.url,
            metadata={"owner": "me"},
            part_size=100 * KIB,
            multipart_threshold=100 * KIB if parts else 1024 * KIB,
            retries=0,
            timeout=(5, patience),
            skip_instance_cache=True,
        )
        with pytest.raises(OSError) as caught:
            fs.pipe_file("examplebucket/data/k", secret)
    assert isinstance(caught.value, OSSPresignedError)
    assert signer.calls > 0
    for oss in (signer.oss, elsewhere):
        assert [r for r in oss.requests if r.action in WITH_BYTES or r.bytes] == []
        assert list(oss.objects("examplebucket")) == []
    assert "x-oss-signature=" not in str(caught.value)
    assert "CANARY" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
@pytest.mark.parametrize("name", ITEMS)
def test_hostile_result_sends_no_byte(oss, elsewhere, name, parts):
    """The error names the rule that the signer broke."""
    signer = Hostile(oss)
    signer.spoil, said = ITEMS[name]
    assert said in str(upload(signer, elsewhere, parts=parts))


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
@pytest.mark.parametrize("name", REPLIES)
def test_hostile_reply_sends_no_byte(oss, elsewhere, name, parts):
    """The error names the rule that the signer broke."""
    signer = Hostile(oss)
    signer.spoil = lambda _, __, result: result
    signer.answer, said = REPLIES[name]
    assert said in str(upload(signer, elsewhere, parts=parts))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"upload_id": "another"}, "'uploadId' of the URL differs from the request"),
        ({"part_number": 9999}, "'partNumber' of the URL differs from the request"),
        ({"action": "PutObject", "upload_id": None, "part_number": None}, "is missing"),
    ],
)
def test_part_goes_to_no_other_place(oss, elsewhere, changes, said):
    """URLs of another upload, of another part, or of the whole object."""
    signer = Hostile(oss)
    signer.spoil = signs(**changes)
    assert said in str(upload(signer, elsewhere, parts=True))


@pytest.mark.parametrize("name", DEMANDS)
def test_demanded_header_that_does_not_come_back_sends_no_byte(oss, elsewhere, name):
    """An object without what its writer demanded is not written at all."""
    signer = Hostile(oss)
    signer.spoil, said = DEMANDS[name]
    assert said in str(upload(signer, elsewhere, parts=False))


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "parts"])
@pytest.mark.parametrize("body", [None, b" "], ids=["silent", "dripping"])
def test_signer_that_never_answers_is_given_up(oss, elsewhere, parts, body):
    """No upload waits forever."""
    signer = Hostile(oss)
    signer.spoil = lambda _, __, result: result
    signer.answer = lambda _: Answer(body=body, endless=body is not None)
    # A busy machine drips slowly: that must not pass for silence.
    patience = 0.1 if body is None else 0.5
    error = upload(signer, elsewhere, parts=parts, patience=patience)
    assert "no answer from the signer at 127.0.0.1" in str(error)
    assert ("took too long in all" in str(error)) is (body is not None)


def test_results_in_another_order_send_no_byte(oss, elsewhere):
    """Each result is bound to the request in its place."""
    signer = Hostile(oss)
    signer.spoil = lambda _, __, result: result
    signer.answer = results(lambda found: found[1:] + found[:1])
    assert "differs from the request" in str(upload(signer, elsewhere, parts=True))
