"""The client of the signer protocol, against good, broken and hostile signers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NotCoveredError,
    OSSPresignedError,
    SignerError,
    SignerUnavailableError,
    TooLargeError,
    WrongRequestSignedError,
)
from fsspec_osspresigned.http.json_service import JSONService
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.base import sign_checked
from fsspec_osspresigned.signers.http import HTTPSigner
from tests.loopback_server import LoopbackServer

NOW = 1_767_225_600.0
TOKEN = "tokenCANARYtoken"


class Broken(LoopbackServer):
    """A signer whose every answer is decided by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.url += "/sub"
        self.calls: list[list[dict[str, Any]]] = []
        self.tokens: list[str | None] = []
        self.answers: list[Callable[[list[dict[str, Any]]], Any]] = []

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        size = int(request.headers["Content-Length"])
        requests = json.loads(request.rfile.read(size))["requests"]
        self.calls.append(requests)
        self.tokens.append(request.headers["Authorization"])
        assert request.path == "/sub/v1/sign"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        found = answer(requests)
        if not isinstance(found, tuple):
            found = (200, {}, found)
        status, headers, body = found
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)


class Time:
    """A clock that moves only when a test moves it."""

    now = NOW

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def broken() -> Iterator[Broken]:
    """A signer of the test's own."""
    with Broken() as server:
        yield server


@pytest.fixture
def clock() -> Time:
    """A clock of the test's own."""
    return Time()


@pytest.fixture
def service() -> JSONService:
    """Real connections that give up soon."""
    return JSONService(progress_timeout=5.0)


@pytest.fixture
def signer(broken: Broken, clock: Time, service: JSONService) -> HTTPSigner:
    """The client of the broken signer."""
    return HTTPSigner(
        broken.url,
        exchange=service.exchange,
        token=lambda: Secret(TOKEN),
        clock=clock,
    )


def put(key: str = "k", **members: Any) -> Operation:
    """Return a PutObject."""
    members = {
        "action": Action.PutObject,
        "bucket": "b",
        "content_length": 3,
        **members,
    }
    return Operation(key=key, **members)


def url(key: str = "k") -> str:
    """Return a URL of the object."""
    return f"https://b.oss-cn-hangzhou.aliyuncs.com/{key}?Signature=CANARY"


def good(request: dict[str, Any]) -> dict[str, Any]:
    """Return the right result for a request."""
    return {
        "method": "PUT",
        "url": url(request["key"]),
        "headers": request.get("headers", {}),
        "expires_in": 900,
    }


def all_good(requests: list[dict[str, Any]]) -> Any:
    """Return the right reply."""
    return {"results": [good(r) for r in requests], "unknown": 1}


def result(**members: Any) -> Callable[[Any], Any]:
    """Return an answer that differs from the right one in *members*."""
    return lambda requests: {"results": [{**good(r), **members} for r in requests]}


def refused(status: int, code: str, **members: Any) -> Callable[[Any], Any]:
    """Return an answer that refuses the item."""
    error = {"status": status, "code": code, **members}
    return lambda requests: {"results": [{"error": error} for _ in requests]}


def fails(status: int, code: str = "", **headers: str) -> Callable[[Any], Any]:
    """Return an answer that refuses the call."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    problem = {"status": status, "code": code, "detail": f"see {url()}"}
    return lambda _: (
        status,
        {"Content-Type": "application/problem+json", **names},
        problem,
    )


def failure(signer: HTTPSigner, *operations: Operation) -> OSSPresignedError:
    """Return the error of signing, after checking that it shows no secret."""
    with pytest.raises(OSSPresignedError) as caught:
        signer.sign(operations or [put()])
    assert "CANARY" not in str(caught.value)
    assert caught.value.path == "b/k"
    return caught.value


def test_call_says_what_is_wanted(broken, signer):
    """The body holds what the operation says and nothing else."""
    limited = {"url": url() + "&x-oss-traffic-limit=819200"}
    broken.answers = [lambda rs: {"results": [good(rs[0]) | limited, good(rs[1])]}]
    operation = put(
        headers={"x-oss-meta-a": "1"},
        optional_headers={"Content-Type": "a/b"},
        query={"x-oss-traffic-limit": "819200"},
        expires_in=60,
    )
    assert len(sign_checked(signer, [operation, put("l")])) == 2
    assert broken.calls == [
        [
            {
                "action": "PutObject",
                "bucket": "b",
                "key": "k",
                "content_length": 3,
                "expires_in": 60,
                "headers": {"x-oss-meta-a": "1"},
                "optional_headers": {"Content-Type": "a/b"},
                "query": {"x-oss-traffic-limit": "819200"},
            },
            {"action": "PutObject", "bucket": "b", "key": "l", "content_length": 3},
        ]
    ]
    assert broken.tokens == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize("seconds", [100, 901])
def test_the_time_that_a_slow_signer_takes_is_part_of_the_life(
    broken, signer, clock, seconds
):
    """The signer may have signed right after the call was sent."""

    def slow(requests: list[dict[str, Any]]) -> Any:
        clock.now += seconds
        return all_good(requests)

    broken.answers = [slow]
    if seconds > 900:
        assert "had expired when it arrived" in str(failure(signer))
    else:
        (request,) = signer.sign([put()])
        assert (request.issued_at, request.expires_at) == (NOW, NOW + 900)


def test_life_is_read_from_the_url_only_where_it_is_not_said(broken, signer):
    """The expiry of a V1 URL is read from the URL."""
    late = url() + f"&OSSAccessKeyId=i&Expires={int(NOW) + 50}"

    def answer(requests):
        results = all_good(requests)["results"]
        results[0]["url"] = late
        del results[0]["expires_in"], results[0]["headers"]
        return {"results": results}

    broken.answers = [
        answer,
        result(),
        lambda rs: {"results": [{"method": "PUT", "url": url()}]},
    ]
    (request,) = signer.sign([put()])
    assert request.expires_at == NOW + 50
    assert request.headers == {}
    assert signer.sign([put()])[0].expires_at == NOW + 900
    assert signer.sign([put()])[0].expires_at is None


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"results": [{"method": "PUT"}]}, "url is missing"),
        (
            {"results": [{"method": "PUT", "url": "u", "headers": []}]},
            "headers is a list",
        ),
        (
            {"results": [{"method": "PUT", "url": "u", "expires_in": True}]},
            "expires_in is not a whole number",
        ),
        ({"results": [{"error": {"status": "403"}}]}, "error has no status"),
    ],
)
def test_broken_reply_is_refused_as_a_whole(broken, signer, reply, said):
    """A signer that does not speak the protocol is named as such.

    ``tests/attack/test_hostile_signer.py`` has what is hostile on purpose.
    """
    broken.answers = [lambda _: reply]
    error = failure(signer)
    assert type(error) is SignerError
    assert said in error.message


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalid_request", ConfigurationError),
        (403, "action_not_granted", NotCoveredError),
        (403, "forbidden", NotCoveredError),
        (403, "header_refused", NotCoveredError),
        (413, "too_large", TooLargeError),
        (400, "whatever", ConfigurationError),
        (401, "", NotCoveredError),
        (403, "whatever", NotCoveredError),
        (413, "", TooLargeError),
        (404, "", SignerError),
    ],
)
def test_item_errors_have_their_classes(broken, signer, status, code, kind):
    """The table of the protocol, unknown codes by their status."""
    broken.answers = [refused(status, code, detail=f"see {url()}\n{TOKEN}")]
    error = failure(signer)
    assert type(error) is kind
    assert (error.status, error.code, error.action) == (
        status,
        code or None,
        "PutObject",
    )
    assert "see https://b.oss-cn-hangzhou.aliyuncs.com/k?..." in error.message
    if isinstance(error, NotCoveredError):
        assert error.final is (code == "action_not_granted")
    assert len(broken.calls) == 1


def test_refusal_of_parts_names_what_parts_need(broken, signer):
    """A policy that grants PutObject only stores nothing large: the message says why."""
    broken.answers = [refused(403, "action_not_granted")]
    error = failure(signer, look(Action.InitiateMultipartUpload))
    assert (
        "above multipart_threshold= (8 MiB) go in parts: ask for Init" in error.message
    )
    broken.answers = [refused(403, "action_not_granted")]
    assert "threshold" not in failure(signer, look(Action.PutObject)).message


def look(action: Action, bucket: str = "b", key: str = "k") -> Operation:
    """Return a call on an object."""
    return Operation(action=action, bucket=bucket, key=key)


@pytest.mark.parametrize(
    "action", [Action.HeadObject, Action.GetObject, Action.ListObjectsV2]
)
def test_refusal_of_looking_is_remembered_for_5_seconds(broken, signer, clock, action):
    """A loop over many names costs one call, and a new grant is seen soon."""
    broken.answers = [refused(403, "action_not_granted", detail="sorry")]
    first = failure(signer, look(action))
    for key in ("l", "m"):
        with pytest.raises(NotCoveredError, match="sorry") as caught:
            signer.sign([look(action, key=key)])
        assert caught.value.final
        assert (caught.value.path, caught.value.code) == (f"b/{key}", first.code)
    clock.now += 4.9
    failure(signer, look(action))
    assert len(broken.calls) == 1
    clock.now += 0.1
    failure(signer, look(action))
    assert len(broken.calls) == 2
    clock.now -= 60  # set back: nobody knows how old the refusal is
    failure(signer, look(action))
    assert len(broken.calls) == 3


def test_one_refused_item_fails_a_batch(broken, signer):
    """The error names the item, not the first of the batch."""
    broken.answers = [
        lambda rs: {
            "results": [good(rs[0]), refused(403, "forbidden")([1])["results"][0]]
        }
    ]
    with pytest.raises(NotCoveredError, match="PutObject of b/l: forbidden") as caught:
        signer.sign([put(), put("l")])
    assert caught.value.path == "b/l"


def test_token_is_read_again_once(broken, clock, service):
    """A token that was renewed meanwhile is found."""
    tokens = ["old", "new", "newer"]
    signer = HTTPSigner(
        broken.url,
        exchange=service.exchange,
        token=lambda: Secret(tokens.pop(0)),
        clock=clock,
    )
    broken.answers = [fails(401, "unauthorized"), all_good]
    assert signer.sign([put()])
    assert broken.tokens == ["Bearer old", "Bearer new"]


def test_missing_token_is_found_before_the_call(broken, service):
    """Nothing is sent without the token that the user named."""

    def missing() -> Secret:
        raise ConfigurationError("not set")

    signer = HTTPSigner(broken.url, exchange=service.exchange, token=missing)
    assert failure(signer).message == "not set"
    assert broken.calls == []


def test_too_large_batch_is_halved(broken, signer):
    """A signer may take fewer than a hundred at once."""

    def few(requests):
        return all_good(requests) if len(requests) <= 2 else fails(413)(requests)

    broken.answers = [few]
    operations = [put(f"k{n}") for n in range(7)]
    found = signer.sign(operations)
    assert [r.url.shown().rpartition("/")[2][:2] for r in found] == [
        o.key for o in operations
    ]
    assert [len(call) for call in broken.calls] == [7, 3, 1, 2, 4, 2, 2]


def test_large_batches_are_split_by_count_and_size(broken, signer):
    """At most a hundred requests and one MiB a call."""
    broken.answers = [all_good]
    assert len(signer.sign([put(f"k{n}") for n in range(250)])) == 250
    assert [len(call) for call in broken.calls] == [100, 100, 50]
    broken.calls.clear()
    big = {"x-oss-meta-a": "v" * 7000}
    broken.answers = [lambda rs: {"results": [{**good(r), "headers": {}} for r in rs]}]
    heavy = [
        put(f"k{n}", headers=big, query={f"q{m}": "v" * 9000 for m in range(2)})
        for n in range(90)
    ]
    with pytest.raises(WrongRequestSignedError, match="'q0' is missing"):
        signer.sign(heavy)
    assert [len(call) for call in broken.calls] == [41, 41, 8]


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize(
    ("after", "wait"),
    [("11", 11.0), ("-1", None), ("soon", None), ("99999999", None)],
)
def test_busy_signer_says_how_long_to_wait(broken, signer, status, after, wait):
    """One call only; a nonsensical wait does not stop an upload forever."""
    broken.answers = [fails(status, "rate_limited", Retry_After=after)]
    error = failure(signer)
    assert isinstance(error, SignerUnavailableError)
    assert (error.retry_after, error.status) == (wait, status)
    assert len(broken.calls) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b"<html>"])
def test_error_without_problem_details_goes_by_its_status(broken, signer, body):
    """Proxies in between speak HTML, or worse."""
    broken.answers = [lambda _: (404, {"Content-Type": "application/json"}, body)]
    assert "HTTP 404; check its URL" in failure(signer).message
    broken.answers = [lambda _: (418, {}, b"")]
    assert failure(signer).message.endswith("HTTP 418")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("https://sign.example.com/?a=CANARY", "has a query"),
        (
            "https://sign.example.com/#token=CANARY&b/",
            "the text after token= is the token",
        ),
        ("https://u:CANARY@sign.example.com", "user information"),
        ("http://sign.example.com", "plain http"),
        ("sign.example.com", "absolute http"),
    ],
)
def test_bad_signer_url_is_refused(where, said, service):
    """The mistake is found before the first call."""
    with pytest.raises(ConfigurationError, match=said) as caught:
        HTTPSigner(where, exchange=service.exchange)
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "why"),
    [("", "name an object"), ("a\udcff", "lone surrogate"), ("k" * 1024, "1024 bytes")],
)
def test_no_signer_is_asked_about_a_key_that_cannot_be(broken, signer, key, why):
    """The error says what to write, and the others of the call are signed."""
    broken.answers = [result(url="https://b.oss-cn-hangzhou.aliyuncs.com/k")]
    with pytest.raises(ConfigurationError, match=why):
        signer.sign([put(key)])
    assert broken.calls == []
    refused, signed = signer.sign_each([put(key), put()])
    assert isinstance(refused, ConfigurationError)
    assert signed.method == "PUT"
    assert [len(call) for call in broken.calls] == [1]
