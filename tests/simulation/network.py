"""The network of a world: faults of each request and its reply.

``curl`` is its client, and ``store`` its server.
"""

from __future__ import annotations

import math
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl

from attrs import define, evolve, field

from fsspec_osspresigned.emulator.messages import http_date
from fsspec_osspresigned.signing.canonical import parse_moment

from .store import Answer, Request, Server
from .world import Broken, World

_SHORTEST = 0.99  # seconds; shorter than any time limit of a program
RETRY_AFTER = 3  # seconds that a busy store asks a client to wait
LATE = 10 * 86_400.0  # seconds; longer than any signature of a program is valid
_WRITES = ("PUT", "POST")
_ONCE = ("lose_request", "lose_reply", "cut_reply", "busy", "refuse", "expired")
_PUBLISHES = ("PutObject", "CompleteMultipartUpload")
_WHAT = re.compile(r"(?:^|&)(uploads|(?:uploadId|partNumber)=[^&]*)")


@define
class Faults:
    """The share of exchanges in which each fault happens, from 0 to 1."""

    refuse: float = 0.0  # the connection fails, or takes too long
    # the connection ends before the store has the whole request
    lose_request: float = 0.0
    # The connection ends after the store got the whole request, and the store does not
    # act.
    lose_whole: float = 0.0
    lose_reply: float = 0.0  # the reply is lost, and the store has acted
    cut_reply: float = 0.0  # the reply ends at any byte of its head or body
    stall_request: float = 0.0
    stall_reply: float = 0.0  # the reply never arrives, and the store has acted
    busy: float = 0.0  # a reply 503
    busy_acted: float = 0.0  # a reply 500, although the store has acted
    early: float = 0.0  # a reply 503 before the store has the whole request
    damage: float = 0.0  # one byte of the body is altered on the way
    no_proof: float = 0.0  # the reply has neither ETag nor CRC-64
    no_crc: float = 0.0  # the reply has only an ETag
    false_proof: float = 0.0  # the reply has ETag and CRC-64 of other bytes
    damage_reply: float = 0.0  # one byte of a GET's content is altered
    slow: float = 0.0  # the exchange takes seconds
    impostor: float = 0.0  # a proxy replies 200, and the store gets nothing
    # a reply 200 before the store has the whole request; the store does not act
    early_good: float = 0.0
    unframed: float = 0.0  # a proxy sends the reply in chunks, and may cut it
    stale: float = 0.0  # a kept connection ends, or has unexpected bytes
    hints: float = 0.0  # replies with status 1xx precede the reply
    broken_head: float = (
        0.0  # the head of the reply is malformed, and the store has acted
    )
    # the reply has more or fewer bytes than its Content-Length
    wrong_length: float = 0.0
    expired: float = 0.0  # the store considers the signature expired


@define
class Event:
    """One exchange, recorded for the invariants."""

    at: float
    method: str
    path: str
    action: str = ""
    fate: str = "ok"
    acted: bool = False
    status: int = 0
    ended: float = math.inf
    received: int = 0  # bytes of the body of the reply
    is_part: bool = False  # True for a part of an upload
    is_initiate: bool = False
    upload_id: str = ""
    is_taken: bool = False  # True once the client has sent the whole request
    target: tuple[str, ...] = ()  # method and target, without the signature
    # Time when the client had sent the whole request, and the action of the store after it.
    sent_at: float = math.inf
    act: Callable[[], Answer] | None = None
    process: int = 0


@define
class Stream:
    """A reply as it arrives: delays, bytes, and how the connection ends."""

    pieces: list[tuple[float, bytes]]
    end: str = "open"  # also "closed", "reset" or "silent"


@define(eq=False)
class Network:
    """All exchanges of a world."""

    server: Server
    world: World
    faults: Faults = field(factory=Faults)
    events: list[Event] = field(factory=list)
    in_flight: int = 0
    opened: int = 0  # number of connections opened
    dead: int = 0  # number of the oldest connections, which carry nothing more
    breaks: bool = False  # True: when the next object is stored, all connections die
    is_down: bool = False  # True: no connection can be opened
    # Number of parts that arrive. Every later part, and every request to complete, is
    # lost.
    parts_left: int | None = None
    # Fates of the tries of each request, in turn; and the number of tries so far.
    fates: tuple[str, ...] = ()
    met: Counter[tuple[str, ...]] = field(factory=Counter)
    # targets that have failed; each fails only once
    once: set[tuple[str, ...]] | None = None
    lies: bool = False  # True: each reply that confirms an object has a false checksum
    # header lines that something on the way adds to each request
    adds: tuple[bytes, ...] = ()
    # statuses with which the store refuses all requests, in turn
    refusals: tuple[int, ...] = ()
    # Method and target -> time before which it must not be sent again, as a reply
    # asked. None disables the check.
    waits: dict[tuple[str, ...], float] | None = None

    def begin(self, method: str, target: str) -> Event:
        """Return a new exchange, and draw its fault."""
        path, _, query = target.partition("?")
        event = Event(self.world.now, method, path)
        event.target = (method, path, *_WHAT.findall(query))
        if (self.waits or {}).get(event.target, 0.0) > self.world.now:
            msg = f"{event.target} is sent again before the time in the last reply"
            self.world.fail(Broken(msg))
        event.upload_id = parse_qs(query).get("uploadId", [""])[0]
        event.is_part = "partNumber=" in query
        event.is_initiate = method == "POST" and "uploads" in query.split("&")
        if self._has_expired(query):
            self.world.fail(
                Broken(f"{method} of {path} is sent, but its URL has expired")
            )
        assert self.world.running is not None
        event.process = self.world.running.process
        if event.upload_id and any(self._shares(event, other) for other in self.events):
            self.world.fail(Broken(f"two processes use the upload of {path} at once"))
        event.fate = self._draw(event)
        self.events.append(event)
        self.in_flight += 1
        return event

    def _shares(self, event: Event, other: Event) -> bool:
        """Return whether another process now uses the upload of *event*."""
        is_other = other.process != event.process and other.ended == math.inf
        return is_other and other.upload_id == event.upload_id

    def kill(self, process: int) -> None:
        """End the exchanges of a process; the store keeps the bytes that it received."""
        for event in self.events:
            if event.process == process and event.ended == math.inf:
                self.end(event)

    def _has_expired(self, query: str) -> bool:
        """Return whether a URL is no longer valid by the clock of the client."""
        found = dict(parse_qsl(query))
        if "Expires" in found:
            return time.time() > int(found["Expires"])
        begin = parse_moment(found.get("x-oss-date", "")) or math.inf
        return time.time() > begin + int(found.get("x-oss-expires", 0))

    def end(self, event: Event) -> None:
        """Record that the client has ended an exchange or given it up."""
        self.in_flight -= 1
        event.ended = self.world.now
        self.world.note(event.at, event.action, event.fate, event.status)
        # A caller that waited for its time limit already has an unknown outcome.
        is_soon, dice = event.ended - event.at < _SHORTEST, self.world.random
        if (
            event.act is not None
            and not event.acted
            and is_soon
            and dice.random() < 0.7
        ):
            act, seconds = event.act, dice.expovariate(2)

            def later() -> None:
                time.sleep(seconds)
                act()

            self.world.start("network", later)

    def _draw(self, event: Event) -> str:
        if self.parts_left is not None and event.upload_id:
            self.parts_left -= event.is_part
            is_lost = self.parts_left < 0 or event.method == "POST"
            return "lose_request" if is_lost and event.method != "DELETE" else "ok"
        if self.lies and event.method != "DELETE" and not event.is_part:
            return "ok" if event.is_initiate else "false_proof"
        if self.met[event.target] < len(self.fates):
            self.met[event.target] += 1
            return self.fates[self.met[event.target] - 1]
        if self.once is not None:
            is_read = event.method == "GET"
            if event.target not in self.once:
                self.once.add(event.target)
                return "cut_reply" if is_read else self.world.random.choice(_ONCE)
            if is_read:  # so that every range of an object fails once
                self.once.discard(event.target)
            return "ok"
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

    def stops_at(self, event: Event, size: int) -> float:
        """Return the number of bytes, of *size*, after which a body stops."""
        if event.fate not in ("lose_request", "early", "early_good", "stall_request"):
            return math.inf
        dice = self.world.random
        return min(size, dice.choice((0, 1, 65536, size, dice.randint(0, size))))

    def take(self, event: Event, request: Request) -> None:
        """Accept a whole request; the store executes it in ``answer``, or later."""
        sent_at = event.sent_at = min(event.sent_at, self.world.now)
        fate, body, store = event.fate, request.body, self.server.store
        if fate in _UNACTED or self.refusals:
            return
        # A document with a list of parts is not altered.
        has_content = event.is_part or not event.upload_id
        is_write = request.method in _WRITES and has_content
        is_damaged = fate == "damage" and body and is_write
        is_copy = any(b"x-oss-copy-source:" in line for line in request.lines)
        damages_copy = fate == "damage" and is_copy and not event.is_part
        if is_damaged:
            # of a form only the file: no reply shows that another key was stored
            first = max(0, body.find(b'name="file"'))
            dice = self.world.random
            at, bit = dice.randrange(first, len(body)), dice.randrange(8)
            body = body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]

        def act() -> Answer:
            event.acted, store.sent_at = True, sent_at
            store.damages_next = bool(is_damaged) or damages_copy
            store.damages_copy = damages_copy
            late = LATE if fate == "expired" else 0.0
            self.server.clock.jump(late)
            try:
                answer = self.server.act(evolve(request, body=body))
            finally:
                self.server.clock.jump(-late)
                store.damages_next = store.damages_copy = False
            event.action = answer.action
            return answer

        event.act = act

    def answer(self, event: Event, request: Request) -> Stream:
        """Let the store execute the accepted request, and return the client's reply."""
        fate = event.fate
        if fate == "lose_whole":
            return Stream([], "closed")
        if fate in ("busy", "early"):
            return self.reply(event, self._busy(event))
        if fate == "corrupted":  # only steps at the end of a program use this fate
            return self.reply(event, refusal(400, "BadDigest"))
        if self.refusals:
            status, *others = self.refusals
            self.refusals = (*others, status)
            return self.reply(event, refusal(status))
        if fate == "impostor" and request.method in _WRITES:
            return self.reply(event, _PAGE)
        if event.act is None:  # the request is no write
            event.fate = "busy"
            return self.reply(event, refusal(503))
        answer = event.act()
        if self.breaks and answer.action in _PUBLISHES:
            self.breaks, self.dead = False, self.opened
            return Stream([], "silent")
        if fate == "lose_reply":
            return Stream([(self.delay(), b"")], "reset")
        if fate == "stall_reply":
            return Stream([], "silent")
        if fate == "busy_acted":
            answer = refusal(500)
        return self.reply(event, self._altered(request.method, fate, answer))

    def _busy(self, event: Event) -> Answer:
        """Return a reply 503; every second one has a Retry-After."""
        answer, seconds = refusal(503), RETRY_AFTER
        if len(self.events) % 2:
            return answer
        # the target of a form names no object
        is_named = event.method in (*_WRITES, "HEAD") and event.path != "/"
        if self.waits is not None and is_named:
            self.waits[event.target] = self.world.now + seconds
        return evolve(answer, headers={**answer.headers, "Retry-After": str(seconds)})

    def _altered(self, method: str, fate: str, answer: Answer) -> Answer:
        headers, body = dict(answer.headers), answer.body
        proofs = [n for n in headers if n.lower() in ("etag", "x-oss-hash-crc64ecma")]
        if fate == "no_proof":
            for name in proofs:
                del headers[name]
        elif fate == "no_crc":
            headers = {n: v for n, v in headers.items() if "crc64" not in n.lower()}
        elif fate == "false_proof" and method in _WRITES:
            for name in proofs:
                is_crc = name.lower() != "etag"
                headers[name] = "123456789" if is_crc else f'"{"0" * 32}"'
        elif fate == "unframed" and body:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
        elif fate == "damage_reply" and body and answer.action == "GetObject":
            at = self.world.random.randrange(len(body))
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        return evolve(answer, headers=headers, body=body)

    def reply(self, event: Event, answer: Answer) -> Stream:
        """Return *answer* as the client receives it."""
        event.received = len(answer.body)
        event.status, dice, fate = answer.status, self.world.random, event.fate
        lines = [f"HTTP/1.1 {answer.status} X"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        body = b"" if event.method == "HEAD" else answer.body
        if "Transfer-Encoding" in answer.headers:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        end = "open"
        if fate == "hints":
            hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
            head = hint * dice.choice((1, 1, 3)) + head
        elif fate == "broken_head":
            head = dice.choice(_BREAKS)(head)
        elif fate == "wrong_length" and event.method != "HEAD":
            wrong, end = dice.choice((1, 7, 100_000)), dice.choice(("closed", "silent"))
            if dice.random() < 0.5:
                body, end = body + b"x" * wrong, "open"
            else:
                head = re.sub(rb"(Content-Length: )", rb"\g<1>1", head)
        raw = head + body
        if fate == "cut_reply" or (fate == "unframed" and dice.random() < 0.5):
            is_head = fate == "cut_reply" and dice.random() < 0.5
            raw = raw[: dice.randrange(len(head) if is_head else len(raw))]
            end = dice.choice(("closed", "reset"))
        step, pause = 16 * 1024, 0.2 if fate == "slow" else 0.002
        first = dice.choice((len(head), len(raw), dice.randint(0, len(raw))))
        pieces = [(self.delay(), raw[:first])]
        for at in range(first, len(raw), step):
            pieces.append((self.delay(pause), raw[at : at + step]))
        return Stream(pieces, end)


_BREAKS: tuple[Callable[[bytes], bytes], ...] = (
    lambda head: head.replace(b"\r\n", b"\n"),
    lambda head: head.replace(b": ", b" ", 1),
    lambda head: head.replace(b"\r\n", b"\r\nx-a: \x01\r\n", 1),
    lambda head: head.replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1),
    lambda head: head.replace(b"HTTP/1.1 ", b"HTTP/1.1 9", 1),
    lambda head: b"ICY 200 OK\r\n\r\n" + head,
)
_PAGE = Answer("", 200, {"Content-Length": "6", "Content-Type": "text/html"}, b"<html>")
EARLY = Answer("", 200, {"Content-Length": "0", "ETag": f'"{"0" * 32}"'}, b"")


# The store does not act on requests with these fates.
_UNACTED = ("early", "lose_whole", "busy", "impostor", "corrupted")
_CODES = {
    400: "InvalidArgument",
    403: "AccessDenied",
    500: "InternalError",
    503: "ServiceUnavailable",
}


def refusal(status: int, code: str = "") -> Answer:
    """Return an error reply of the store; *code* has a default for each status."""
    code = code or _CODES[status]
    text = f"<Error><Code>{code}</Code><RequestId>{uuid.uuid4().hex[:24]}</RequestId></Error>"
    headers = {"Content-Length": str(len(text)), "Content-Type": "application/xml"}
    headers["Date"] = http_date(current().server.clock())
    return Answer("", status, headers, text.encode())


network: Network | None = None  # the network of this world


def current() -> Any:
    assert network is not None
    return network
