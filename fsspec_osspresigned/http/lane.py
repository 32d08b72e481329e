"""Lane: one thread that sends many small requests by libcurl's multi interface.

Many threads that each wait for a small reply spend much time on the interpreter lock.
The lane makes one try of each request; the caller decides about retries.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from typing import Any

import pycurl
from attrs import define

from ..model import Reply, SignedRequest
from .body import Body
from .exchange import Exchange
from .handle import Handle, HandlePool
from .route import Route
from .transfer import LargeBodyError, Transfer
from .transport import Transport

_LOOK = 1.0  # seconds between two looks at what stalls, at most
_LOOKS = 4  # within one window in which enough bytes must move
TOGETHER = 16  # requests for which a step is done at once; more are hardly faster


@define(eq=False)
class LaneTry:
    """One try of a request, with its reply or failure.

    Reply and failure are both None if a worker thread must send the request, because
    the body of the reply is large.

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


_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_EVENTS = {
    pycurl.POLL_IN: _READ,
    pycurl.POLL_OUT: _WRITE,
    pycurl.POLL_INOUT: _READ | _WRITE,
}
_FLAGS = {
    _READ: pycurl.CSELECT_IN,
    _WRITE: pycurl.CSELECT_OUT,
    _READ | _WRITE: pycurl.CSELECT_IN | pycurl.CSELECT_OUT,
}


class Multi:
    """libcurl's multi interface, with its open connections and a selector.

    One thread at a time may use it. Raises OSError if no file descriptor is left.
    """

    def __init__(self) -> None:
        self._watched: set[int] = set()
        self._due: float | None = None
        self._descriptors: dict[int, int] = {}
        self._idle: list[Handle] = []
        self._alarm, self._bell = socket.socketpair()
        try:
            self._alarm.setblocking(False)
            self._bell.setblocking(False)
            self._selector = selectors.DefaultSelector()
            self._selector.register(self._alarm, _READ)
        except BaseException:
            self._alarm.close()
            self._bell.close()
            raise
        self._curl = pycurl.CurlMulti()
        self._curl.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._curl.setopt(pycurl.M_TIMERFUNCTION, self._schedule)

    def handle(self, pool: HandlePool, route: Route) -> Handle:
        """Return a handle for a request along *route*."""
        for handle in reversed(self._idle):
            if handle.route is route:
                self._idle.remove(handle)
                return handle
        return Handle(route, pool.connect_seconds, self._descriptors)

    def start(self, handle: Handle) -> None:
        """Send the request of *handle*; ``wait`` returns it when it has ended."""
        self._curl.add_handle(handle.easy)

    def again(self, handle: Handle) -> None:
        """Send the request of *handle* once more, by another connection."""
        self._curl.remove_handle(handle.easy)
        self._curl.add_handle(handle.easy)

    def release(self, handle: Handle) -> None:
        """Take back *handle*, whose request has ended or is given up."""
        self._curl.remove_handle(handle.easy)
        self._idle.append(handle)

    def wait(self, seconds: float) -> list[tuple[Any, int, str]]:
        """Send and receive for up to *seconds*, until a request ends.

        Returns the easy handle of each request that has ended, with libcurl's code, 0
        for success, and its text.
        """
        if self._due is not None:
            seconds = max(0.0, min(seconds, self._due - time.monotonic()))
        for key, events in self._selector.select(seconds):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    self._alarm.recv(4096)
            else:
                self._curl.socket_action(key.data, _FLAGS[events])
        if self._due is not None and time.monotonic() >= self._due:
            self._due = None
            self._curl.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        ended: list[tuple[Any, int, str]] = []
        left = 1
        while left:
            left, done, failed = self._curl.info_read()
            ended += [(easy, 0, "") for easy in done]
            ended += failed
        return ended

    def wake(self) -> None:
        """End the current ``wait`` early; may be called in any thread."""
        with contextlib.suppress(OSError):  # it rings already, or is closed
            self._bell.send(b"!")

    def close(self) -> None:
        """Close all connections."""
        for handle in self._idle:
            handle.close()
        self._idle.clear()
        self._curl.close()
        self._selector.close()
        self._alarm.close()
        self._bell.close()

    def _watch(self, what: int, descriptor: int, _: Any, __: Any) -> None:
        events = _EVENTS.get(what, 0)
        if not events:
            self._watched.discard(descriptor)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(descriptor)
        elif descriptor in self._watched:
            self._selector.modify(descriptor, events, descriptor)
        else:
            self._watched.add(descriptor)
            self._selector.register(descriptor, events, descriptor)

    def _schedule(self, milliseconds: int) -> None:
        due = time.monotonic() + milliseconds / 1000
        self._due = None if milliseconds < 0 else due


class Lane:
    """Sends requests in one thread; they may end in any order.

    All methods but ``wake`` must be called in that thread. Raises OSError if no file
    descriptor is left.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport, self._pool = transport, transport.pool
        self._multi = transport.pool.take_multi() or Multi()
        self._busy: dict[Any, tuple[LaneTry, Transfer, Handle]] = {}
        self._ended: list[LaneTry] = []
        self._looked = time.monotonic()
        self._every = min(_LOOK, transport.pool.progress_seconds / _LOOKS)

    def send(self, *tries: LaneTry) -> None:
        """Start *tries*; ``wait`` returns each of them when it has ended."""
        for one in tries:
            self._send(one)

    def _send(self, one: LaneTry) -> None:
        transfer: Transfer | None = None
        try:
            transfer = self._transport.transfer(
                one.signed, one.body, one.exchange, small_only=True
            )
            began = time.monotonic()
            transfer.read_ahead()
            one.began = time.monotonic()
            one.reading = one.began - began
            handle = self._multi.handle(self._pool, transfer.route)
            transfer.begin(handle, self._pool.progress_seconds)
        except Exception as error:  # noqa: BLE001 - it is the end of this try alone
            one.failure = error.with_traceback(None)
            if transfer is not None:
                self._take_back(one, transfer)
            self._ended.append(one)
            return
        self._busy[handle.easy] = one, transfer, handle
        self._multi.start(handle)

    def wait(self, seconds: float) -> list[LaneTry]:
        """Return the tries that have ended; wait up to *seconds* for the first one."""
        for easy, code, text in self._multi.wait(
            0.0 if self._ended else min(seconds, self._every)
        ):
            self._end(easy, code, text)
        if time.monotonic() - self._looked >= self._every:
            self._look()
        ended, self._ended = self._ended, []
        return ended

    def _look(self) -> None:
        """End the transfers that have stalled or are cancelled."""
        self._looked = time.monotonic()
        for easy, (_, transfer, _) in list(self._busy.items()):
            moved = easy.getinfo(pycurl.SIZE_UPLOAD_T)
            moved += easy.getinfo(pycurl.SIZE_DOWNLOAD_T)
            try:
                transfer.look(int(moved))
            except Exception as error:  # noqa: BLE001 - it is the end of this try alone
                transfer.fail(error)
                self._end(easy, 0, "")

    def _end(self, easy: Any, code: int, text: str) -> None:
        one, transfer, handle = self._busy[easy]
        if transfer.begins_again():
            self._multi.again(handle)
            return
        del self._busy[easy]
        try:
            one.reply = transfer.reply(code, text)
            one.seconds = time.monotonic() - one.began
        except LargeBodyError:
            self._take_back(one, transfer)
        except Exception as error:  # noqa: BLE001 - it is the end of this try alone
            one.failure = error.with_traceback(None)
            self._take_back(one, transfer)
        self._multi.release(handle)
        transfer.end()
        self._ended.append(one)

    @staticmethod
    def _take_back(one: LaneTry, transfer: Transfer) -> None:
        try:
            transfer.report(-transfer.sent)
        except Exception as error:  # noqa: BLE001 - of the caller's progress
            one.failure = error

    def wake(self) -> None:
        """End the current ``wait`` early; may be called in any thread."""
        self._multi.wake()

    def close(self) -> None:
        """Give up the tries in flight, which ``wait`` never returns."""
        is_idle = not self._busy
        for _, transfer, handle in self._busy.values():
            self._multi.release(handle)
            transfer.end()
        self._busy.clear()
        if is_idle:
            self._pool.keep_multi(self._multi)
        else:
            self._multi.close()
