"""The network of a world, and the store at its end.

``install`` puts ``SimulatedHandle`` and ``SimulatedMulti`` in the place of libcurl: all
code above them is that of the package. The store is the emulator's, without its sockets:
it verifies each signature, and keeps the history of each object.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
import zlib
from collections.abc import Callable, Generator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pycurl
from attrs import define, evolve, field, frozen

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
from fsspec_osspresigned.http import handle as real_handle
from fsspec_osspresigned.http import transport
from fsspec_osspresigned.http.body import BLOCK
from fsspec_osspresigned.http.handle import Addresses, Route
from fsspec_osspresigned.http.transfer import Transfer
from fsspec_osspresigned.signing import Credentials

from .world import World

KEY = Credentials("LTAI5tSimulated", "simulated-secret-1234567890")
REGION = "cn-hangzhou"
HOST = "oss-cn-hangzhou.aliyuncs.com"
BUCKETS = ("data", "logs")
_WATCH = 1.0  # seconds between two looks at a transfer
_SHORTEST = 0.99  # seconds: less than any time limit of a program


@frozen
class Commit:
    """A change of one object in the store; times in seconds, *data* None is a deletion."""

    at: float
    bucket: str
    key: str
    data: bytes | None
    is_damaged: bool  # a bit was altered on the way
    sent_at: float = 0.0  # when the store had all of the request


class SimulatedStore(Store):
    """The emulator's store, with a history of all commits."""

    def __init__(self) -> None:
        super().__init__()
        self.history: list[Commit] = []
        self.damages_next = False
        self.sent_at = 0.0
        self.opened: dict[str, float] = {}  # upload ID -> when it was initiated
        self.damaged_parts: set[str] = set()

    def put(self, bucket: Any, stored: Any, *, exclusive: bool = False) -> Any:
        stored = super().put(bucket, stored, exclusive=exclusive)
        damaged = self.damages_next
        data, at = stored.data(), self.sent_at
        self._note(Commit(_now(), bucket.name, stored.key, data, damaged, at))
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

    def at(self, bucket: str, key: str) -> bytes | None:
        """Return the bytes of an object now; None if there is none."""
        stored = self.buckets[bucket].objects.get(key)
        return None if stored is None else stored.data()


def _now() -> float:
    assert World.current is not None
    return World.current.now


def at_once(coroutine: Any) -> Any:
    """Return the result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


@frozen
class Answer:
    """A reply of the store before the network has it."""

    action: str
    status: int
    headers: dict[str, str]
    body: bytes


class Server:
    """The store behind the network: one call at a time, each at one moment."""

    def __init__(self) -> None:
        self.store = SimulatedStore()
        for name in BUCKETS:
            self.store.add_bucket(name)
        self.clock = Clock(time.time)
        self.settings = EmulatorSettings(
            keys={KEY.access_key_id: KEY},
            region=REGION,
            clock=self.clock,
            cnames={},
            callback=accept_callback,
        )
        self.app = App(self.store, self.settings)
        self.calls: dict[str, int] = {}
        self.number = 0
        self.signatures: set[str] = set()  # that were sent, for the canary

    def act(
        self, method: str, origin: str, target: str, lines: list[bytes], body: bytes
    ) -> Answer:
        """Do what one request asks for."""
        self.number += 1
        request_id = f"{self.number:024X}"
        parts = urlsplit(f"{origin}{target}")
        headers = []
        for line in lines:
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
            {},
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
        return Answer(
            call.action, reply.status, sent, b"" if method == "HEAD" else content
        )


@define
class Faults:
    """The share of exchanges in which each fault happens, from 0 to 1."""

    refuse: float = 0.0  # no connection
    lose_request: float = 0.0  # the connection ends before the store has all of it
    lose_whole: float = (
        0.0  # it ends when the store has all, and the store does not act
    )
    lose_reply: float = 0.0  # the store has acted
    cut_reply: float = 0.0  # within its head or body
    stall_request: float = 0.0
    stall_reply: float = 0.0  # the store has acted
    busy: float = 0.0  # 503
    busy_acted: float = 0.0  # 500, and the store has acted
    early: float = 0.0  # 503 before the store has all of it
    damage: float = 0.0  # one byte of the body is altered on the way
    no_proof: float = 0.0  # the reply has neither ETag nor CRC-64
    false_proof: float = 0.0  # ETag and CRC-64 of other bytes
    damage_reply: float = 0.0  # one byte of the content of a GET
    slow: float = 0.0  # takes seconds
    impostor: float = 0.0  # a proxy says 200, and the store has got nothing
    early_good: float = 0.0  # 200 before the store has all of it, which does not act
    unframed: float = 0.0  # a proxy sends the reply in chunks, and may cut it


@define
class Event:
    """One exchange, for the invariants."""

    at: float
    method: str
    path: str
    action: str = ""
    fate: str = "ok"
    acted: bool = False
    status: int = 0
    ended: float = math.inf
    is_part: bool = False  # of an upload
    is_initiate: bool = False
    upload_id: str = ""


@frozen
class _Sent:
    """When the last byte of a request was sent, and what the store then does."""

    at: float = 0.0
    act: Callable[[], Answer] | None = None


@define(eq=False)
class Network:
    """All exchanges of a world."""

    server: Server
    world: World
    faults: Faults = field(factory=Faults)
    events: list[Event] = field(factory=list)
    in_flight: int = 0
    is_down: bool = False  # no connection can be opened
    parts_left: int | None = None  # that arrive, before each later one is lost

    def draw(self, event: Event) -> str:
        """Return what happens to the next exchange."""
        if self.parts_left is not None and event.is_part:
            self.parts_left -= 1
            return "ok" if self.parts_left >= 0 else "lose_request"
        dice = self.world.random.random()
        for name in self.faults.__slots__:
            if name[0] == "_":
                continue
            share = getattr(self.faults, name)
            if dice < share:
                return name
            dice -= share
        return "ok"

    def delay(self, mean: float = 0.02) -> float:
        return min(self.world.random.expovariate(1 / mean), 20 * mean)


network: Network | None = None  # that of this world


class _Easy:
    """The part of a handle of libcurl that ``Transfer`` reads."""

    def __init__(self) -> None:
        self.info: dict[int, int] = {}

    def getinfo(self, what: int) -> int:
        return self.info.get(what, 0)

    def pause(self, _: int) -> None:
        pass


class SimulatedHandle:
    """A handle: one connection, and one request at a time."""

    def __init__(
        self, route: Route, descriptors: dict[Addresses, int] | None = None
    ) -> None:
        self.route, self.easy = route, _Easy()
        self.head: list[bytes] = []
        self.is_watched = descriptors is None
        self._is_open = False
        self._is_new = False

    def begin(
        self,
        request: Any,
        method: str,
        target: str,
        lines: list[bytes],
        size: int | None,
        *,
        source: Callable[[int], bytes] | None = None,
        is_fresh: bool = False,
    ) -> None:
        self.request, self._read = request, source or request.read
        self.head.clear()
        self._method, self._target, self._lines = method, target, lines
        self._is_fresh, self._size = is_fresh, size or 0
        self.easy.info.clear()

    def end(self) -> None:
        del self.request

    def shut(self) -> None:
        self._is_open = False

    close = shut

    def connection(self, _: Addresses) -> tuple[int, bool]:
        return -1, self._is_new

    def perform(self) -> tuple[int, str]:
        """Send and receive in this thread."""
        conversation = self.converse()
        while True:
            try:
                delay = next(conversation)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            time.sleep(delay)

    def converse(self) -> Generator[float, None, tuple[int, str]]:
        """Do one exchange; yield seconds to wait, return libcurl's code and text."""
        assert network is not None
        net = network
        path, _, query = self._target.partition("?")
        event = Event(_now(), self._method, path)
        event.upload_id = parse_qs(query).get("uploadId", [""])[0]
        event.is_part = "partNumber=" in query
        event.is_initiate = self._method == "POST" and "uploads" in query.split("&")
        net.events.append(event)
        net.in_flight += 1
        is_whole, self._sent = False, _Sent()
        try:
            code, text = yield from self._exchange(net, event)
            is_whole = not code
        finally:
            net.in_flight -= 1
            self._is_open = is_whole
            self._act_later(net, event)
            event.ended = _now()
            net.world.note(event.at, event.action, event.fate, event.status)
        return code, text

    def _act_later(self, net: Network, event: Event) -> None:
        """Let the store act on what was given up after the last byte was sent.

        Whoever waits for its time limit was told that the outcome is unknown.
        """
        sent, dice = self._sent, net.world.random
        is_soon = _now() - sent.at < _SHORTEST
        if sent.act is not None and not event.acted and is_soon and dice.random() < 0.7:
            act, seconds = sent.act, dice.expovariate(2)

            def later() -> None:
                time.sleep(seconds)
                act()

            net.world.start("network", later)

    def _wait(self, seconds: float) -> Generator[float, None, bool]:
        """Wait as libcurl does; return True if the transfer is to end."""
        while seconds > 0:
            step = min(seconds, _WATCH)
            yield step
            seconds -= step
            if self.request.watch(self._moved):
                return True
        return False

    def _exchange(
        self, net: Network, event: Event
    ) -> Generator[float, None, tuple[int, str]]:
        aborted = pycurl.E_ABORTED_BY_CALLBACK, "Callback aborted"
        fate, self._moved = net.draw(event), 0
        event.fate = fate
        dice = net.world.random
        self._is_new = self._is_fresh or not self._is_open
        if self._is_new:
            self.easy.info[pycurl.NUM_CONNECTS] = 1
            yield net.delay()
            if net.is_down:
                event.fate = "down"
            if event.fate in ("refuse", "down"):
                return pycurl.E_COULDNT_CONNECT, "Connection refused"
        self.easy.info[pycurl.REQUEST_SIZE] = 300
        addresses = ("127.0.0.2", "127.0.0.1", 443, 40000)
        if self.request.may_send(addresses) != pycurl.PREREQFUNC_OK:
            return aborted
        body = bytearray()
        stop_at = math.inf
        if fate in ("lose_request", "early", "early_good", "stall_request"):
            stop_at = dice.choice((0, 1, 1000, 65536, 200_000))
        pause = 0.5 if fate == "slow" else 0.005
        while len(body) < min(self._size, stop_at):
            piece = self._read(BLOCK)
            if isinstance(piece, int):
                return aborted
            body += piece
            self._moved = len(body)
            if len(body) > 65536 and (yield from self._wait(net.delay(pause))):
                return aborted
        if fate == "stall_request":
            yield from self._wait(math.inf)
            return aborted
        if fate == "lose_request":
            return pycurl.E_SEND_ERROR, "Connection reset by peer"
        if fate == "early_good" and len(body) < self._size:
            return (yield from self._reply(net, event, _EARLY))
        store, sent_at = net.server.store, _now()

        def act() -> Answer:
            event.acted, store.sent_at = True, sent_at
            try:
                return net.server.act(self._method, origin, target, lines, bytes(body))
            finally:
                store.damages_next = False

        origin, target, lines = self.route.origin, self._target, self._lines
        is_lost = fate in ("early", "lose_whole", "busy", "impostor")
        self._sent = _Sent(sent_at, None if is_lost else act)
        if (yield from self._wait(net.delay(2.0 if fate == "slow" else 0.02))):
            return aborted
        if fate == "early":
            return (yield from self._reply(net, event, _busy(503)))
        if fate == "lose_whole":
            return pycurl.E_GOT_NOTHING, "Empty reply from server"
        if fate == "busy":
            return (yield from self._reply(net, event, _busy(503)))
        if fate == "impostor" and self._method in ("PUT", "POST"):
            return (yield from self._reply(net, event, _PAGE))
        if fate == "damage" and body and self._method in ("PUT", "POST"):
            at = dice.randrange(len(body))
            body[at] ^= 1 << dice.randrange(8)
            store.damages_next = True
        answer = act()
        event.action = answer.action
        if (yield from self._wait(net.delay())):
            return aborted
        if fate == "lose_reply":
            return pycurl.E_RECV_ERROR, "Connection reset by peer"
        if fate == "stall_reply":
            yield from self._wait(math.inf)
            return aborted
        if fate == "busy_acted":
            answer = _busy(500)
        return (yield from self._reply(net, event, self._altered(net, fate, answer)))

    def _altered(self, net: Network, fate: str, answer: Answer) -> Answer:
        headers, body = dict(answer.headers), answer.body
        proofs = [n for n in headers if n.lower() in ("etag", "x-oss-hash-crc64ecma")]
        if fate == "no_proof":
            for name in proofs:
                del headers[name]
        elif fate == "false_proof" and self._method in ("PUT", "POST"):
            for name in proofs:
                is_crc = name.lower() != "etag"
                headers[name] = "123456789" if is_crc else f'"{"0" * 32}"'
        elif fate == "unframed" and answer.body:
            headers = {n: v for n, v in headers.items() if n != "Content-Length"}
            headers["Transfer-Encoding"] = "chunked"
        elif fate == "damage_reply" and body and answer.action == "GetObject":
            at = net.world.random.randrange(len(body))
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        return evolve(answer, headers=headers, body=body)

    def _reply(
        self, net: Network, event: Event, answer: Answer
    ) -> Generator[float, None, tuple[int, str]]:
        event.status = answer.status
        lines = [f"HTTP/1.1 {answer.status} X"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        refused_write = pycurl.E_WRITE_ERROR, "Failed writing"
        cut = math.inf
        if event.fate == "cut_reply":
            cut = net.world.random.randrange(len(lines) + 4)
        elif event.fate == "unframed" and net.world.random.random() < 0.5:
            cut = len(lines) + 2
        for number, line in enumerate((*lines, "")):
            if number >= cut:
                return pycurl.E_RECV_ERROR, "Connection reset by peer"
            self.head.append(f"{line}\r\n".encode())
        step, pause = 16 * 1024, 0.2 if event.fate == "slow" else 0.002
        for at in range(0, len(answer.body), step):
            if cut < math.inf and at:
                return pycurl.E_PARTIAL_FILE, "transfer closed with bytes missing"
            block = answer.body[at : at + step]
            if cut < math.inf:
                block = block[: len(block) // 2]
            self._moved += len(block)
            if block and self.request.write(block) is not None:
                return refused_write
            if cut < math.inf:
                return pycurl.E_PARTIAL_FILE, "transfer closed with bytes missing"
            if at and (yield from self._wait(net.delay(pause))):
                return pycurl.E_ABORTED_BY_CALLBACK, "Callback aborted"
        return 0, ""


_PAGE = Answer("", 200, {"Content-Length": "6", "Content-Type": "text/html"}, b"<html>")
_EARLY = Answer(
    "", 200, {"Content-Length": "0", "ETag": f'"{"0" * 32}"'}, b""
)  # fmt: skip


def _busy(status: int) -> Answer:
    code = "ServiceUnavailable" if status == 503 else "InternalError"
    text = f"<Error><Code>{code}</Code><RequestId>{uuid.uuid4().hex[:24]}</RequestId></Error>"
    headers = {"Content-Length": str(len(text)), "Content-Type": "application/xml"}
    return Answer("", status, headers, text.encode())


class SimulatedMulti:
    """Sends requests on the running loop, as ``http.multi.Multi`` does."""

    def __init__(self) -> None:
        self._idle = real_handle.IdleHandles(256)
        self._busy: dict[Any, Generator[float, None, tuple[int, str]]] = {}

    def close(self) -> None:
        self._idle.drop()

    def begin(self, transfer: Transfer, progress_seconds: float) -> None:
        handle: Any = self._idle.take(transfer.route) or SimulatedHandle(
            transfer.route, {}
        )
        loop = asyncio.get_running_loop()
        transfer.ended = loop.create_future()
        transfer.begin(handle, progress_seconds)
        self._busy[handle] = handle.converse()
        self._go_on(transfer, handle)

    def _go_on(self, transfer: Transfer, handle: Any) -> None:
        conversation = self._busy.get(handle)
        if conversation is None or handle is not transfer.handle:
            return  # it was given up
        try:
            delay = next(conversation)
        except StopIteration as end:
            transfer.finish(*end.value)
        else:
            loop = asyncio.get_running_loop()
            loop.call_later(delay, self._go_on, transfer, handle)

    def end(self, transfer: Transfer) -> None:
        handle: Any = transfer.handle
        self._busy.pop(handle).close()
        transfer.end()
        self._idle.keep(handle)


def install(net: Network) -> None:
    global network  # noqa: PLW0603 - one for a process
    network = net
    real_handle.Handle = SimulatedHandle  # type: ignore[assignment, misc]
    transport.Multi = SimulatedMulti  # type: ignore[assignment, misc]
