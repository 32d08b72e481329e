"""Multi: libcurl's multi interface on the engine's loop, for many small requests."""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pycurl

from ..model import Reply
from .handle import Addresses, Handle, IdleHandles
from .transfer import Transfer

_CHECK = 1.0  # seconds between two checks for stalled requests, at most
_CHECKS = 4  # within one window in which enough bytes must move
_CONNECTIONS = 256  # that are kept; more may be in use
_KEPT = 256  # idle handles

_READS = {pycurl.POLL_IN, pycurl.POLL_INOUT}
_WRITES = {pycurl.POLL_OUT, pycurl.POLL_INOUT}


class Multi:
    """Sends requests on the running loop; make it by ``Engine.own``, which closes it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_at, self._acts_soon = math.inf, False
        self._descriptors: dict[Addresses, int] = {}
        self._idle = IdleHandles(_KEPT)
        self._busy: dict[Any, _Busy] = {}
        self._check: asyncio.TimerHandle | None = None
        self._check_seconds = math.inf  # seconds for which it was set
        try:
            self._curl = pycurl.CurlMulti()
        except pycurl.error as error:  # it lacks descriptors, but does not say so
            text = f"{os.strerror(errno.EMFILE)}: {error}"
            raise OSError(errno.EMFILE, text) from None
        self._curl.setopt(pycurl.M_SOCKETFUNCTION, self._set_events)
        self._curl.setopt(pycurl.M_TIMERFUNCTION, self._schedule)
        self._curl.setopt(pycurl.M_MAXCONNECTS, _CONNECTIONS)

    async def send(self, transfer: Transfer, progress_seconds: float) -> Reply:
        """Send the request of *transfer*; return or raise what ``Transfer.reply`` does.

        Enough bytes must move within *progress_seconds*.
        """
        route = transfer.route
        handle = self._idle.take(route) or Handle(route, self._descriptors)
        window = min(_CHECK, progress_seconds / _CHECKS)
        busy = _Busy(transfer, window, self._loop.create_future())
        try:
            transfer.begin(handle, progress_seconds)
            self._curl.add_handle(handle.easy)
            self._busy[handle.easy] = busy
            try:
                self._check_within(window)
                return transfer.reply(*await busy.ended)
            except asyncio.CancelledError:
                if transfer.may_act and not busy.is_over:
                    busy.ended = self._loop.create_future()
                    # So that nothing happens after the cancellation.
                    grace = transfer.exchange.grace
                    await asyncio.wait((busy.ended,), timeout=grace)
                raise
            finally:
                del self._busy[handle.easy]
                self._curl.remove_handle(handle.easy)
        finally:
            transfer.end()
            self._idle.keep(handle)

    def close(self) -> None:
        for timer in (self._timer, self._check):
            if timer is not None:
                timer.cancel()
        self._idle.drop()
        self._curl.close()

    # -- callbacks of libcurl -------------------------------------------------------------

    def _set_events(self, what: int, descriptor: int, _: Any, __: Any) -> None:
        loop = self._loop
        if what in _READS:
            self._add(loop.add_reader, descriptor, pycurl.CSELECT_IN)
        else:
            loop.remove_reader(descriptor)
        if what in _WRITES:
            self._add(loop.add_writer, descriptor, pycurl.CSELECT_OUT)
        else:
            loop.remove_writer(descriptor)

    def _add(self, add: Callable[..., Any], descriptor: int, event: int) -> None:
        try:
            # In an empty context: that of a task would live as long as the connection.
            Context().run(add, descriptor, self._act, descriptor, event)
        except OSError as error:  # such as too many descriptors for the system to watch
            # An exception would end libcurl's multi for ever, and no request would learn it.
            for busy in self._busy.values():
                busy.end(pycurl.E_ABORTED_BY_CALLBACK, str(error))

    def _schedule(self, milliseconds: int) -> None:
        # Most calls say "at once", or set a later time than a timer that runs already.
        self._timeout_at = math.inf
        if milliseconds == 0:
            if not self._acts_soon:
                self._acts_soon = True
                self._loop.call_soon(self._act_now)
        elif milliseconds > 0:
            self._timeout_at = self._loop.time() + milliseconds / 1000
            if self._timer is None or self._timeout_at < self._timer.when():
                self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(
            self._timeout_at, self._act_in_time, context=Context()
        )

    # -- on the loop ---------------------------------------------------------------------

    def _act_now(self) -> None:
        self._acts_soon = False
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act_in_time(self) -> None:
        self._timer = None
        if self._loop.time() >= self._timeout_at:
            self._timeout_at = math.inf
            self._act(pycurl.SOCKET_TIMEOUT, 0)
        elif self._timeout_at < math.inf:
            self._set_timer()

    def _act(self, descriptor: int, event: int) -> None:
        self._curl.socket_action(descriptor, event)
        left = 1
        while left:
            left, done, failed = self._curl.info_read()
            for easy in done:
                self._end(easy, 0, "")
            for easy, code, text in failed:
                self._end(easy, code, text)

    def _end(self, easy: Any, code: int, text: str) -> None:
        busy = self._busy.get(easy)
        if busy is None or busy.is_over:
            return
        if busy.transfer.begins_again():
            self._curl.remove_handle(easy)
            self._curl.add_handle(easy)
        else:
            busy.end(code, text)

    def _check_within(self, seconds: float) -> None:
        if self._check is not None:
            if self._check_seconds <= seconds:
                return
            self._check.cancel()
        self._check_seconds = seconds
        self._check = self._loop.call_later(
            seconds, self._end_stalled, context=Context()
        )

    def _end_stalled(self) -> None:
        """End the requests that have stalled; libcurl calls nothing while no bytes move."""
        self._check = None
        for easy, busy in self._busy.items():
            if busy.is_over:  # its reply waits for the task
                continue
            sent = easy.getinfo(pycurl.SIZE_UPLOAD_T)
            received = easy.getinfo(pycurl.SIZE_DOWNLOAD_T)
            if busy.transfer.watch(int(sent + received)):
                busy.end(pycurl.E_ABORTED_BY_CALLBACK, "")
        if self._busy:
            self._check_within(min(busy.window for busy in self._busy.values()))


class _Busy:
    """A transfer that is under way."""

    __slots__ = ("ended", "is_over", "transfer", "window")

    def __init__(
        self,
        transfer: Transfer,
        window: float,
        ended: asyncio.Future[tuple[int, str]],
    ) -> None:
        self.transfer, self.window = transfer, window
        self.ended = ended  # gets libcurl's code and text
        self.is_over = False  # they came, perhaps when *ended* was already cancelled

    def end(self, code: int, text: str) -> None:
        self.is_over = True
        if not self.ended.done():
            self.ended.set_result((code, text))
