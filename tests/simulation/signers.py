"""Signers of a world: two of the user and an HTTP service, which may all fail."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from typing import Any

import requests
import urllib3
from attrs import evolve
from requests.adapters import HTTPAdapter

from fsspec_osspresigned.errors import (
    NotCoveredError,
    SignerError,
    SignerUnavailableError,
)
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service import app as service
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.base import Grant, Signer
from fsspec_osspresigned.signers.keys import KeySigner

from .store import BUCKETS, at_once
from .world import World

_LOOKS = ("GET", "HEAD")
_URL = "https://signer.example"
TOKEN = "simulated-token-1234567890"
_FATES = (
    *("away", "late", "busy", "cut", "garbage", "wrong", "expired", "refused"),
)  # fmt: skip


class UserSigner(Signer):
    """A signer of the user; it takes time and may fail. *looks* False signs no reads."""

    def __init__(self, world: World, *, looks: bool = True) -> None:
        self._keys, self._world = key_signer(), world
        self._looks = looks
        self.invalidated: list[str] = []  # methods of URLs that the store refused

    def invalidate(self, refused: Any) -> None:
        self.invalidated.append(refused.method)

    def sign(self, operations: Any) -> Any:
        dice = self._world.random
        time.sleep(dice.expovariate(100))
        if dice.random() < self._world.signer_faults:
            raise SignerUnavailableError(
                "the signer is unavailable", path=operations[0].path
            )
        for operation in operations:
            if not self._looks and operation.action.method in _LOOKS:
                raise NotCoveredError("no reads", path=operation.path)
        signed = self._keys.sign(operations)
        if dice.random() < self._world.signer_faults:
            time.sleep(dice.expovariate(0.1))
        return signed


class ManySigner(UserSigner):
    """A remote signer of the user; it signs many operations at once, or refuses some."""

    remote = True

    def sign_each(self, operations: Any) -> Any:
        self._world.signer_calls += 1
        if self._world.signer_replies:
            status, problem = self._world.signer_replies.pop(0)
            raise SignerError(problem["detail"], status=status)
        signed = list(self.sign(operations))
        dice = self._world.random
        for index, operation in enumerate(operations):
            if dice.random() < self._world.signer_faults / 4:
                signed[index] = NotCoveredError(
                    "this request is refused", path=operation.path
                )
        return signed


class BadSigner(UserSigner):
    """A signer of the user that describes its requests with *changes*, often wrongly."""

    def __init__(self, world: World, **changes: Any) -> None:
        super().__init__(world)
        self._changes = changes

    def sign(self, operations: Any) -> Any:
        return [evolve(one, **self._changes) for one in super().sign(operations)]


class MiscountingSigner(ManySigner):
    """A signer of the user that gives *more* answers than it is asked for, or fewer."""

    def __init__(self, world: World, more: int, *, remote: bool) -> None:
        super().__init__(world)
        self._more, self.remote = more, remote

    def sign(self, operations: Any) -> Any:
        signed = [*super().sign(operations)]
        return [*signed, *signed][: len(signed) + self._more]


class GrantingSigner(UserSigner):
    """A signer of the user that permits only some ways to upload."""

    def __init__(self, world: World, **facts: Any) -> None:
        super().__init__(world)
        self._grant = Grant(**facts)

    def grant(self, _: str) -> Grant:
        return self._grant


class LaxSigner(UserSigner):
    """A signer of the user that signs no reads, and drops all optional headers."""

    def __init__(self, world: World) -> None:
        super().__init__(world, looks=False)

    def sign(self, operations: Any) -> Any:
        return super().sign([evolve(one, optional_headers={}) for one in operations])


class KeepingSigner(UserSigner):
    """A signer of the user that signs no deletions."""

    def sign(self, operations: Any) -> Any:
        for operation in operations:
            if operation.action is Action.DeleteObject:
                raise NotCoveredError("no deletions", path=operation.path)
        return super().sign(operations)


def http_options(world: World) -> dict[str, Any]:
    """Return the options for a signer service of the package, in this world."""
    policy = Policy(
        name="simulated",
        prefixes=tuple(f"{name}/" for name in BUCKETS),
        actions=list(Action),
        max_part_size=8 * 1024 * 1024,
    )
    call = _Service(world, policy).call

    def send(_: HTTPAdapter, request: Any, **given: Any) -> requests.Response:
        return call(request, given["timeout"][1])

    HTTPAdapter.send = send  # type: ignore[method-assign, assignment]
    os.environ["OSSPRESIGNED_TOKEN"] = TOKEN
    return {"signer": _URL, "signer_token": "env:OSSPRESIGNED_TOKEN"}


class _Service:
    """The package's signer service, behind a connection that may fail."""

    def __init__(self, world: World, policy: Policy) -> None:
        self._world = world
        tokens = {hash_token(TOKEN): policy}
        self._app = service.create_app(key_signer(), tokens=tokens)
        self._expired = service.create_app(key_signer(expires_in=1), tokens=tokens)

    def call(self, request: Any, patience: float | None) -> requests.Response:
        self._world.signer_calls += 1
        if self._world.signer_replies:
            status, problem = self._world.signer_replies.pop(0)
            if not status:
                raise requests.ConnectionError("Connection refused")
            return _response(status, json.dumps(problem).encode())
        dice = self._world.random
        fate = (
            dice.choice(_FATES) if dice.random() < self._world.signer_faults else "ok"
        )
        time.sleep(dice.expovariate(50))
        if fate == "away":
            raise requests.ConnectionError("Connection refused")
        if fate == "late":
            time.sleep(patience or 60.0)
            cause = urllib3.exceptions.ReadTimeoutError(_URL, "", "Read timed out")  # type: ignore[arg-type]
            raise requests.ReadTimeout(cause)
        if fate == "busy":
            return _response(503, b"{}")
        if fate == "refused":
            escaped = TOKEN.replace("-", r"\u002d")  # the reply repeats the token
            text = f'{{"code": "forbidden", "detail": "not now, {escaped}"}}'
            return _response(403, text.encode())
        status, body = self._answer(request, is_expired=fate == "expired")
        if fate == "expired":
            time.sleep(2.0)
        if fate == "cut":
            body = body[: len(body) // 2]
        if fate == "garbage":
            body = f"<html>{TOKEN}".encode()
        if fate == "wrong" and status == 200:  # the reply signs other objects
            results = json.loads(body)
            results["results"].reverse()
            body = json.dumps(results).encode()
        return _response(status, body)

    def _answer(self, request: Any, *, is_expired: bool) -> tuple[int, bytes]:
        app = self._expired if is_expired else self._app
        parts: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body or b""}

        async def send(message: Any) -> None:
            parts.append(message)

        headers = [
            (name.lower().encode(), value.encode())
            for name, value in request.headers.items()
        ]
        path, _, query = request.path_url.partition("?")
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }
        at_once(app(scope, receive, send))
        body = b"".join(part.get("body", b"") for part in parts)
        return parts[0]["status"], body


def _response(status: int, body: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    kind = "application/json" if status < 300 else "application/problem+json"
    response.headers["Content-Type"] = kind
    response.raw = urllib3.HTTPResponse(io.BytesIO(body), preload_content=False)
    return response


async def _in_this_thread(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


service.run_in_threadpool = _in_this_thread


def key_signer(**options: Any) -> KeySigner:
    return KeySigner.from_options(**options)
