"""Emulator server on a loopback port, in a ``with`` block or standalone."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any, Self, TypeVar, cast

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ..asgi_server import listen, settle, stop_accepting
from ..errors import ConfigurationError
from ..http.checksums import CRC_HEADER
from ..secret import Secret
from ..signing.canonical import Credentials
from ..signing.endpoint import Endpoint, check_bucket
from ..units import shown_moment
from .app import WIRE, App, RequestRecord
from .faults import Fault
from .settings import DEFAULT_REGION, Callback, Clock, EmulatorSettings, accept_callback
from .store import Contents, Store, StoredObject, StoredUpload
from .wire import ClientConnection, Wire

_T = TypeVar("_T")

DEFAULT_BUCKET = "examplebucket"
GRACE = 1.0  # seconds that running requests get to finish when the server stops
_LOOPBACK = "127.0.0.1"
_KEY = Credentials(
    access_key_id="LTAI5tEmulatorKeyId",
    access_key_secret=Secret("EmulatorAccessKeySecret"),
)


class _EmulatorProtocol(HttpToolsProtocol):
    numbers = itertools.count(1)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # uvicorn's access log would contain whole queries with signatures
        self.access_log = False
        # ali-oss sends a Content-Length with a chunked body.
        self.parser.set_dangerous_leniencies(lenient_chunked_length=True)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.link = ClientConnection(transport, next(self.numbers))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.link.gone.set()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        wire = Wire(self.link, self.cycle, self.link.requests > 0)
        self.link.requests += 1
        self.scope["extensions"] = {WIRE: wire}  # type: ignore[dict-item]


_EXPOSED = (
    *("ETag", "Content-Length", "Content-Range", "Date", CRC_HEADER, "x-oss-ec"),
    *("x-oss-next-append-position", "x-oss-request-id", "x-oss-version-id"),
)


class _EmulatorServer:
    def __init__(self, app: App, listener: socket.socket) -> None:
        self._config = uvicorn.Config(
            CORSMiddleware(
                app,
                allow_origins=["*"],
                allow_methods=["GET", "PUT", "POST", "DELETE", "HEAD"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
            ),
            ws="none",
            lifespan="off",
            log_config=None,
            date_header=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=75,
        )
        self._config.load()
        self._state = ServerState()
        self._listener = listener
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="osspresigned-emulator", daemon=True
        )
        self._thread.start()
        make = partial(_EmulatorProtocol, self._config, self._state, {})
        self._server = self._run(self._loop.create_server(make, sock=listener))

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    @property
    def connections(self) -> list[_EmulatorProtocol]:
        return cast("list[_EmulatorProtocol]", list(self._state.connections))

    @property
    def under_way(self) -> int:
        return len(self._state.tasks)

    def stop(self) -> None:
        self._run(self._shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _shutdown(self) -> None:
        await stop_accepting([self._listener])
        self._server.close()
        for protocol in self.connections:
            protocol.shutdown()
            if protocol.link.waiting:  # a fault holds this connection open
                protocol.link.transport.abort()
        running = set(self._state.tasks)
        if running:
            _, running = await asyncio.wait(running, timeout=GRACE)
        for protocol in self.connections:
            protocol.link.transport.abort()
        if running:
            # Handlers that wait finish when their connections are closed.
            await asyncio.wait(running)
        # asyncio closes a transport one turn of the loop after ``close``.
        await settle()
        await self._loop.shutdown_default_executor()


class Emulator:
    """OSS on this machine, while the ``with`` block runs.

    It verifies every signature, V1 and V4, in URLs and in headers, and replies like
    OSS. It supports path style (``http://127.0.0.1:PORT/BUCKET/KEY``), virtual-hosted
    style (``BUCKET.localhost:PORT``) and the host names in *cnames*.

    Args:
        credentials: accepted access keys, the owner's first; None uses a fixed one.
        buckets: names of the buckets that exist.
        region: region that V4 signatures must name.
        port: TCP port; 0 takes a free one.
        faults: initial rules; :attr:`faults` adds more.
        cnames: host name -> bucket.
        versioned: buckets with versioning, which ignore forbid-overwrite.
        callback: function that acts as the callback server; if it returns None, the
            callback fails.

    Attributes:
        credentials: the owner's access key.
        faults: the active faults: ``faults.add(Fault(...))``.
        clock: the server's clock; set its ``offset`` in seconds, or call ``jump``.
        store: the stored objects.

    Raises:
        ConfigurationError: a bucket name is invalid.
        OSError: on entering, if the port is taken.
    """

    def __init__(
        self,
        credentials: Iterable[Credentials] | None = None,
        buckets: Iterable[str] = (DEFAULT_BUCKET,),
        *,
        region: str = DEFAULT_REGION,
        port: int = 0,
        faults: Iterable[Fault] = (),
        cnames: Mapping[str, str] | None = None,
        versioned: Iterable[str] = (),
        callback: Callback = accept_callback,
    ) -> None:
        keys = list(credentials or [_KEY])
        self.credentials = keys[0]
        self.region = region
        self.clock = Clock()
        settings = EmulatorSettings(
            keys={key.access_key_id: key for key in keys},
            region=region,
            clock=self.clock,
            cnames={name.lower(): bucket for name, bucket in (cnames or {}).items()},
            callback=callback,
        )
        self.store = Store()
        versioned = frozenset(versioned)
        for bucket in dict.fromkeys((*buckets, *versioned)):
            if (problem := check_bucket(bucket)) is not None:
                raise ConfigurationError(problem)
            self.store.add_bucket(bucket, versioned=bucket in versioned)
        self._port = port
        self._app = App(self.store, settings)
        self.faults = self._app.faults
        self.faults.add(*faults)
        self._server: _EmulatorServer | None = None

    @property
    def url(self) -> str:
        """URL with scheme, address and port; the path begins with the bucket."""
        return f"http://{_LOOPBACK}:{self._port}"

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint to sign URLs for, in path style."""
        return Endpoint.parse(self.url, style="path")

    @property
    def requests(self) -> list[RequestRecord]:
        """The last 100,000 requests, in the order of their replies."""
        return list(self._app.records)

    def clear(self) -> None:
        """Remove the recorded requests and the faults; keep the objects."""
        self._app.records.clear()
        self.faults.clear()

    @property
    def held(self) -> int:
        """Number of open connections that a fault stalls."""
        connections = self._server.connections if self._server else []
        return sum(bool(protocol.link.waiting) for protocol in connections)

    @property
    def under_way(self) -> int:
        """Number of requests that have begun, but not ended."""
        return self._server.under_way if self._server else 0

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object; None if the object or its bucket does not exist."""
        place = self.store.buckets.get(bucket)
        return place.objects.get(key) if place else None

    def objects(self, bucket: str) -> Contents:
        """Return a snapshot of the objects in *bucket*: key -> bytes."""
        return Contents(dict(self.store.buckets[bucket].objects))

    def uploads(self, bucket: str) -> list[StoredUpload]:
        """Return the open multipart uploads of *bucket*."""
        return list(self.store.buckets[bucket].uploads.values())

    def start(self) -> None:
        """Begin to listen, and return when the server accepts connections.

        Raises OSError if the port is taken.
        """
        listener = listen(_LOOPBACK, self._port)
        self._port = listener.getsockname()[1]
        self._server = _EmulatorServer(self._app, listener)

    def stop(self) -> None:
        """Stop listening, and keep the objects; :meth:`start` reuses the port."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def close(self) -> None:
        """Stop the server, and remove all objects."""
        self.stop()
        self.store.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(*, port: int = 9000, sts: int | None = None, **options: Any) -> None:
    """Run an emulator until SIGINT or SIGTERM; print its address and keys.

    It works in the main thread only.

    Args:
        port: TCP port; 0 lets the system choose a free port.
        sts: lifetime of a temporary (STS) key in seconds; None uses a long-term key.
        options: arguments of :class:`Emulator`.

    Raises:
        OSError: the port is taken.
    """
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    if sts is not None:
        options["credentials"] = [_sts_key(sts)]
    with Emulator(port=port, **options) as oss:
        print(_description(oss), flush=True)  # noqa: T201 - output of a command
        done.wait()


def _sts_key(seconds: float) -> Credentials:
    return Credentials(
        "STS.EmulatorKeyId",
        Secret("EmulatorStsSecret"),
        Secret("EmulatorSecurityToken"),
        float(int(time.time() + seconds)),
    )


def _description(oss: Emulator) -> str:
    # The secrets are shown, because they belong to this emulator and open nothing else.
    key, names = oss.credentials, ", ".join(oss.store.buckets)
    variables = {
        "ENDPOINT": oss.url,
        "REGION": oss.region,
        "ACCESS_KEY_ID": key.access_key_id,
        "ACCESS_KEY_SECRET": key.access_key_secret.reveal(),
    }
    if key.security_token is not None and key.expires_at is not None:
        variables["SESSION_TOKEN"] = key.security_token.reveal()
        variables["SESSION_EXPIRATION"] = shown_moment(key.expires_at)
    lines = [f"  export OSS_{name}={value}\n" for name, value in variables.items()]
    return (
        f"OSS emulator at {oss.url} (buckets: {names}). Point clients at it with\n"
        f"{''.join(lines)}"
        "Path style: URL/BUCKET/KEY. Every signature is verified. Ctrl-C ends it."
    )
