"""Multi: libcurl's multi interface on the engine's loop, for many small requests."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import select
import sys
import weakref
from contextlib import suppress
from contextvars import Context
from typing import Any

import pycurl

from ..compat import at_fork
from .handle import Addresses, Handle, IdleHandles, addresses_of
from .transfer import Transfer

_CHECK = 1.0  # maximum of seconds between two checks for stalled requests
_CHECKS = 4  # checks within one window in which enough bytes must move
_CONNECTIONS = 256  # connections that are kept; more may be in use
_KEPT = 256  # idle handles that are kept

_UNWATCHED = (pycurl.POLL_NONE, pycurl.POLL_REMOVE)
_HAS_EPOLL = sys.platform == "linux"
if _HAS_EPOLL:
    _MASKS = {
        pycurl.POLL_IN: select.EPOLLIN,
        pycurl.POLL_OUT: select.EPOLLOUT,
        pycurl.POLL_INOUT: select.EPOLLIN | select.EPOLLOUT,
    }
    _ACTIONS = {
        select.EPOLLIN: pycurl.CSELECT_IN,
        select.EPOLLOUT: pycurl.CSELECT_OUT,
    }
    # includes errors and closed connections
    _ALL = pycurl.CSELECT_IN | pycurl.CSELECT_OUT


class Multi:
    """Sends requests on the running loop; the engine owns it.

    On Linux, a separate epoll watches libcurl's sockets, and the loop watches this
    epoll as one file. A socket stays in the epoll between two requests. On other
    systems, the loop watches each socket.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timeout_at, self._acts_soon = math.inf, False
        # Timeouts in milliseconds that libcurl asked for; only the last one applies.
        self._timeouts: list[int] = []
        self._descriptors: dict[Addresses, int] = {}
        self._idle = IdleHandles(_KEPT)
        self._busy: dict[Any, Transfer] = {}
        self._check: asyncio.TimerHandle | None = None
        # seconds after which the next check was scheduled
        self._check_seconds = math.inf
        self._watched: set[int] = set()  # sockets that libcurl wants to be watched
        try:
            self._curl = pycurl.CurlMulti()
        except pycurl.error as error:
            # pycurl does not say that the cause is a lack of descriptors
            text = f"{os.strerror(errno.EMFILE)}: {error}"
            raise OSError(errno.EMFILE, text) from None
        watch = self._watch if _HAS_EPOLL else self._watch_by_loop
        if _HAS_EPOLL:
            self._epoll = select.epoll()
            # An empty context: the context of a task would live as long as the multi.
            Context().run(self._loop.add_reader, self._epoll, self._act_on_ready)
            _multis.add(self)
        self._curl.setopt(pycurl.M_SOCKETFUNCTION, watch)
        self._curl.setopt(pycurl.M_TIMERFUNCTION, self._timeouts.append)
        self._curl.setopt(pycurl.M_MAXCONNECTS, _CONNECTIONS)

    def begin(self, transfer: Transfer, progress_seconds: float) -> None:
        """Begin to send the request of *transfer*; its future ``ended`` marks the end.

        Enough bytes must move within *progress_seconds*. Call ``end`` when the transfer
        has ended, or is no longer awaited.
        """
        route = transfer.route
        handle = self._idle.take(route) or Handle(route, self._descriptors)
        transfer.ended = asyncio.Future(loop=self._loop)
        transfer.window = window = min(_CHECK, progress_seconds / _CHECKS)
        try:
            transfer.begin(handle, progress_seconds)
            self._curl.add_handle(handle.easy)
        except BaseException:
            transfer.end()
            handle.close()
            raise
        self._busy[handle.easy] = transfer
        if len(self._busy) == 1:
            self._act(pycurl.SOCKET_TIMEOUT, 0)
        elif not self._acts_soon:
            # All tasks that begin requests in this turn of the loop share one call.
            self._acts_soon = True
            self._loop.call_soon(self._act_now)
        if self._check is None or window < self._check_seconds:
            self._check_within(window)

    def end(self, transfer: Transfer) -> None:
        """Take back the handle of *transfer*; if it still runs, close its connection."""
        handle = transfer.handle
        del self._busy[handle.easy]
        self._curl.remove_handle(handle.easy)
        transfer.end()
        self._idle.keep(handle)

    # -- sockets --------------------------------------------------------------------------

    def _watch(self, what: int, descriptor: int, _: Any, __: Any) -> None:
        """Watch a socket for the events that libcurl wants; libcurl calls this."""
        if what in _UNWATCHED:
            # The socket stays in the epoll, for the next request.
            self._watched.discard(descriptor)
            return
        self._watched.add(descriptor)
        try:
            # Ask the system. libcurl reports neither the sockets that it closes nor
            # that a new socket has the number of an old one.
            try:
                self._epoll.modify(descriptor, _MASKS[what])
            except FileNotFoundError:
                self._epoll.register(descriptor, _MASKS[what])
        except OSError as error:
            # for example, the system can watch no more descriptors
            self._fail_all(error)

    def _fail_all(self, error: OSError) -> None:
        # An exception in a callback would end libcurl's multi forever, and no request
        # would learn of it.
        for transfer in self._busy.values():
            if transfer.outcome is None:
                transfer.finish(pycurl.E_ABORTED_BY_CALLBACK, str(error))

    def _act_on_ready(self) -> None:
        for descriptor, events in self._epoll.poll(0):
            if descriptor in self._watched:
                action = _ACTIONS.get(events, _ALL)
                self._curl.socket_action(descriptor, action)
            else:
                # an idle connection has ended; libcurl notices that before it uses it
                with suppress(OSError):
                    self._epoll.unregister(descriptor)
        self._take_ended()

    def forget_in_child(self) -> None:
        """Close the sockets in a forked child, because they belong to the parent process.

        A socket stays open as long as any process has it. It would then stay in the
        parent's epoll, and always be ready. Its descriptor stays in use, so that
        libcurl never writes into another file.
        """
        nothing = os.open(os.devnull, os.O_RDWR)
        for addresses, descriptor in self._descriptors.items():
            if addresses_of(descriptor) == addresses:
                os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)

    def _watch_by_loop(self, what: int, descriptor: int, _: Any, __: Any) -> None:
        events = 0 if what in _UNWATCHED else what
        for event, add, remove in (
            (pycurl.POLL_IN, self._loop.add_reader, self._loop.remove_reader),
            (pycurl.POLL_OUT, self._loop.add_writer, self._loop.remove_writer),
        ):
            if not events & event:
                remove(descriptor)
                continue
            try:
                # An empty context: the context of a task would live as long as the
                # connection.
                Context().run(add, descriptor, self._act, descriptor, event)
            except OSError as error:
                self._fail_all(error)

    # -- timers of libcurl ----------------------------------------------------------------

    def _take_timeouts(self) -> None:
        # Most calls ask for no delay, or for a later time than a running timer has.
        milliseconds = self._timeouts[-1]
        self._timeouts.clear()
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

    def _act_in_time(self) -> None:
        self._timer = None
        if self._loop.time() >= self._timeout_at:
            self._timeout_at = math.inf
            self._act(pycurl.SOCKET_TIMEOUT, 0)
        elif self._timeout_at < math.inf:
            self._set_timer()

    # -- on the loop ---------------------------------------------------------------------

    def _act_now(self) -> None:
        self._acts_soon = False
        self._act(pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, event: int) -> None:
        self._curl.socket_action(descriptor, event)
        self._take_ended()

    def _take_ended(self) -> None:
        left = 1
        while left:
            left, done, failed = self._curl.info_read()
            for easy in done:
                self._end(easy, 0, "")
            for easy, code, text in failed:
                self._end(easy, code, text)
        if self._timeouts:
            self._take_timeouts()

    def _end(self, easy: Any, code: int, text: str) -> None:
        transfer = self._busy.get(easy)
        if transfer is None or transfer.outcome is not None:
            return
        if code and transfer.begins_again():
            self._curl.remove_handle(easy)
            self._curl.add_handle(easy)
        else:
            transfer.finish(code, text)

    # -- stalled requests -----------------------------------------------------------------

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
        """End stalled requests, because libcurl calls no function while no bytes move."""
        self._check = None
        for easy, transfer in self._busy.items():
            if transfer.outcome is not None:  # the request waits for its task
                continue
            sent = easy.getinfo(pycurl.SIZE_UPLOAD_T)
            received = easy.getinfo(pycurl.SIZE_DOWNLOAD_T)
            if transfer.watch(int(sent + received)):
                transfer.finish(pycurl.E_ABORTED_BY_CALLBACK, "")
        if self._busy:
            self._check_within(min(each.window for each in self._busy.values()))


_multis: weakref.WeakSet[Multi] = weakref.WeakSet()


def _forget_all() -> None:
    for multi in list(_multis):
        multi.forget_in_child()
    _multis.clear()


at_fork(after_in_child=_forget_all)
