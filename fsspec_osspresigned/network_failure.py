"""What a failure below us means: one of our errors, which names host, phase and bytes."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

import requests
import urllib3

from .errors import NetworkError, NetworkTimeoutError
from .secret import redact
from .watch import Phase, StalledError

_MAX_REASON = 200
_CONTROL = r"[\x00-\x1f\x7f-\x9f]"  # compiled by its first use
_LATE = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
_BY_PROXY = (requests.exceptions.ProxyError, urllib3.exceptions.ProxyError)
_CONNECTING = (
    requests.ConnectTimeout,
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
    ssl.SSLCertVerificationError,
)


def network_error(
    error: BaseException,
    *,
    host: str,
    path: str | None,
    connect_seconds: float,
    sent: int,
    size: int,
) -> NetworkError:
    """Return our error for one of requests, urllib3, http.client or the socket.

    Args:
        error: what was raised.
        host: where the request went, for the message.
        path: ``bucket/key``; None if no object is concerned.
        connect_seconds: how long a connection was waited for.
        sent: bytes of the body that went out.
        size: bytes of the whole body.
    """
    chain = list(_reasons(error))
    stalled = next((e for e in chain if isinstance(e, StalledError)), None)
    phase = stalled.phase if stalled else None
    connecting = phase is Phase.CONNECT or any(
        isinstance(e, _CONNECTING) for e in chain
    )
    # A server that has less than what was announced cannot have acted on it.
    whole = not connecting and sent >= size
    if any(isinstance(e, _BY_PROXY) for e in chain):
        host = f"proxy or {host}"
    # A refused connection is a late one to urllib3.
    refused = any(isinstance(e, urllib3.exceptions.NewConnectionError) for e in chain)
    if refused or not any(isinstance(e, _LATE) for e in chain):
        said = _said(chain)
        if any(isinstance(e, ssl.SSLCertVerificationError) for e in chain):
            said += "; REQUESTS_CA_BUNDLE names the file of a private authority"
        text = f"the connection to {host} failed: {said}"
        return NetworkError(text, path=path, sent=whole)
    if connecting:
        text = f"no connection to {host} within {connect_seconds:g} s"
        return NetworkTimeoutError(text, path=path, sent=False)
    text = f"no progress with {host}"
    if stalled is not None and stalled.late:
        text = f"{host} took too long in all, while {stalled.phase.value}"
    elif stalled is not None:
        text += f" for {stalled.seconds:g} s while {stalled.phase.value}"
    text += f": {sent} of {size} bytes sent"
    if stalled is not None and phase is Phase.READ:
        text += f", {stalled.moved} received"
    return NetworkTimeoutError(text, path=path, sent=whole)


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* and what it wraps: requests and urllib3 nest up to four deep."""
    seen: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop(0)
        if one in seen:
            continue
        seen.append(one)
        yield one
        inner = [*one.args, getattr(one, "reason", None), one.__cause__]
        waiting += [e for e in inner if isinstance(e, BaseException)]


def _said(chain: list[BaseException]) -> str:
    """Return what the innermost error of the system says; its kind if it is no such."""
    deepest = next((e for e in reversed(chain) if isinstance(e, OSError)), chain[-1])
    text = type(deepest).__name__
    if isinstance(deepest, OSError) and not isinstance(
        deepest, requests.RequestException
    ):
        # What a proxy says, and http.client of an early end, carries no errno.
        text = deepest.strerror or str(deepest) or text
    return redact(re.sub(_CONTROL, " ", text))[:_MAX_REASON]
