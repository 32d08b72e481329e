"""Lane: one thread that sends many small requests over non-blocking connections.

Many threads that each wait for a small reply spend much time on the interpreter lock.
The lane makes one try of each request; the caller decides about retries.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections import deque
from functools import partial

from attrs import define

from ..concurrency.thread_pool import Workers
from ..model import Reply, SignedRequest
from .body import Body
from .connection import OriginConnection, Route, UnaskedError
from .lane_connection import LaneConnection, LargeBodyError
from .transport import Exchange, OutgoingRequest, Transport

TOGETHER = 16  # requests for which a step is done at once; more are hardly faster
_LOOK = 1.0  # seconds between two looks at what stalls, at most
_LOOKS = 4  # within one window in which enough bytes must move


@define(eq=False)
class LaneTry:
    """One try of a request, with its reply or failure.

    Reply and failure are both None if a worker thread must send the request: its route
    needs TLS inside TLS, or the body of the reply is large.

    Attributes:
        reading: seconds that it took to read the first block of the body.
        began: time of sending, by ``time.monotonic``.
        seconds: time from sending until the reply; opening a connection does not count.
    """

    signed: SignedRequest
    body: Body
    exchange: Exchange
    reply: Reply | None = None
    failure: BaseException | None = None
    reading: float = 0.0
    began: float = 0.0
    seconds: float = 0.0


class Lane:
    """Sends requests in one thread; they may end in any order.

    All methods but ``wake`` must be called in that thread. Connections come from the
    pool of *transport*; threads of *openers* open new ones. Idle connections go back to
    the pool. Raises OSError if no file descriptor is left.
    """

    def __init__(self, transport: Transport, openers: Workers) -> None:
        self._transport, self._pool = transport, transport.pool
        self._openers = openers
        self._every = min(_LOOK, self._pool.progress_seconds / _LOOKS)
        self._looked = time.monotonic()
        self._busy: dict[LaneConnection, LaneTry] = {}
        self._free: list[LaneConnection] = []
        self._opened: deque[
            tuple[LaneTry, OutgoingRequest, OriginConnection | Exception]
        ] = deque()
        self._ended: list[LaneTry] = []
        self._closed = False
        self._alarm, self._bell = socket.socketpair()
        try:
            self._alarm.setblocking(False)
            self._bell.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._alarm, selectors.EVENT_READ)
        except BaseException:
            self._alarm.close()
            self._bell.close()
            raise

    def send(self, *tries: LaneTry) -> None:
        """Start *tries*; ``wait`` returns each of them when it has ended.

        Each step is done for several tries before the next step. This takes a third less
        time, because the code of the step is then in the processor's cache.
        """
        found = [self._connected(one) for one in tries]
        self._start([connection for connection in found if connection is not None])

    def _connected(self, one: LaneTry) -> LaneConnection | None:
        """Give the request of *one* to an idle connection, and return the connection.

        Return None if a new connection must be opened first, or if the try has ended.
        """
        request: OutgoingRequest | None = None
        try:
            request = self._transport.request(one.signed, one.body, one.exchange)
            request.prepare(self._pool)
            if request.route.nests_tls:
                self._ended.append(one)
                return None
            connection = self._idle_along(request.route)
            if connection is None:
                self._openers.submit(partial(self._open, one, request))
                return None
        except Exception as error:  # noqa: BLE001 - it is the end of this try alone
            self._fail(one, request, error, is_open=False)
            return None
        return self._begun(one, request, connection)

    def wait(self, seconds: float) -> list[LaneTry]:
        """Return the tries that have ended; wait up to *seconds* for the first one."""
        self._give_back()
        self._begin_opened()
        most = 0.0 if self._ended else min(seconds, self._every)
        for key, _ in self._selector.select(most):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._alarm.recv(4096)
            else:
                self._advance(key.data)
        self._begin_opened()
        self._look()
        ended, self._ended = self._ended, []
        return ended

    def wake(self) -> None:
        """End the current ``wait`` early; may be called in any thread."""
        with contextlib.suppress(OSError):  # it rings already, or the lane is closed
            self._bell.send(b"!")

    def close(self) -> None:
        """Close all connections; ``wait`` never returns the tries in flight."""
        self._closed = True
        for connection in [*self._busy, *self._free]:
            self._close(connection)
        self._busy.clear()
        self._free.clear()
        self._close_opened()
        self._selector.close()
        self._alarm.close()
        self._bell.close()

    # -- connections ---------------------------------------------------------------------

    def _idle_along(self, route: Route) -> LaneConnection | None:
        for connection in reversed(self._free):
            if connection.connection.route is route:
                self._free.remove(connection)
                return connection
        idle = self._pool.idle_along(route)
        return None if idle is None else self._watched(idle, was_used=True)

    def _watched(self, opened: OriginConnection, *, was_used: bool) -> LaneConnection:
        connection = LaneConnection(opened, was_used=was_used)
        self._selector.register(opened.sock, selectors.EVENT_READ, connection)
        return connection

    def _open(self, one: LaneTry, request: OutgoingRequest) -> None:
        """Open a connection for *one*; runs in another thread."""
        found: OriginConnection | Exception
        try:
            found = self._pool.open(request.route)
        except Exception as error:  # noqa: BLE001 - it is the end of this try alone
            found = error
        self._opened.append((one, request, found))
        if self._closed:
            self._close_opened()
        self.wake()

    def _begin_opened(self) -> None:
        begun: list[LaneConnection] = []
        while self._opened:
            one, request, found = self._opened.popleft()
            if isinstance(found, Exception):
                self._fail(one, request, found, is_open=False)
            else:
                connection = self._watched(found, was_used=False)
                begun.append(self._begun(one, request, connection))
        self._start(begun)

    def _close_opened(self) -> None:
        while self._opened:
            with contextlib.suppress(IndexError):  # the other thread was first
                found = self._opened.popleft()[2]
                if isinstance(found, OriginConnection):
                    found.close()

    def _give_back(self) -> None:
        for connection in self._free:
            self._selector.unregister(connection.connection.sock)
            self._pool.release(connection.release(), reusable=True)
        self._free.clear()

    def _close(self, connection: LaneConnection) -> None:
        # First, for the system gives the number of a closed descriptor to the next one.
        self._selector.unregister(connection.connection.sock)
        connection.connection.close()

    # -- tries ---------------------------------------------------------------------------

    def _begun(
        self, one: LaneTry, request: OutgoingRequest, connection: LaneConnection
    ) -> LaneConnection:
        connection.begin(request)
        self._busy[connection] = one
        return connection

    def _start(self, begun: list[LaneConnection]) -> None:
        """Send the requests on *begun*; first read the first blocks of several."""
        for start in range(0, len(begun), TOGETHER):
            some = begun[start : start + TOGETHER]
            for connection in [one for one in some if self._has_read(one)]:
                self._busy[connection].began = time.monotonic()
                self._advance(connection)

    def _has_read(self, connection: LaneConnection) -> bool:
        """Read the first block of a body; return False if that has failed."""
        began = time.monotonic()
        try:
            connection.read()
        except Exception as error:  # noqa: BLE001 - it is the end of this try alone
            self._drop(connection, error)
            return False
        self._busy[connection].reading = time.monotonic() - began
        return True

    def _advance(self, connection: LaneConnection) -> None:
        one, was_waiting = self._busy[connection], connection.wants_write
        try:
            has_ended = connection.advance()
            if connection.wants_write is not was_waiting:
                self._listen(connection)
            if not has_ended:
                return
            reply = connection.reply()
        except Exception as error:  # noqa: BLE001 - it is the end of this try alone
            self._drop(connection, error)
            return
        one.reply, one.seconds = reply, time.monotonic() - one.began
        del self._busy[connection]
        self._ended.append(one)
        if connection.is_reusable:
            connection.was_used = True
            self._free.append(connection)
        else:
            self._close(connection)

    def _listen(self, connection: LaneConnection) -> None:
        writes = selectors.EVENT_WRITE if connection.wants_write else 0
        events = selectors.EVENT_READ | writes
        self._selector.modify(connection.connection.sock, events, connection)

    def _drop(self, connection: LaneConnection, error: Exception) -> None:
        """End the try on *connection* with *error*, and close the connection."""
        one, request = self._busy.pop(connection), connection.request
        self._close(connection)
        if isinstance(error, UnaskedError) and connection.was_used:
            self.send(one)  # it was closed while idle: nothing was sent
        elif isinstance(error, LargeBodyError):
            self._ended.append(one)
        else:
            self._fail(one, request, error, is_open=True)

    def _fail(
        self,
        one: LaneTry,
        request: OutgoingRequest | None,
        error: Exception,
        *,
        is_open: bool,
    ) -> None:
        one.failure = error.with_traceback(None)
        if request is not None:
            waited = None if is_open else self._pool.connect_seconds
            known = request.failure(error, waited)
            try:
                if known is not None:
                    one.failure = known
                    request.take_back()
            except Exception as another:  # noqa: BLE001 - of the caller's progress
                one.failure = another
        self._ended.append(one)

    def _look(self) -> None:
        """End the tries on stalled connections, as failures.

        Each check counts the same number of seconds, however late it is, so a suspended
        process or a slow disk is not mistaken for a slow network.
        """
        now = time.monotonic()
        if now - self._looked < self._every:
            return
        self._looked = now
        for connection in list(self._busy):
            inner = connection.connection
            if connection.fresh:
                connection.fresh = False
                continue
            try:
                inner.timer.wait(inner.sock, self._every)
            except OSError as error:
                self._drop(connection, error)
