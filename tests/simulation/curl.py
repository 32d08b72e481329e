"""libcurl in a world: pycurl's ``Curl`` and ``CurlMulti`` on the simulated network.

``install`` replaces pycurl's classes, and the system's sockets by connections of the
world. The package above them is unchanged.
"""

from __future__ import annotations

import errno
import itertools
import math
import re
import select
import socket
import time
from collections.abc import Generator
from typing import Any, Self

import pycurl
from attrs import define

from . import network as networks
from .network import EARLY, Event, Network, refusal
from .store import Request
from .world import Broken

_FIRST = 1 << 20  # the first descriptor of a connection; the system's own are lower
_LOOK = 1.0  # seconds between two calls of a progress function
_BLOCK = 16 * 1024  # bytes of a reply that a write function gets at once
_AT_ONCE = 64 * 1024  # bytes of a body that are sent together with the head
_STATUS = re.compile(rb"HTTP/1\.[01] (\d\d\d)[ \r\n]")
_NO_BODY = (204, 304)
_KEPT = 60.0  # seconds until the server closes an idle connection

# The event that a transfer waits for (send or receive), and for how long. An event of 0
# is a timer.
Wait = tuple[int, float]

_ports = itertools.count(40_000)
_connections: dict[int, Connection] = {}
_epolls: list[Epoll] = []


# Options that the package must set, because libcurl would otherwise raise signals in
# threads, use HTTP/2 or other protocols, shorten paths, use the environment's proxies,
# or keep several connections.
_NEEDED = {
    pycurl.NOSIGNAL: 1,
    pycurl.HTTP_VERSION: pycurl.CURL_HTTP_VERSION_1_1,
    pycurl.PROTOCOLS: pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS,
    pycurl.PATH_AS_IS: 1,
    pycurl.NOPROXY: "",
    pycurl.MAXCONNECTS: 1,
}


_real = pycurl.Curl()


def open_connections() -> set[int]:
    """Return the numbers of all connections that the client has not closed."""
    return {connection.number for connection in _connections.values()}


def _check_option(option: int, value: Any) -> None:
    """Let pycurl itself check the type of a value."""
    try:
        _real.setopt(option, value)
    except (TypeError, pycurl.error) as error:
        text = f"pycurl takes no {value!r} for option {option}: {error}"
        networks.current().world.fail(Broken(text))


class _EndError(Exception):
    """Raised to end a transfer with libcurl's code and text."""


class _DiedError(Exception):
    """Raised when a connection ends before the first byte of the reply."""


class Connection:
    """One connection, with the client's view of it."""

    def __init__(self, origin: str, number: int) -> None:
        self.number = number  # number of the connection in the world
        numbers = itertools.count(_FIRST)
        self.descriptor = next(n for n in numbers if n not in _connections)
        _connections[self.descriptor] = self
        self.origin = origin
        self.addresses = ("127.0.0.2", "127.0.0.1", 443, next(_ports))
        # Events that a transfer waits for, as a mask of an epoll, and the end of the
        # wait.
        self.wants, self.moment = 0, math.inf
        self.is_shut = False  # True if the client has closed it
        self.is_unread = False  # True if bytes of the server, or its end, are unread
        self.closes_at = math.inf  # time when the server closes it
        self.last = networks.Stream([], "closed")  # the last reply of the server

    @property
    def has_received(self) -> bool:
        return self.is_unread or time.monotonic() >= self.closes_at

    def next_moment(self, mask: int) -> float:
        """Return the time when it is ready for the events in *mask*."""
        if self.wants:
            return self.moment if mask & self.wants else math.inf
        return -math.inf if self.is_unread else self.closes_at

    def close(self) -> None:
        if _connections.pop(self.descriptor, None) is not None:
            for epoll in _epolls:
                epoll.masks.pop(self.descriptor, None)


class _Pool:
    """Idle connections of a handle or a multi."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._idle: list[Connection] = []

    def take(self, origin: str) -> Connection | None:
        """Return a connection that seems to be alive; None if there is none."""
        for connection in reversed(self._idle):
            if connection.origin == origin:
                self._idle.remove(connection)
                if not connection.has_received:
                    connection.closes_at = math.inf
                    return connection
                connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        connection.closes_at = time.monotonic() + _KEPT
        self._idle.append(connection)
        if len(self._idle) > self.most:
            self._idle.pop(0).close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class Curl:
    """``pycurl.Curl``: one transfer at a time."""

    def __init__(self) -> None:
        self._options: dict[int, Any] = {}
        self._info: dict[int, int] = {}
        self._pool = _Pool(1)
        self.connection: Connection | None = None  # the last connection
        self._is_paused = False
        self._network: Network = networks.current()

    def setopt(self, option: int, value: Any) -> None:
        if not callable(value):
            _check_option(option, value)
        if option == pycurl.HTTPGET:
            for name in (pycurl.UPLOAD, pycurl.NOBODY):
                self._options.pop(name, None)
        self._options[option] = value

    def unsetopt(self, option: int) -> None:
        _real.unsetopt(option)
        self._options.pop(option, None)

    def getinfo(self, what: int) -> int:
        if what != pycurl.ACTIVESOCKET:
            return self._info.get(what, 0)
        last = self.connection
        is_open = last is not None and _connections.get(last.descriptor) is last
        return last.descriptor if last is not None and is_open else -1

    def pause(self, _: int) -> None:
        self._is_paused = False

    def close(self) -> None:
        self._pool.close()

    def perform(self) -> None:
        """Send and receive in this thread."""
        steps = self.converse(self._pool)
        try:
            while True:
                _, seconds = next(steps)
                time.sleep(seconds)
        except StopIteration as end:
            code, text = end.value
        finally:
            steps.close()
        if code:
            raise pycurl.error(code, text)

    def converse(self, pool: _Pool) -> Generator[Wait, None, tuple[int, str]]:
        """Do one transfer; return libcurl's code and text."""
        self._info.clear()
        self._is_paused = False
        self._method = str(self._options[pycurl.CUSTOMREQUEST])
        self._target = str(self._options[pycurl.REQUEST_TARGET])
        self._origin = str(self._options[pycurl.URL]).removesuffix("/")
        if wrong := {o: v for o, v in _NEEDED.items() if self._options.get(o) != v}:
            self._network.world.fail(Broken(f"options of libcurl are not {wrong}"))
        event = self._network.begin(self._method, self._target)
        is_kept = False
        self.connection = None
        try:
            is_kept = yield from self._exchange(event, pool)
        except _EndError as end:
            code, text = end.args
            return code, text
        finally:
            self._network.end(event)
            if (last := self.connection) is not None:
                pool.keep(last) if is_kept and not last.is_unread else last.close()
                last.wants, last.moment = 0, math.inf
        return 0, ""

    def _exchange(self, event: Event, pool: _Pool) -> Generator[Wait, None, bool]:
        """Send the request and read the reply; return whether the connection is kept."""
        net, dice = self._network, self._network.world.random
        is_fresh = self._options.get(pycurl.FRESH_CONNECT)
        while True:
            kept = None if is_fresh else pool.take(self._origin)
            how = "alive"
            if kept is not None and event.fate == "stale":
                how = dice.choice(("unread", "closed", "reset", "answered"))
            self.connection = kept
            if kept is None:
                yield from self._connect(event)
            connection = self.connection
            assert connection is not None
            connection.is_unread = how == "unread"
            if connection.is_unread:
                # the request does not use this connection, so it cannot fail
                event.fate = "unread"
            asked = self._called(pycurl.PREREQFUNCTION, *connection.addresses)
            if asked != pycurl.PREREQFUNC_OK:
                text = "operation aborted by pre-request callback"
                raise _EndError(pycurl.E_ABORTED_BY_CALLBACK, text)
            if connection.is_unread:
                text = "is sent on a connection with unread bytes"
                net.world.fail(Broken(f"{event} {text}"))
            self._count(pycurl.REQUEST_SIZE, 300)
            if kept is None and is_fresh == "died":
                net.world.fail(Broken(f"{event} was sent twice"))
            try:
                return (yield from self._conversation(event, how))
            except _DiedError as died:
                if kept is None:
                    raise _EndError(*died.args) from None
                connection.close()
                if self._info.get(pycurl.SIZE_UPLOAD_T):
                    text = "necessary data rewind was not possible"
                    raise _EndError(pycurl.E_SEND_FAIL_REWIND, text) from None
            is_fresh = "died"  # libcurl sends the request again

    def _connect(self, event: Event) -> Generator[Wait, None, None]:
        net = self._network
        net.opened += 1
        self.connection = connection = Connection(self._origin, net.opened)
        self._count(pycurl.NUM_CONNECTS, 1)
        self._called(pycurl.SOCKOPTFUNCTION, connection.descriptor, 0)
        if net.is_down:
            event.fate = "down"
        elif event.fate == "refuse" and net.world.random.random() < 0.3:
            milliseconds = self._options[pycurl.CONNECTTIMEOUT_MS]
            yield from self._wait(0, milliseconds / 1000)
            text = f"Connection timed out after {milliseconds} milliseconds"
            raise _EndError(pycurl.E_OPERATION_TIMEDOUT, text)
        yield from self._wait(pycurl.POLL_OUT, net.delay())
        if event.fate in ("refuse", "down"):
            self._info[pycurl.OS_ERRNO] = errno.ECONNREFUSED
            raise _EndError(pycurl.E_COULDNT_CONNECT, "Failed to connect")

    def _conversation(self, event: Event, how: str) -> Generator[Wait, None, bool]:
        net, connection = self._network, self.connection
        assert connection is not None
        # A request without a body ends with its head.
        is_upload = self._options.get(pycurl.UPLOAD)
        event.is_taken = not (is_upload and self._options[pycurl.INFILESIZE_LARGE])
        if connection.number <= net.dead:
            # the client does not learn that the connection is dead
            yield from self._wait(pycurl.POLL_IN, math.inf)
        if how in ("closed", "reset"):
            yield from self._wait(pycurl.POLL_IN, net.delay())
            raise _died(how)
        if how == "answered":  # the server sends the last reply a second time
            yield from self._receive(connection.last)
            return False
        is_whole = yield from self._send(event)
        if not is_whole:
            return False
        body = bytes(self._body)
        lines = [*self._options[pycurl.HTTPHEADER], *net.adds]
        request = Request(self._method, self._origin, self._target, lines, body)
        net.take(event, request)
        mean = 2.0 if event.fate == "slow" else 0.02
        yield from self._wait(pycurl.POLL_IN, net.delay(mean))
        connection.last = net.answer(event, request)
        return (yield from self._receive(connection.last))

    def _send(self, event: Event) -> Generator[Wait, None, bool]:
        """Send the body; return False if the server answered before the end of the body."""
        net, dice, connection = (
            self._network,
            self._network.world.random,
            self.connection,
        )
        assert connection is not None
        is_upload = self._options.get(pycurl.UPLOAD)
        size = self._options[pycurl.INFILESIZE_LARGE] if is_upload else 0
        self._body = bytearray()
        stop, pause = net.stops_at(event, size), 0.5 if event.fate == "slow" else 0.005
        is_answered = False
        while True:
            if len(self._body) >= stop and not is_answered:
                if event.fate == "stall_request":
                    yield from self._wait(pycurl.POLL_OUT, math.inf)
                if event.fate == "lose_request":
                    yield from self._wait(pycurl.POLL_OUT, net.delay())
                    raise _died(dice.choice(("reset", "broken", "closed")))
                is_good = event.fate == "early_good"
                if len(self._body) < size and dice.random() < 0.5:
                    # the server answers after libcurl has looked for a reply
                    connection.is_unread = True
                    self._read_piece(event)
                # Without a checksum, the client would believe a good reply to a whole
                # body.
                if not (is_good and len(self._body) >= size):
                    is_answered = True
                    stream = net.reply(event, EARLY if is_good else refusal(503))
                    yield from self._receive(stream)
                    if not is_good:
                        return False
            event.is_taken = len(self._body) >= size
            if event.is_taken:
                return not is_answered
            while self._is_paused:
                yield from self._wait(pycurl.POLL_OUT, _LOOK)
            self._read_piece(event)
            event.is_taken = len(self._body) >= size
            if len(self._body) > _AT_ONCE:
                yield from self._wait(pycurl.POLL_OUT, net.delay(pause))

    def _read_piece(self, event: Event) -> None:
        size = self._options.get(pycurl.UPLOAD_BUFFERSIZE, _AT_ONCE)
        piece = self._called(pycurl.READFUNCTION, size)
        if piece == pycurl.READFUNC_PAUSE:
            self._is_paused = True
        elif isinstance(piece, int):
            raise _aborted()
        elif not piece:
            text = "client read function EOF fail"
            raise _EndError(pycurl.E_READ_ERROR, text)
        else:
            self._body += piece
            event.sent_at = self._network.world.now  # until there is another piece
            self._count(pycurl.SIZE_UPLOAD_T, len(piece))

    # -- replies -------------------------------------------------------------------------

    def _receive(self, stream: networks.Stream) -> Generator[Wait, None, bool]:
        """Read a reply; return whether the connection can be used again."""
        connection, rest = self.connection, list(stream.pieces)
        assert connection is not None
        self._buffer, self._lines, self._chunk = b"", list[bytes](), 0
        # bytes of the body, known once its head was read
        self._left: float | None = None
        self._is_chunked = is_begun = False
        while rest:
            seconds, block = rest.pop(0)
            yield from self._wait(pycurl.POLL_IN, seconds)
            connection.is_unread = False
            is_begun = is_begun or bool(block)
            self._buffer += block
            while self._left is None and b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                self._take_line(line + b"\n")
            while self._left and self._pass_on():
                self._tell()
            if self._left == 0:
                return not rest and not self._buffer and stream.end == "open"
        if stream.end in ("silent", "open"):
            yield from self._wait(pycurl.POLL_IN, math.inf)
        if not is_begun:
            raise _died(stream.end)
        if stream.end == "reset":
            raise _EndError(*_RESET)
        if self._left is not None and (self._is_chunked or self._left < math.inf):
            text = "transfer closed with outstanding read data remaining"
            raise _EndError(pycurl.E_PARTIAL_FILE, text)
        return False  # False, too, if the reply ends within its head

    def _take_line(self, line: bytes) -> None:
        if not self._lines and not line.startswith(b"HTTP/"):
            text = "Received HTTP/0.9 when not allowed"
            raise _EndError(pycurl.E_UNSUPPORTED_PROTOCOL, text)
        if not self._lines and not _STATUS.match(line):
            raise _EndError(_WEIRD, "Unsupported response code in HTTP response")
        if self._lines and line.strip() and b":" not in line:
            raise _EndError(_WEIRD, "Header without colon")
        self._lines.append(line)
        self._called(pycurl.HEADERFUNCTION, line)
        if line.strip():
            return
        (first, *fields), self._lines = self._lines, []
        status = int(first.split()[1])
        if status < 200:
            return
        split = (field.lower().partition(b":") for field in fields)
        found = {name.strip(): value.strip() for name, _, value in split}
        self._left = math.inf
        self._is_chunked = found.get(b"transfer-encoding") == b"chunked"
        if self._options.get(pycurl.NOBODY) or status in _NO_BODY:
            self._left = 0
        elif not self._is_chunked and b"content-length" in found:
            self._left = int(found[b"content-length"])

    def _pass_on(self) -> bool:
        """Give bytes of the body to the write function; return False if there are none."""
        assert self._left is not None
        if self._is_chunked and not self._chunk:
            size, end, rest = self._buffer.removeprefix(b"\r\n").partition(b"\r\n")
            if not end:
                return False
            self._chunk, self._buffer = int(size, 16), rest
            if not self._chunk:
                self._left, self._buffer = 0, rest.removeprefix(b"\r\n")
            return True
        most = self._chunk if self._is_chunked else self._left
        block = self._buffer[: int(min(most, _BLOCK))]
        if not block:
            return False
        self._buffer = self._buffer[len(block) :]
        if self._is_chunked:
            self._chunk -= len(block)
        else:
            self._left -= len(block)
        self._count(pycurl.SIZE_DOWNLOAD_T, len(block))
        if self._called(pycurl.WRITEFUNCTION, block) is not None:
            text = "Failure writing output to destination"
            raise _EndError(pycurl.E_WRITE_ERROR, text)
        return True

    # -- other methods --------------------------------------------------------------------

    def _count(self, what: int, number: int) -> None:
        self._info[what] = self._info.get(what, 0) + number

    def _called(self, option: int, *args: Any) -> Any:
        try:
            return self._options[option](*args)
        except BaseException as error:  # noqa: BLE001 - an exception would end all requests of a multi
            self._network.world.fail(error)

    def _tell(self) -> None:
        """Call the progress function, which may end the transfer."""
        if pycurl.XFERINFOFUNCTION not in self._options:
            return
        moved = (
            self.getinfo(n) for n in (pycurl.SIZE_DOWNLOAD_T, pycurl.SIZE_UPLOAD_T)
        )
        received, sent = map(float, moved)
        if self._called(pycurl.XFERINFOFUNCTION, 0.0, received, 0.0, sent):
            raise _aborted()

    def _wait(self, mask: int, seconds: float) -> Generator[Wait, None, None]:
        """Wait like libcurl, which wakes once a second if there is a progress function."""
        connection, end = self.connection, time.monotonic() + seconds
        assert connection is not None
        is_watched = pycurl.XFERINFOFUNCTION in self._options
        while True:
            now = time.monotonic()
            step = min(end - now, _LOOK) if is_watched else end - now
            connection.wants, connection.moment = _EVENTS[mask], now + step
            yield mask, step
            connection.wants = 0
            if connection.is_shut:
                raise _EndError(*_RESET)
            self._tell()
            if time.monotonic() >= end:
                return


def _aborted() -> _EndError:
    return _EndError(pycurl.E_ABORTED_BY_CALLBACK, "Callback aborted")


def _died(how: str) -> _DiedError:
    return _DiedError(*_DEATHS[how])


_WEIRD = 8  # CURLE_WEIRD_SERVER_REPLY, which pycurl does not name
_RESET = pycurl.E_RECV_ERROR, "Recv failure: Connection reset by peer"
_DEATHS = {
    "closed": (pycurl.E_GOT_NOTHING, "Empty reply from server"),
    "reset": _RESET,
    "broken": (pycurl.E_SEND_ERROR, "Send failure: Broken pipe"),
}
_EVENTS = {0: 0, pycurl.POLL_IN: select.EPOLLIN, pycurl.POLL_OUT: select.EPOLLOUT}


@define(eq=False)
class _Running:
    """A transfer of a multi: the event for which it waits, and the end of the wait."""

    steps: Generator[Wait, None, tuple[int, str]]
    moment: float
    mask: int = 0
    told: tuple[int, Connection] | None = None
    is_over: bool = False


class CurlMulti:
    """``pycurl.CurlMulti``, for a loop that watches its sockets."""

    def __init__(self) -> None:
        self._options: dict[int, Any] = {}
        self._pool = _Pool(256)
        self._running: dict[Curl, _Running] = {}
        self._ended: list[tuple[Curl, int, str]] = []
        self._timer_at = math.inf

    def setopt(self, option: int, value: Any) -> None:
        self._options[option] = value
        if option == pycurl.M_MAXCONNECTS:
            self._pool.most = value

    def add_handle(self, easy: Curl) -> None:
        steps = easy.converse(self._pool)
        self._running[easy] = _Running(steps, moment=time.monotonic())
        self._set_timer()

    def remove_handle(self, easy: Curl) -> None:
        running = self._running.pop(easy)
        self._watch(running, None)
        running.steps.close()
        self._ended = [each for each in self._ended if each[0] is not easy]
        self._set_timer()

    def socket_action(self, descriptor: int, _: int) -> None:
        now, is_timer = time.monotonic(), descriptor == pycurl.SOCKET_TIMEOUT
        for easy, running in list(self._running.items()):
            if is_timer:
                is_asked = not running.mask
            else:
                is_asked = easy.getinfo(pycurl.ACTIVESOCKET) == descriptor
            if is_asked and running.moment <= now and not running.is_over:
                self._step(easy, running)
        self._set_timer()

    def _step(self, easy: Curl, running: _Running) -> None:
        try:
            running.mask, seconds = next(running.steps)
        except StopIteration as end:
            running.is_over = True
            self._watch(running, None)
            self._ended.append((easy, *end.value))
        else:
            running.moment = time.monotonic() + seconds
            mask, connection = running.mask, easy.connection
            self._watch(running, (mask, connection) if mask and connection else None)

    def _watch(self, running: _Running, wish: tuple[int, Connection] | None) -> None:
        watch, told = self._options[pycurl.M_SOCKETFUNCTION], running.told
        if told is not None and (wish is None or told[1] is not wish[1]):
            watch(pycurl.POLL_REMOVE, told[1].descriptor, None, None)
        if wish is not None and wish != told:
            watch(wish[0], wish[1].descriptor, None, None)
        running.told = wish

    def _set_timer(self) -> None:
        timers = (r.moment for r in self._running.values() if not (r.mask or r.is_over))
        moment = min(timers, default=math.inf)
        if moment != self._timer_at:
            self._timer_at, left = moment, (moment - time.monotonic()) * 1000
            milliseconds = -1 if left == math.inf else max(0, math.ceil(left))
            self._options[pycurl.M_TIMERFUNCTION](milliseconds)

    def info_read(self) -> tuple[int, list[Curl], list[tuple[Curl, int, str]]]:
        now, self._ended = self._ended[:2], self._ended[2:]
        done = [easy for easy, code, _ in now if not code]
        return len(self._ended), done, [each for each in now if each[1]]


# -- replacements for the system --------------------------------------------------------


class Epoll:
    """``select.epoll``, which tells a simulated loop the time at which it is ready."""

    def __init__(self) -> None:
        self.masks: dict[int, int] = {}
        _epolls.append(self)

    def register(self, descriptor: int, mask: int) -> None:
        self.masks[descriptor] = mask

    def modify(self, descriptor: int, mask: int) -> None:
        if descriptor not in self.masks:
            raise FileNotFoundError(errno.ENOENT, "it is not registered")
        self.masks[descriptor] = mask

    def unregister(self, descriptor: int) -> None:
        del self.masks[descriptor]

    def moment(self) -> float:
        """Return the time at which ``poll`` has an event."""
        moments = (
            _connections[descriptor].next_moment(mask)
            for descriptor, mask in self.masks.items()
        )
        return min(moments, default=math.inf)

    def poll(self, _: float) -> list[tuple[int, int]]:
        now = time.monotonic()
        return [
            (descriptor, _connections[descriptor].wants or select.EPOLLIN)
            for descriptor, mask in list(self.masks.items())
            if _connections[descriptor].next_moment(mask) <= now
        ]


class _Poll:
    """``select.poll`` of one connection."""

    def register(self, descriptor: int, _: int) -> None:
        self._connection = _connections[descriptor]

    def poll(self, _: float) -> list[tuple[int, int]]:
        is_ready = self._connection.has_received
        return [(self._connection.descriptor, select.POLLIN)] if is_ready else []


class _Socket:
    """``socket.socket`` of a descriptor that libcurl has opened."""

    def __init__(self, *, fileno: int) -> None:
        if fileno not in _connections:
            raise OSError(errno.EBADF, "it is closed")
        self._connection = _connections[fileno]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def setsockopt(self, *_: int) -> None:
        pass

    def getpeername(self) -> tuple[str, int]:
        server, _, port, _ = self._connection.addresses
        return server, port

    def getsockname(self) -> tuple[str, int]:
        _, own, _, port = self._connection.addresses
        return own, port

    def shutdown(self, _: int) -> None:
        self._connection.is_shut = self._connection.is_unread = True

    def detach(self) -> None:
        pass


def install(net: Network) -> None:
    """Let all requests of the process use *net* from now on."""
    networks.network = net
    pycurl.Curl, pycurl.CurlMulti = Curl, CurlMulti
    select.epoll, select.poll = Epoll, _Poll  # type: ignore[misc, assignment]
    socket.socket = _Socket  # type: ignore[misc, assignment]
