"""Process of the signer service ``osspresigned serve``, from start to stop.

It speaks plain HTTP. A reverse proxy must handle TLS, slow clients and the number of
connections. The log has one line of JSON on stdout for each event, without secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import uvicorn
from attrs import field, frozen
from starlette.routing import BaseRoute

from ...asgi_server import AnnouncingServer, listen
from ...errors import ConfigurationError
from ...units import shown_moment
from .app import AccessRecord, Service, create_ruled_app
from .policy_file import PolicyFile, watch
from .token_store import TokenStore
from .upload_page import page_routes

Say = Callable[..., None]
_STDOUT = 1


class LineHandler(logging.Handler):
    """Log handler that writes warnings of libraries to the service log."""

    def emit(self, record: logging.LogRecord) -> None:
        say("warning", logger=record.name, text=self.format(record))


def say(event: str, **facts: Any) -> None:
    """Write *event* as one line to stdout.

    It uses no file object, because Python would flush it at exit, and fail if the
    reader has closed the pipe.
    """
    line = json.dumps({"time": shown_moment(time.time()), "event": event, **facts})
    data = f"{line}\n".encode()
    # If the reader of the log has closed it, signing continues.
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(_STDOUT, data) :]


def log_call(record: AccessRecord, say: Say, *, log_keys: bool = False) -> None:
    facts: dict[str, Any] = {"paths": record.paths} if log_keys else {}
    if record.fault is not None:
        facts["fault"] = record.fault
    if record.status == HTTPStatus.UNAUTHORIZED:
        facts["client"] = record.client
    refused = sum(record.codes.values())
    say(
        "sign",
        token=record.token,
        requests=record.requests,
        signed=record.requests - refused if record.status == HTTPStatus.OK else 0,
        status=record.status,
        codes=dict(record.codes),
        ms=record.milliseconds,
        **facts,
    )


_IDLE_SECONDS = 75  # seconds; proxies close idle connections earlier
_STOP_SECONDS = 35


_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]+)?").fullmatch


def _check_origins(_: object, __: object, origins: tuple[str, ...]) -> None:
    rule = "write it as a browser does, https://app.example.com"
    if bad := [text for text in origins if not _ORIGIN(text)]:
        raise ConfigurationError([f"origin {text[:80]!r}: {rule}" for text in bad])


@frozen(kw_only=True)
class ServiceSettings:
    """Options of ``osspresigned serve``."""

    policy_file: Path
    # File with added tokens and used quotas. None uses a file beside the policy.
    tokens_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0  # 0 takes a free port
    log_keys: bool = False
    page: bool = False  # True serves the page for browsers, too
    # Web sites, such as ``https://app.example.com``, on which Uppy may use the service.
    # If empty, the service has no route for Uppy.
    uppy_origins: tuple[str, ...] = field(default=(), validator=_check_origins)


async def serve(
    settings: ServiceSettings, policy: PolicyFile, listener: socket.socket
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running calls.

    SIGHUP and a change of the file load the policy again; a policy with mistakes is
    ignored.
    """

    def routes(service: Service) -> Iterator[BaseRoute]:
        if settings.page:
            yield from page_routes(lambda: policy.signer.endpoint)
        if settings.uppy_origins:
            from .uppy import uppy_route  # noqa: PLC0415 - few services need it

            yield uppy_route(service, settings.uppy_origins)

    app = create_ruled_app(
        lambda: policy.rules,
        limits=policy.limits,
        store=policy.store,
        tell=lambda record: log_call(record, say, log_keys=settings.log_keys),
        routes=lambda service: [*routes(service)],
    )
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        # Mistakes of clients are not logged as warnings, because clients could fill the
        # log with them.
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    facts = {
        "url": f"http://{host}:{listener.getsockname()[1]}",
        "pid": os.getpid(),
        "tokens": len(policy.rules.tokens),
    }
    server = AnnouncingServer(config, lambda: say("started", **facts))
    hangup = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    # While uvicorn serves, it handles these signals. At its end it raises them again,
    # which would kill the process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, server.handle_exit)
    watching = asyncio.create_task(watch(policy, hangup))
    await server.serve(sockets=[listener])
    watching.cancel()
    await asyncio.wait([watching])


def launch(settings: ServiceSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: policy or keys are invalid; the message lists every mistake.
        OSError: the service cannot listen on the address.
    """
    # The whole configuration is checked before the port is taken.
    store = TokenStore.of(settings.policy_file, settings.tokens_file)
    policy = PolicyFile(path=settings.policy_file, store=store, say=say)
    policy.load()
    for token in policy.rules.tokens.values():
        with store.counting(token):
            pass  # entering the block opens the database, if the token has a quota
    with listen(settings.host, settings.port) as listener:
        logging.basicConfig(handlers=[LineHandler()])
        asyncio.run(serve(settings, policy, listener))
    say("stopped")
