"""HTTP transport: sends one signed request, and returns a reply or raises an error.

libcurl sends. The query of a presigned URL never appears in a log or a message. Only
Host, Content-Length, User-Agent and Accept-Encoding are added to the signed request.
Redirects, cookies and netrc entries are ignored.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from ..concurrency.thread_pool import Workers
from ..concurrency.waiting import Future
from ..errors import ConfigurationError, NetworkError, SignerError
from ..model import Reply, SignedRequest
from ..request_checks import http_problem, url_problem
from ..secret import SecretURL
from .awake_clock import AWAKE
from .body import EMPTY, Body, MemoryBody
from .exchange import PLAIN, Exchange
from .handle import HandlePool
from .route import ProxyError
from .transfer import TooLongError, Transfer, said, shown

_EXCHANGE = 60.0  # seconds of one whole exchange with a signer, at most
# The main thread waits for one of them; the others wait for a callback of the user that
# did not end when the main thread was interrupted.
_senders = Workers("osspresigned-send", 64)


class Transport:
    """Sends requests over one pool of connections; one per process and set of options.

    *pool* is the number of connections kept for each host. Enough bytes must move
    within *progress_timeout* seconds (256 bytes for each second), while sending,
    waiting for the reply and reading the reply; None is no limit. *allow_http* permits
    plain http to other machines.
    """

    def __init__(
        self,
        *,
        pool: int = 16,
        connect_timeout: float = 10.0,
        progress_timeout: float | None = 60.0,
        allow_http: bool = False,
    ) -> None:
        window = math.inf if progress_timeout is None else progress_timeout
        self.pool = HandlePool(pool, connect_timeout, window)
        self._allow_http = allow_http
        self._allowed: set[str] = set()

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.close()

    def send(
        self, signed: SignedRequest, body: Body = EMPTY, exchange: Exchange = PLAIN
    ) -> Reply:
        """Send *signed* unchanged, and *body* once; return the server's reply.

        Raises:
            ConfigurationError: the URL or a header cannot be sent unchanged.
            NetworkError: no complete reply; the server may have executed the request.
            NetworkTimeoutError: no connection, or too little progress in time.
            UploadDiscardedError: the request was cancelled.
            OSError: an error while reading the body or writing to the sink.
        """
        transfer = self.transfer(signed, body, exchange)
        try:
            reply = self._in_a_thread(transfer)
        except BaseException as error:  # noqa: BLE001 - it is raised again
            # The frames below hold the request, and a traceback may show their variables.
            failure = error.with_traceback(None)
        else:
            return reply
        finally:
            AWAKE.exclude(transfer.suspended)
        transfer.report(-transfer.sent)
        # Outside of the handlers, so that no foreign exception hangs on ours.
        raise failure

    def _in_a_thread(self, transfer: Transfer) -> Reply:
        """Perform *transfer* in a thread that is not the main thread.

        Python runs signal handlers in the main thread, and pycurl would lose what they
        raise in a callback.
        """
        if threading.current_thread() is not threading.main_thread():
            return self._perform(transfer)
        future: Future[Reply] = Future()
        try:
            try:
                _senders.queue(_run, future, partial(self._perform, transfer))
            except RuntimeError:  # no thread can be started
                return self._perform(transfer)
            return future.result()
        except BaseException:
            transfer.stop()
            if not future.cancel():
                future.wait()
            raise

    def _perform(self, transfer: Transfer) -> Reply:
        handle, reusable = self.pool.acquire(transfer.route), False
        try:
            transfer.begin(handle, self.pool.progress_seconds)
            code, text = handle.perform()
            while transfer.begins_again():
                code, text = handle.perform()
            reply = transfer.reply(code, text)
            reusable = transfer.is_reusable and not code
        finally:
            transfer.end()
            self.pool.release(handle, reusable=reusable)
        return reply

    def transfer(
        self,
        signed: SignedRequest,
        body: Body = EMPTY,
        exchange: Exchange = PLAIN,
        *,
        small_only: bool = False,
    ) -> Transfer:
        """Return *signed* with its body as a transfer; *small_only* as there.

        Raises:
            ConfigurationError: the URL or a header cannot be sent unchanged.
            NetworkError: the proxy or the certificate authorities cannot be used.
        """
        origin = self._origin(signed, exchange.path)
        try:
            route = self.pool.route_to(origin)
        except OSError as error:
            by = "proxy or " if isinstance(error, ProxyError) else ""
            reason = said(error.strerror or str(error) or type(error).__name__)
            msg = f"the connection to {by}{origin.partition('://')[2]} failed: {reason}"
            failure = NetworkError(msg, path=exchange.path, sent=False)
        else:
            return Transfer(signed, body, exchange, route, small_only=small_only)
        raise failure

    def exchange(
        self,
        method: str,
        url: SecretURL,
        headers: Mapping[str, str],
        body: bytes,
        limit: int,
    ) -> Reply:
        """Send one small request to a server other than the store, such as a signer.

        Raises:
            NetworkError, NetworkTimeoutError: no complete reply arrived within a
                minute.
            SignerError: the reply is longer than *limit* bytes.
        """
        deadline = time.monotonic() + _EXCHANGE
        one = Exchange(free_headers=headers, limit=limit, deadline=deadline)
        # They hold a token, and a traceback may show the variables of frames.
        del headers
        signed = SignedRequest(method=method, url=url)
        try:
            return self.send(signed, MemoryBody.of(body), one)
        except TooLongError as error:
            text = error.message
        raise SignerError(text)

    def _origin(self, signed: SignedRequest, path: str | None) -> str:
        """Return scheme, host and port of the URL.

        Raises ConfigurationError if the URL is not permitted.
        """
        text = signed.url.reveal()
        problem = url_problem(text)
        origin = "/".join(shown(signed).split("/", 3)[:3])
        if problem is None and origin not in self._allowed:
            problem = http_problem(text, allow_http=self._allow_http, local=True)
            if problem is None:
                self._allowed.add(origin)
        if problem:
            raise ConfigurationError(f"the URL to send to {problem}", path=path)
        return origin


def _run(future: Future[Reply], perform: Callable[[], Reply]) -> None:
    if not future.start():
        return
    try:
        future.set_result(perform())
    except BaseException as error:  # noqa: BLE001 - raised in the main thread
        future.set_exception(error)
