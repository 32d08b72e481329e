"""The reference signer service: what a policy grants, and nothing else."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from attrs import evolve
from starlette.applications import Starlette

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.errors import (
    ConfigurationError,
    NotCoveredError,
    SignerError,
    SignerUnavailableError,
    TooLargeError,
)
from fsspec_osspresigned.model import Action, SignedRequest
from fsspec_osspresigned.owner.service.app import (
    Policy,
    create_app,
    hash_token,
)
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signers.base import Signer
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import Credentials, Endpoint

NOW = 1_767_225_600.0
WRITER = frozenset(Action) - {Action.DeleteObject, Action.GetObject}
WRITE = Policy(
    name="write",
    prefixes=("examplebucket/data/", "other-bucket/"),
    actions=WRITER,
    max_expires_in=600,
    acls={"private"},
)
ALL = Policy(name="all", prefixes=("examplebucket/",), actions=frozenset(Action))
TOKENS = {hash_token("writer"): WRITE, hash_token("all").upper(): ALL}
KEYS = KeySigner(
    credentials=lambda: Credentials("LTAIfakeid", Secret("fakesecret")),
    endpoint=Endpoint.parse("https://oss-cn-hangzhou.aliyuncs.com"),
    region="cn-hangzhou",
    clock=lambda: NOW,
)


class Picky(Signer):
    """A signer that fails in the way that the key names."""

    failures: ClassVar[dict[str, Exception]] = {
        "config": ConfigurationError("bad region"),
        "large": TooLargeError("too many bytes"),
        "no": NotCoveredError("not this one"),
        "later": SignerUnavailableError("busy", retry_after=7),
        "broken": SignerError("key secret is missing"),
    }

    def sign(self, operations):
        """Sign, or fail for the whole batch."""
        for operation in operations:
            if operation.key in self.failures:
                raise self.failures[operation.key]
        return [
            SignedRequest(
                method=operation.action.method,
                url=f"https://examplebucket.oss-cn-hangzhou.aliyuncs.com/{operation.key}",
            )
            for operation in operations
        ]


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    """The service over an access key."""
    app = create_app(KEYS, tokens=TOKENS)
    with LoopbackServer(app) as found:
        yield found


def send(
    server: LoopbackServer,
    body: Any,
    *,
    token: str | None = "Bearer writer",  # noqa: S107 - made up
    method: str = "POST",
    path: str = "/v1/sign",
) -> tuple[int, Any, http.client.HTTPMessage]:
    """Return status, JSON and headers of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if token is None else {"Authorization": token}
    try:
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read()), reply.headers
    finally:
        connection.close()


def ask(server: LoopbackServer, bearer: str = "writer", **members: Any) -> Any:
    """Return the result of one request; its members differ from a good PutObject."""
    request = {
        "action": "PutObject",
        "bucket": "examplebucket",
        "key": "data/k",
        "content_length": 3,
        **members,
    }
    request = {name: value for name, value in request.items() if value is not ...}
    status, reply, _ = send(server, {"requests": [request]}, token=f"Bearer {bearer}")
    assert status == 200
    assert "fakesecret" not in str(reply)
    (result,) = reply["results"]
    return result


def refusal(server: LoopbackServer, **members: Any) -> tuple[str, str]:
    """Return code and detail of a refused request."""
    error = ask(server, **members)["error"]
    statuses = {"invalid_request": 400, "action_not_granted": 403}
    assert error["status"] == statuses.get(error["code"], 403)
    return error["code"], error["detail"]


def test_service_tells_that_it_lives(server):
    """A load balancer needs no token."""
    status, reply, _ = send(server, b"", token=None, method="GET", path="/healthz")
    assert (status, reply) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    "token",
    [None, "", "Bearer", "Bearer wrong", "Basic writer", "writer", "Bearer \xe9"],
)
def test_unknown_token_is_refused(server, token):
    """Nothing is said about why."""
    status, reply, headers = send(server, {"requests": [{}]}, token=token)
    assert (status, reply["code"]) == (401, "unauthorized")
    assert headers["WWW-Authenticate"] == "Bearer"
    assert headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"[" * 5000, 400, "invalid_request"),
        (b'{"requests":[' + b"{}," * 20_000, 413, "batch_too_large"),
        (b'{"requests":[' + b"[" * 20_000, 413, "batch_too_large"),
        (b'{"requests":[' + b"1," * 20_000, 413, "batch_too_large"),
        (b'{"requests":[' + b'"",' * 30_000, 413, "batch_too_large"),
    ],
)
def test_bad_call_is_refused_as_a_whole(server, body, status, code):
    """An invalid call, or one with too many values, is refused as a whole."""
    found, reply, _ = send(server, body)
    assert (found, reply["code"], reply["status"]) == (status, code, status)


def test_other_places_answer_with_problems(server):
    """A wrong path or method gets problem details, too."""
    for path in ("/v2/sign", "/v1/sign/"):
        status, reply, _ = send(server, b"", path=path)
        assert (status, reply["code"]) == (404, "not_found")
    status, reply, _ = send(server, b"", method="PUT")
    assert (status, reply["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"action": 3}, "action is unknown"),
        ({"action": "PostObject"}, "PostObject is not called by a URL"),
        ({"bucket": "B"}, "not a valid name"),
        ({"key": "/data/k"}, "key"),
        ({"action": "ListObjectsV2"}, "takes no key"),
        ({"action": "ListParts", "upload_id": "u" * 1025}, "1 to 1024 characters"),
        ({"action": "ListParts", "upload_id": "\ud800"}, "1 to 1024 characters"),
        ({"content_length": (5 << 30) + 1}, "content_length must be"),
        ({"headers": {"a": 1}}, "headers must be an object"),
        ({"headers": {"Host": "h", "host": "h"}}, "appears twice"),
        ({"optional_headers": {"Authorization": "x"}}, "may not be set"),
        ({"action": "HeadObject", "query": {"x-oss-process": "x"}}, "no parameter"),
        ({"query": {"x-oss-traffic-limit": "\ud800"}}, "not valid Unicode"),
    ],
)
def test_invalid_request_is_refused(server, members, said):
    """The item alone fails, with its reason; ``check signer`` tries more of them."""
    code, detail = refusal(server, **members)
    assert code == "invalid_request"
    assert said in detail


def test_request_that_is_no_object_is_refused(server):
    """The others of the batch are signed."""
    good = {"action": "HeadObject", "bucket": "examplebucket", "key": "data/k"}
    _, reply, headers = send(server, {"requests": [3, good]})
    assert headers["Cache-Control"] == "no-store"  # they are as good as keys
    assert reply["results"][0]["error"]["detail"] == "a request is a number"
    assert reply["results"][1]["method"] == "HEAD"


def test_action_outside_the_policy_is_not_granted(server):
    """The client may remember that."""
    code, detail = refusal(server, action="DeleteObject")
    assert code == "action_not_granted"
    assert detail.startswith("DeleteObject is not granted: only AbortMultipartUpload, ")
    assert detail.endswith(" and 5 more")
    assert ask(server, "all", action="DeleteObject")["method"] == "DELETE"


def test_v1_signs_no_listing():
    """Its prefix is not signed, so that the URL would list the whole bucket."""
    app = create_app(evolve(KEYS, version="v1"), tokens=TOKENS)
    with LoopbackServer(app) as server:
        assert ask(server)["method"] == "PUT"
        query = {"prefix": "data/"}
        more = {"action": "ListObjectsV2", "key": ..., "query": query}
        code, detail = refusal(server, **more, content_length=...)
        assert (code, detail[:20]) == ("action_not_granted", "V1 signs no prefix: ")


def test_life_is_shortened_to_the_policys(server):
    """A longer lifetime than the policy's is shortened to it."""
    assert ask(server, expires_in=604800)["expires_in"] == 600
    assert ask(server, expires_in=5)["expires_in"] == 5


def picky_app() -> Starlette:
    """The service over a signer that fails."""
    policy = evolve(ALL, prefixes=["examplebucket/"])
    return create_app(Picky(), tokens={hash_token("all"): policy})


def test_failures_of_the_signer_become_item_errors():
    """One bad item does not refuse the others."""
    keys = ["k", "config", "large", "no", "later", "broken"]
    with LoopbackServer(picky_app()) as server:
        requests = [
            {"action": "HeadObject", "bucket": "examplebucket", "key": key}
            for key in keys
        ]
        _, reply, _ = send(server, {"requests": requests}, token="bearer all")
    first, *errors = reply["results"]
    assert set(first) == {"method", "url", "headers"}
    found = [(e["error"]["status"], e["error"]["code"]) for e in errors]
    assert found == [
        (400, "invalid_request"),
        (413, "too_large"),
        (403, "forbidden"),
        (503, "unavailable"),
        (503, "unavailable"),
    ]
    assert errors[3]["error"]["retry_after"] == 7
    assert "secret" not in errors[4]["error"]["detail"]


def test_prefix_must_name_its_bucket():
    """``data`` would also mean every bucket that begins so."""
    with pytest.raises(ConfigurationError, match="'data' must be bucket"):
        evolve(ALL, prefixes=("data", "examplebucket/"))
