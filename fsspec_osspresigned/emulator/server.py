"""The emulator as a server: on a loopback port while a ``with`` block runs, or alone."""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Self, TextIO, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..asgi import listen, settle, stop_accepting
from ..errors import ConfigurationError
from ..model import MAX_SINGLE_PUT, MIN_PART
from ..secret import Secret
from ..signing import Credentials, Endpoint
from ..signing.endpoint import check_bucket
from .app import WIRE, App
from .calls.exchange import DEFAULT_REGION, Callback, Clock, Settings, accept_callback
from .faults.connection import Connection, Wire
from .faults.faults import Fault, Faults
from .records import Record
from .store.bodies import Folder
from .store.journal import open_disk_store
from .store.store import Contents, Store, StoredObject, Upload

DEFAULT_BUCKET = "examplebucket"
_LOOPBACK = "127.0.0.1"
_GRACE = 1.0  # seconds that running requests get when the server stops
_GLANCE = 0.1  # seconds between two looks at a server that starts


class _Protocol(HttpToolsProtocol):
    """Hands its connection to the application, which may have to break it."""

    numbers = itertools.count(1)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.access_log = False  # it would write whole queries, signatures included

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.link = Connection(transport, next(self.numbers))
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.link.gone.set()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        wire = Wire(self.link, self.cycle, self.link.requests > 0)
        self.link.requests += 1
        self.scope["extensions"] = {WIRE: wire}  # type: ignore[dict-item]


class _Server(uvicorn.Server):
    """A server that says when it listens and stops as soon as it is told to."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()
        self._told: asyncio.Event
        self._loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await stop_accepting(sockets or [])
        for server in self.servers:
            server.close()
        for open_one in cast("list[_Protocol]", list(self.server_state.connections)):
            open_one.shutdown()
            if open_one.link.waiting:  # a fault holds it: nobody waits for that
                open_one.transport.abort()
        running = set(self.server_state.tasks)
        if running:
            _, running = await asyncio.wait(running, timeout=_GRACE)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        if running:
            # Whatever they wait for ends with their connection.
            await asyncio.wait(running)
        for listener in sockets or []:
            listener.close()
        await settle()  # a transport that was told to close is closed a turn later

    def tell_to_stop(self) -> None:
        """Stop; called from another thread."""
        self._loop.call_soon_threadsafe(self._told.set)


class Emulator:
    """OSS on this machine, while the ``with`` block runs.

    It verifies every signature - V1 and V4, in URLs and in headers - and answers as
    OSS does. Path style
    (``http://127.0.0.1:PORT/BUCKET/KEY``), virtual-hosted (``BUCKET.localhost:PORT``)
    and the host names in *cnames* are understood.

    Args:
        credentials: whose signatures count; the first are the owner's. None makes one.
        buckets: names of the buckets that exist.
        root: directory of a disk store; None keeps everything until the end only.
        region: that V4 signatures must name; None takes any.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        clock: seconds since the epoch; the server's own comes from it.
        clock_offset: seconds that the server is ahead of it; negative for behind.
        faults: rules to begin with; more by :attr:`faults`.
        cnames: host name -> bucket.
        versioned: buckets that have versioning on: they ignore forbid-overwrite.
        origins: origins that CORS allows.
        min_part: bytes below which only the last part of an upload may be.
        max_put: bytes above which no single body may be.
        body_timeout: seconds to wait for the next bytes of a body.
        callback: plays the callback server; None as its answer means that it failed.

    Raises:
        ConfigurationError: a bucket name that OSS does not take.
        OSError: on entering, if the port is taken.
    """

    def __init__(
        self,
        credentials: Iterable[Credentials] | None = None,
        buckets: Iterable[str] = (DEFAULT_BUCKET,),
        *,
        root: Path | None = None,
        region: str | None = "cn-hangzhou",
        host: str = _LOOPBACK,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        clock_offset: float = 0.0,
        faults: Iterable[Fault] = (),
        cnames: Mapping[str, str] | None = None,
        versioned: Iterable[str] = (),
        origins: Iterable[str] = ("*",),
        min_part: int = MIN_PART,
        max_put: int = MAX_SINGLE_PUT,
        body_timeout: float = 60.0,
        callback: Callback = accept_callback,
    ) -> None:
        """Keep what to serve; nothing is bound before the block is entered."""
        self._keys = list(credentials or [default_credentials()])
        versioned = frozenset(versioned)
        self._address = (host, port)
        self.settings = Settings(
            clock=Clock(clock, clock_offset),
            min_part=min_part,
            max_put=max_put,
            body_timeout=body_timeout,
            region=region or DEFAULT_REGION,
            callback=callback,
        )
        self.region = region
        self._store = Store(Folder()) if root is None else open_disk_store(root)
        for bucket in dict.fromkeys((*buckets, *versioned)):
            if (problem := check_bucket(bucket)) is not None:
                raise ConfigurationError(problem)
            self._store.add_bucket(bucket, versioned=bucket in versioned)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        by_id = {key.access_key_id: key for key in self._keys}
        self._app = App(
            self._store,
            self.settings,
            find=by_id.get,
            region=region,
            cnames=cnames,
            origins=tuple(origins),
        )
        self._app.faults.add(*faults)

    @property
    def credentials(self) -> Credentials:
        """The owner's."""
        return self._keys[0]

    @property
    def url(self) -> str:
        """Scheme, address and port; the bucket follows in the path."""
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def endpoint(self) -> Endpoint:
        """The address to sign for, path style."""
        return Endpoint.parse(self.url, style="path")

    @property
    def faults(self) -> Faults:
        """The faults in force: ``faults.add(Fault(...))``."""
        return self._app.faults

    @property
    def clock(self) -> Clock:
        """The server's clock: set its ``offset``, or let it ``jump``."""
        return self.settings.clock

    @property
    def requests(self) -> list[Record]:
        """What came so far, in the order of the answers."""
        return list(self._app.records)

    def clear(self) -> None:
        """Forget the requests and the faults; the objects stay."""
        self._app.records.clear()
        self._app.faults.clear()

    @property
    def buckets(self) -> list[str]:
        """The names of the buckets that exist."""
        return list(self._store.buckets)

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """Return an object; None if it does not exist."""
        return self._store.get(bucket, key)

    def objects(self, bucket: str) -> Contents:
        """Return the objects of *bucket* as they stand: key -> bytes."""
        return Contents(dict(self._store.buckets[bucket].objects))

    def uploads(self, bucket: str) -> list[Upload]:
        """Return the open multipart uploads of *bucket*."""
        return list(self._store.buckets[bucket].uploads.values())

    def start(self) -> None:
        """Bind the port and return when connections are accepted.

        Raises:
            OSError: the port is taken.
            RuntimeError: the server ended at once.
        """
        listener = listen(*self._address)
        self._address = (self._address[0], listener.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            http=_Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            date_header=False,
            server_header=False,
            timeout_keep_alive=75,
        )
        self._server = server = _Server(config)
        self._thread = threading.Thread(
            target=server.run,
            kwargs={"sockets": [listener]},
            name="osspresigned-emulator",
            daemon=True,
        )
        self._thread.start()
        while not server.listening.wait(_GLANCE):
            if not self._thread.is_alive():
                self._server = self._thread = None
                listener.close()
                msg = "the emulator did not start"
                raise RuntimeError(msg)

    def stop(self) -> None:
        """Free the port and keep the objects: :meth:`start` goes on with both."""
        if self._server is not None and self._thread is not None:
            self._server.tell_to_stop()
            self._thread.join()  # no limit: shutdown aborts each open connection
            self._server = self._thread = None

    def close(self) -> None:
        """Stop, and let go of a memory store."""
        self.stop()
        self._store.close()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close, whatever happened inside."""
        self.close()


def default_credentials() -> Credentials:
    """Return the key of an emulator that was given none; it opens nothing else."""
    return Credentials(
        access_key_id="LTAI5tEmulatorKeyId",
        access_key_secret=Secret("EmulatorAccessKeySecret"),
    )


def serve(
    host: str = _LOOPBACK,
    port: int = 9000,
    root: Path | None = None,
    *,
    out: TextIO | None = None,
    stop: threading.Event | None = None,
    **options: Any,
) -> None:
    """Run an emulator until SIGINT, SIGTERM or *stop*; print how to reach it.

    Args:
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        root: directory of a disk store; None keeps everything until the end only.
        out: where to print; None is standard output.
        stop: ends it.
        options: the other arguments of :class:`Emulator`.

    Raises:
        OSError: the port is taken.
    """
    done = stop or threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        done.set()

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {s: signal.signal(s, end) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Emulator(host=host, port=port, root=root, **options) as oss:
            print(describe(oss), file=out or sys.stdout, flush=True)
            done.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe(oss: Emulator) -> str:
    """Return what a person needs to know to use *oss*.

    The secret is shown: it belongs to this emulator and opens nothing else.
    """
    key = oss.credentials
    names = ", ".join(oss.buckets)
    return (
        f"OSS emulator at {oss.url} (buckets: {names}). Point clients at it with\n"
        f"  export OSS_ENDPOINT={oss.url}\n"
        f"  export OSS_REGION={oss.settings.region}\n"
        f"  export OSS_ACCESS_KEY_ID={key.access_key_id}\n"
        f"  export OSS_ACCESS_KEY_SECRET={key.access_key_secret.reveal()}\n"
        "Path style: URL/BUCKET/KEY. Every signature is verified. Ctrl-C ends it."
    )
