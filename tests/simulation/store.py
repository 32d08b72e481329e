"""The store of a world: the emulator's store, without its sockets.

It verifies each signature, and keeps the history of each object.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from fsspec_osspresigned.emulator.app import App
from fsspec_osspresigned.emulator.messages import (
    RefusedError,
    error_reply,
    http_date,
)
from fsspec_osspresigned.emulator.settings import (
    Clock,
    EmulatorSettings,
    accept_callback,
)
from fsspec_osspresigned.emulator.store import Store
from fsspec_osspresigned.emulator.table import read_call
from fsspec_osspresigned.emulator.wire import IncomingBody
from fsspec_osspresigned.signing import Credentials

from .model import Model
from .world import Broken, World

KEY = Credentials("LTAI5tSimulated", "simulated-secret-1234567890")
REGION = "cn-hangzhou"
HOST = "oss-cn-hangzhou.aliyuncs.com"
BUCKETS = ("data", "logs")
DOMAIN = "files.example.com"  # a host of the first bucket


@frozen
class Commit:
    """A change of one object in the store; *data* None is a deletion; times in seconds."""

    at: float
    bucket: str
    key: str
    data: bytes | None
    is_damaged: bool  # True if a bit was altered on the way
    sent_at: float = 0.0  # time when the client had sent the whole request
    facts: Mapping[str, Any] = field(factory=dict)  # facts that ``info`` must return


class SimulatedStore(Store):
    """The emulator's store, with a history of all commits."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Commit] = []
        self.damages_next = self.damages_copy = False
        self.sent_at = 0.0
        self.opened: dict[str, float] = {}  # upload ID -> time when it was initiated
        self.damaged_parts: set[str] = set()

    def put(self, bucket: Any, stored: Any, *, exclusive: bool = False) -> Any:
        if self.damages_copy and stored.size:
            data = stored.data()
            with self.spool() as spool:
                spool.write(data[:-1] + bytes([data[-1] ^ 1]))
                piece = spool.finish()
            sums = {"crc64": piece.crc64, "md5": piece.md5, "etag": piece.etag}
            stored = evolve(stored, body=(piece.body,), **sums)
        stored = super().put(bucket, stored, exclusive=exclusive)
        damaged = self.damages_next
        data, at = stored.data(), self.sent_at
        facts = {
            "size": stored.size,
            "ETag": stored.etag,
            "crc64": stored.crc64,
            "LastModified": datetime.fromtimestamp(int(stored.modified), UTC),
            "ContentType": stored.headers.get("content-type"),
            "StorageClass": stored.headers.get("x-oss-storage-class", "Standard"),
        }
        self._note(Commit(_now(), bucket.name, stored.key, data, damaged, at, facts))
        return stored

    def add_part(self, upload: Any, part: Any, *, ec: str) -> None:
        super().add_part(upload, part, ec=ec)
        if self.damages_next:
            self.damaged_parts.add(upload.upload_id)

    def complete(self, upload: Any, stored: Any, *, exclusive: bool) -> Any:
        self.damages_next |= upload.upload_id in self.damaged_parts
        return super().complete(upload, stored, exclusive=exclusive)

    def drop(self, bucket: Any, key: str, *args: Any, **facts: Any) -> Any:
        gone = super().drop(bucket, key, *args, **facts)
        if gone is not None:
            self._note(Commit(_now(), bucket.name, key, None, is_damaged=False))
        return gone

    def initiate(self, upload: Any) -> None:
        super().initiate(upload)
        self.opened[upload.upload_id] = _now()

    def _note(self, commit: Commit) -> None:
        self.history.append(commit)
        sum_ = None if commit.data is None else zlib.crc32(commit.data)
        World.current.note(commit.at, commit.key, sum_)  # type: ignore[union-attr]

    def commits(self, path: str) -> list[Commit]:
        """Return all commits of the object *path*, which begins with its bucket."""
        return [c for c in self.history if f"{c.bucket}/{c.key}" == path]

    def at(self, bucket: str, key: str) -> bytes | None:
        """Return the current bytes of an object; None if it does not exist."""
        stored = self.buckets[bucket].objects.get(key)
        return None if stored is None else stored.data()


def _now() -> float:
    assert World.current is not None
    return World.current.now


def at_once(coroutine: Any) -> Any:
    """Return the result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


@frozen
class Request:
    """A request as the store receives it from the network."""

    method: str
    origin: str
    target: str
    lines: list[bytes]
    body: bytes


@frozen
class Answer:
    """A reply of the store before the network sends it."""

    action: str
    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """The server: executes one call at a time, in no time."""

    def __init__(self) -> None:
        self.store, self.model = SimulatedStore(), Model()
        for name in BUCKETS:
            self.store.add_bucket(name)
        self.clock = Clock()
        self.settings = EmulatorSettings(
            keys={KEY.access_key_id: KEY},
            region=REGION,
            clock=self.clock,
            cnames={DOMAIN: BUCKETS[0]},
            callback=accept_callback,
        )
        self.app = App(self.store, self.settings)
        self.calls: dict[str, int] = {}
        self.number = 0
        # sent signatures; the canary looks for them in all texts
        self.signatures: set[str] = set()

    def act(self, request: Request) -> Answer:
        """Execute one request."""
        method, body = request.method, request.body
        self.number += 1
        request_id = f"{self.number:024X}"
        parts = urlsplit(f"{request.origin}{request.target}")
        headers = []
        for line in request.lines:
            name, colon, value = line.partition(b":")
            if colon and value:
                headers.append((name.strip().lower(), value.strip()))
        headers = [(n, v) for n, v in headers if n != b"content-length"]
        if body or method in ("PUT", "POST"):
            headers.append((b"content-length", str(len(body)).encode()))
        call = read_call(
            {
                "method": method,
                "raw_path": parts.path.encode(),
                "query_string": parts.query.encode(),
                "headers": headers,
            },
            self.settings.cnames,
        )
        for name in ("x-oss-signature", "Signature"):
            if name in call.parameters:
                self.signatures.add(call.parameters[name])
        self.calls[call.action] = self.calls.get(call.action, 0) + 1

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        received = IncomingBody(receive)
        try:
            call, received = at_once(self.app.opened(call, received))
            self.app.authenticate(call)
            reply = at_once(self.app.handle(call, received))
        except RefusedError as error:
            reply = error_reply(error, call, request_id)
        content = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
        sent = {
            "Date": http_date(self.clock()),
            "x-oss-request-id": request_id,
            **reply.headers,
            "Content-Length": str(
                reply.content_length if method == "HEAD" else len(content)
            ),
        }
        if reply.status == 204:
            del sent["Content-Length"]
        answer = Answer(
            call.action, reply.status, sent, b"" if method == "HEAD" else content
        )
        self._compare(request, answer)
        return answer

    def _compare(self, request: Request, answer: Answer) -> None:
        try:
            self.model.check(request, answer)
        except Broken as error:
            World.current.fail(error)  # type: ignore[union-attr]
        if answer.status < 300 and (
            answer.action == "PostObject" or self.store.damages_copy
        ):
            new = self.store.history[-1]
            self.model.note(f"{new.bucket}/{new.key}", new.data or b"")
