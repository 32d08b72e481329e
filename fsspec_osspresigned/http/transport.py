"""HTTP transport: sends a signed request, and returns the reply or raises an error.

libcurl sends. The query of a presigned URL never appears in a log or a message. Only
Host, Content-Length, User-Agent and Accept-Encoding are added to the signed request.
Redirects, cookies and netrc entries are ignored.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from functools import partial

from ..engine.engine import blocking, call_user, in_background, running, shielded
from ..errors import ConfigurationError, NetworkError
from ..model import Reply, SignedRequest
from ..url_checks import MAX_URL, http_problem, is_plain_target, url_problem
from .body import EMPTY, SMALL, Body, MemoryBody, PartBody, loaded
from .handle import IDLE, MAX_ORIGINS, Handle, ProxyError, Route, find_route, origin_of
from .multi import Multi
from .transfer import PLAIN, Exchange, Transfer, said, shown

_AFTER_SCHEME = len("https://")


class Transport:
    """Sends requests over kept connections; one per process and set of options.

    For worker threads, each transport keeps up to *pool* idle connections to each host.
    The connections of the loop are shared by all transports.

    A request fails if fewer than 256 bytes a second move within *progress_timeout*
    seconds, while it is sent, waits for its reply, or reads the reply. None sets no
    limit. *allow_http* permits plain http to other machines.
    """

    def __init__(
        self,
        *,
        pool: int = 16,
        connect_timeout: float = 10.0,
        progress_timeout: float | None = 60.0,
        allow_http: bool = False,
    ) -> None:
        self._pool, self._connect_seconds = pool, connect_timeout
        self._progress_seconds = (
            math.inf if progress_timeout is None else progress_timeout
        )
        self._allow_http = allow_http
        # Origin -> its route, after the origin was checked.
        self._routes: dict[str, Route] = {}
        weakref.finalize(self, _drop, self._routes)

    def close(self) -> None:
        """Close the idle connections of worker threads.

        The connections of the loop stay, because other transports use them.
        """
        routes = self._routes.copy()
        # first, so that no handle in use is kept after its request
        self._routes.clear()
        _drop(routes)

    async def send(
        self,
        signed: SignedRequest,
        body: Body = EMPTY,
        exchange: Exchange = PLAIN,
        path: str | None = None,
    ) -> Reply:
        """Send *signed* unchanged with *body*, or call its ``carry_out``; return the reply.

        *path* is ``bucket/key`` for error messages; None if the request concerns no object.

        The engine's loop sends a body of up to ``SMALL`` bytes; a file is read before that.
        A worker thread sends a larger body, and every exchange with ``in_thread``.

        Raises:
            ConfigurationError: the URL or a header cannot be sent unchanged.
            NetworkError: no complete reply; the server may have executed the request.
            NetworkTimeoutError: no connection, or too little progress in time.
            OSError: an error while reading the body or writing to the sink.
            LargeReplyError: the sink would get more than ``SMALL`` bytes on the loop; call
                again with ``in_thread`` in the exchange.
        """
        if signed.carry_out is not None:
            # a cancelled caller does not wait for this call
            try:
                return await shielded(call_user(signed.carry_out, body))
            except asyncio.CancelledError as error:
                error.add_note(f"whether {path} was uploaded is unknown")
                raise
        route = self._known_route(signed) or await self._route(signed, path)
        in_thread = exchange.in_thread or body.size > SMALL
        if not (in_thread or isinstance(body, MemoryBody | PartBody)):
            body = await _loaded(body, path)
        transfer = Transfer(
            signed, body, exchange, route, path=path, on_loop=not in_thread
        )
        if in_thread:
            return await self._by_thread(transfer)
        multi: Multi = running().owned[Multi]
        multi.begin(transfer, self._progress_seconds)
        try:
            if transfer.ended.done():
                await asyncio.sleep(0)  # lets other tasks run, even if the loop is busy
            await transfer.ended
        except asyncio.CancelledError as error:
            await _answer_after(error, transfer)
            raise
        finally:
            multi.end(transfer)
        outcome: Reply | BaseException = transfer.outcome
        if isinstance(outcome, BaseException):
            try:
                raise outcome
            finally:
                # The exception and this frame would keep each other, and the body,
                # alive.
                del outcome, transfer
        if exchange.progress is not None and transfer.sent and outcome.is_good:
            try:
                await call_user(exchange.progress, transfer.sent)
            except BaseException as error:
                transfer.note_effect(error)
                raise
        return outcome

    async def _by_thread(self, transfer: Transfer) -> Reply:
        try:
            return await blocking(self._perform, transfer, stop=transfer.stop)
        except asyncio.CancelledError as error:
            transfer.note_effect(error)
            raise

    def _perform(self, transfer: Transfer) -> Reply:
        route, reusable = transfer.route, False
        handle = IDLE.take(route) or Handle(route)
        try:
            transfer.begin(handle, self._progress_seconds)
            code, text = handle.perform()
            while transfer.begins_again():
                code, text = handle.perform()
            transfer.outcome = reply = transfer.reply(code, text)
            reusable = transfer.is_reusable and not code
        except BaseException as error:  # noqa: BLE001 - the exception is raised again
            transfer.report(-transfer.sent)
            # The frames below contain pieces of the body, and a traceback may show
            # them.
            raise error.with_traceback(None)  # noqa: B904 - it is the same error
        finally:
            transfer.end()
            if reusable and self._routes.get(route.origin) is route:
                IDLE.keep(handle, self._pool)
            elif transfer.has_connection:
                handle.close()
            else:  # libcurl may block in there while the system looks up the name
                in_background(partial(blocking, handle.close))
        return reply

    def _known_route(self, signed: SignedRequest) -> Route | None:
        """Return the route to the origin of *signed* if it was used before and is allowed.

        None means that ``_route`` must check the URL.
        """
        text = signed.url.reveal()
        end = text.find("/", _AFTER_SCHEME)
        is_plain = is_plain_target(text, end) and len(text) <= MAX_URL
        return self._routes.get(text[:end]) if is_plain else None

    async def _route(self, signed: SignedRequest, path: str | None) -> Route:
        text = signed.url.reveal()
        problem = url_problem(text)
        problem = problem or http_problem(text, allow_http=self._allow_http, local=True)
        if problem:
            raise ConfigurationError(f"the URL to send to {problem}", path=path)
        origin = origin_of(shown(signed))
        try:
            route = await blocking(find_route, origin, self._connect_seconds)
        except OSError as error:
            by = "proxy or " if isinstance(error, ProxyError) else ""
            reason = said(error.strerror or str(error) or type(error).__name__)
        else:
            route = self._routes.setdefault(origin, route)
            surplus = list(self._routes)[:-MAX_ORIGINS]
            IDLE.drop([self._routes.pop(other) for other in surplus])
            return route
        msg = f"the connection to {by}{origin.partition('://')[2]} failed: {reason}"
        raise NetworkError(msg, path=path, sent=False)


def _drop(routes: dict[str, Route]) -> None:
    IDLE.drop(routes.values())


async def _answer_after(cancelled: asyncio.CancelledError, transfer: Transfer) -> None:
    """Wait for the reply to a request that may have acted, at most for its grace.

    So the server does not act after the cancellation. *cancelled* gets a note about the
    reply, or about its lack.
    """
    try:
        if transfer.may_act and transfer.outcome is None:
            transfer.ended = asyncio.get_running_loop().create_future()
            await asyncio.wait((transfer.ended,), timeout=transfer.exchange.grace)
    except asyncio.CancelledError as again:
        transfer.note_effect(again)
        raise
    transfer.note_effect(cancelled)


async def _loaded(body: Body, path: str | None) -> MemoryBody:
    whole = await blocking(loaded, body)
    if whole.size != body.size:
        text = f"the body ends after {whole.size} of {body.size} bytes"
        raise NetworkError(text, path=path, sent=False)
    return whole
