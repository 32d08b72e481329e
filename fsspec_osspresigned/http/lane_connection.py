"""Lane connection: non-blocking connection that sends one request at a time."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from ..model import Reply
from .body import SMALL
from .connection import GONE, RECEIVED, OriginConnection, pieces
from .response_parser import ResponseParser
from .stall import Phase
from .transport import MAX_ERROR, OutgoingRequest

_BUSY = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_GOOD = range(200, 300)


class LargeBodyError(Exception):
    """The body of a reply is large or of unknown size: a worker thread must read it."""


class LaneConnection:
    """Non-blocking connection for one request after the other; no method waits.

    Attributes:
        request: the current or the last request.
        was_used: whether the connection has sent another request before.
        wants_write: whether the next step must wait until the socket accepts bytes.
        fresh: whether the request began after the last check for a stall.
    """

    request: OutgoingRequest

    def __init__(self, connection: OriginConnection, *, was_used: bool) -> None:
        self.connection, self.was_used = connection, was_used
        self.wants_write = False
        self.fresh = True
        self._seconds = connection.sock.gettimeout()
        connection.sock.settimeout(0.0)

    def begin(self, request: OutgoingRequest) -> None:
        """Set the next *request*, which ``advance`` sends."""
        timer, exchange = self.connection.timer, request.exchange
        timer.enter(Phase.SEND)
        timer.deadline = exchange.deadline
        self.request, self.fresh = request, True
        self.wants_write = False
        self._limit = exchange.limit
        self._response = ResponseParser(request.signed.method)
        self._pieces: Iterator[memoryview] | None = pieces(request.head, request.body)
        self._left = memoryview(b"")
        self._begun = self._has_head = False

    def read(self) -> None:
        """Read the first block of the body, and join it with the head if it is small."""
        if self._pieces is not None:
            self._left = next(self._pieces)

    def advance(self) -> bool:
        """Send and receive as much as possible.

        Return whether the response is complete. Raises the errors of
        ``OriginConnection.ask``, and those of reading the body.
        """
        self.wants_write = False
        try:
            if self._pieces is not None and not self._send():
                return False  # the response comes later
            return self._receive()
        except _BUSY as error:
            sends = self._pieces is not None and isinstance(error, BlockingIOError)
            self.wants_write = sends or isinstance(error, ssl.SSLWantWriteError)
            return False

    def reply(self) -> Reply:
        """Return the reply, after ``advance`` has returned True."""
        return self.request.reply(self.connection, self._response)

    @property
    def is_reusable(self) -> bool:
        """Whether the connection can send another request."""
        response = self._response
        return response.complete and response.reusable and not self.connection.broken

    def release(self) -> OriginConnection:
        """Return the inner connection in blocking mode."""
        self.connection.sock.settimeout(self._seconds)
        return self.connection

    def _refuse_large(self, response: ResponseParser) -> None:
        size, sink = response.remaining, self.request.exchange.sink
        is_small = size is not None and size <= SMALL
        if sink is not None and response.status in _GOOD and not is_small:
            raise LargeBodyError

    def _send(self) -> bool:
        """Send as much as possible now; return whether the peer has replied early."""
        connection = self.connection
        while self._pieces is not None:
            self._left = self._left or next(self._pieces, self._left)
            if (
                not self._left
                or connection.is_answered(self._response, begun=self._begun)
                or not self._send_left()
            ):
                self._pieces = None
        connection.expect_response()
        return connection.broken

    def _send_left(self) -> bool:
        """Send some bytes; return False if the peer has closed the connection."""
        try:
            count = self.connection.sock.send(self._left)
        except _BUSY:
            raise
        except GONE:  # it may have answered
            self.connection.broken = True
            return False
        self._begun = True
        self.connection.timer.count(count)
        self._left = self._left[count:]
        return True

    def _receive(self) -> bool:
        """Receive the available bytes; return whether no more are needed."""
        connection, response = self.connection, self._response
        while True:
            if response.status and not self._has_head:
                self._has_head = True
                connection.take_head(response)
                self._refuse_large(response)
            if response.status:
                most = self._limit + 1 if response.status in _GOOD else MAX_ERROR
                # Of many small chunks, most bytes are no bytes of the body.
                has_most = connection.timer.moved >= most <= response.untaken
                if response.complete or has_most:
                    return True
            data = connection.sock.recv(RECEIVED)
            connection.timer.count(len(data))
            response.feed(data)
