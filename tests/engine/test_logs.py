"""Log handlers of the program: they may wait, and write into the store, at any level."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import threading
from hashlib import md5

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.engine.engine import (
    awaited,
    blocking,
    call_user,
    in_background,
    run,
)
from fsspec_osspresigned.engine.logs import Logger
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from tests.engine.conftest import wait_until
from tests.loopback_server import LoopbackServer as Server

BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"
_log = Logger("fsspec_osspresigned.test")


class Handler(logging.Handler):
    """Keeps records, with the thread that handles each; *also* is called for each."""

    def __init__(self, also=lambda record: None) -> None:
        super().__init__(logging.DEBUG)
        self.addFilter(logging.Filter("fsspec_osspresigned"))  # not of the emulator
        self.also = also
        self.handled: list[tuple[str, str]] = []  # text, name of the thread

    def emit(self, record):
        """Keep *record*."""
        self.handled.append((record.getMessage(), threading.current_thread().name))
        self.also(record)

    @property
    def texts(self):
        """The texts of all records."""
        return [text for text, _ in self.handled]


@pytest.fixture
def listen():
    """Return a function that adds a handler to the root logger, which shows DEBUG."""
    root, added = logging.getLogger(), []
    level = root.level
    root.setLevel(logging.DEBUG)

    def add(handler):
        added.append(handler)
        root.addHandler(handler)
        return handler

    yield add
    for handler in added:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(params=["keys", "service"])
def fs(request, oss, monkeypatch):
    """A filesystem that may do everything; a request of its service is logged, too."""
    if request.param == "keys":
        yield OSSPresignedFileSystem(signer="keys", part_size=102_400)
        return
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    policy = Policy(name="all", prefixes=(f"{BUCKET}/",), actions=frozenset(Action))
    app = create_app(KeySigner.from_options(), tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        signer = f"http://127.0.0.1:{server.port}"
        yield OSSPresignedFileSystem(
            signer=signer, signer_token="env:OSSPRESIGNED_TOKEN", part_size=102_400
        )


def calls(fs, place):
    """Yield calls of all kinds, each of which logs."""
    large = place / "large"
    large.write_bytes(bytes(300_000))
    tree = {f"{BUCKET}/many/{n}": b"x" for n in range(20)}
    yield lambda: fs.pipe_file(f"{BUCKET}/a", b"a")
    yield lambda: asyncio.run(fs._pipe_file(f"{BUCKET}/b", b"b"))
    yield lambda: fs.pipe(tree)
    yield lambda: fs.put_file(str(large), f"{BUCKET}/c")
    yield lambda: fs.cat_file(f"{BUCKET}/c")
    yield lambda: fs.cp_file(f"{BUCKET}/a", f"{BUCKET}/d")


def write_log(fs):
    """Return a handler that puts each record into the store."""

    def put(record):
        fs.pipe_file(f"{BUCKET}/log", record.getMessage().encode())

    return Handler(put)


def test_handler_that_uses_the_filesystem(fs, oss, listen, tmp_path):
    """Each call ends, with faults and at any level, and a handler does not log itself."""
    handler = listen(write_log(fs))
    for call in calls(fs, tmp_path):
        oss.faults.add(Fault(status=503, times=1))
        before = len(handler.handled)
        call()
        assert len(handler.handled) > before
    assert any("retrying" in text for text in handler.texts)
    assert not any("/log" in text for text in handler.texts)


class Store(Server):
    """A store in threads that log nothing, unlike the emulator's: they share the lock."""

    def serve(self, request):
        """Store an object, after one refusal."""
        data = request.rfile.read(int(request.headers["content-length"]))
        request.send_response(503 if self.refuses else 200)
        self.refuses = False
        request.send_header("ETag", f'"{md5(data).hexdigest().upper()}"')  # noqa: S324
        request.send_header("Content-Length", "0")
        request.end_headers()
        self.stored = data

    refuses, stored = True, b""


def test_configuration_that_uses_the_filesystem(signed):
    """The thread that configures logging holds its lock, which the engine never takes."""
    path = signed("first").split("/", 3)[3]

    def make():
        fs.pipe_file("examplebucket/first", b"first")
        return logging.NullHandler()

    handlers = {"store": {"()": make}}
    with Store() as store:
        fs = OSSPresignedFileSystem(presigned_url=f"{store.url}/{path}")
        logging.config.dictConfig(
            {"version": 1, "disable_existing_loggers": False, "handlers": handlers}
        )
    assert store.stored == b"first"


def test_records_come_in_order_in_the_thread_that_waits(listen):
    """Those of the loop and of worker threads, before the call returns."""
    handler = listen(Handler())

    def nested():
        _log.warning("%d of a worker", 3)
        run(inner)

    async def inner():
        _log.warning("4 of a nested call")

    async def work():
        _log.info("1 of the loop")
        await blocking(_log.debug, "2 of a worker")
        await call_user(nested)
        _log.warning("5 of the loop")

    for call in (run, lambda work: asyncio.run(awaits_in_a_loop(work))):
        call(work)
        texts = [text for text in handler.texts if " of " in text]
        assert [text[0] for text in texts] == list("12345")
        assert {name for _, name in handler.handled} == {
            threading.current_thread().name
        }
        handler.handled.clear()


async def awaits_in_a_loop(work):
    """Await *work* as a coroutine of the program does."""
    await awaited(work)


def test_record_for_which_no_thread_waits(listen):
    """Another thread handles it, and a handler that waits holds up no call."""
    go = threading.Event()
    handler = listen(Handler(lambda _: go.wait(20)))

    async def work():
        _log.warning("in the background")

    in_background(work)
    wait_until(lambda: "in the background" in handler.texts)
    assert run(asyncio.sleep, 0, "goes on") == "goes on"
    assert handler.handled[-1][1] == "osspresigned-log"
    go.set()


def test_handler_that_raises(listen):
    """The call that logged raises it, as a call of the standard library does."""

    def fail(record):
        if record.getMessage() == "here":
            raise ValueError("no")

    listen(Handler(fail))

    async def work():
        _log.warning("here")
        await asyncio.sleep(60)

    with pytest.raises(ValueError, match="no"):
        run(work)
    with pytest.raises(ValueError, match="no"):
        asyncio.run(awaits_in_a_loop(work))
