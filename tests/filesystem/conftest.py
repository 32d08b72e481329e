"""An OSS that verifies, and filesystems that reach it in every way there is."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.engine.engine import run, running
from fsspec_osspresigned.engine.limits import request_limiter
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import PresignRequest
from tests.http.conftest import serve  # noqa: F401 - a fixture

BUCKET = "examplebucket"


async def left_on_engine() -> tuple[int, set[Any]]:
    """Return the number of requests in flight, and the tasks but this one."""
    return request_limiter().in_flight, running().tasks - {asyncio.current_task()}


class Owner:
    """Has the keys, and hands out what a test needs."""

    def __init__(self, oss: Emulator, place: Path) -> None:
        self.oss = oss
        self._place = place

    def url(self, key: str, method: str = "PUT", **options: Any) -> str:
        """Presign one URL."""
        return (
            PresignRequest(
                self.oss.credentials,
                self.oss.endpoint,
                method=method,
                bucket=BUCKET,
                key=key,
                headers=options.pop("headers", {}),
                query=options.pop("query", {}),
                region="cn-hangzhou",
                now=time.time(),
                expires_in=600,
            )
            .url()
            .reveal()
        )

    def url_file(self, key: str) -> str:
        """Write one presigned URL into a file and return how ``url=`` names it."""
        place = self._place / "upload.url"
        place.touch(mode=0o600)
        place.write_text(self.url(key) + "\n")
        return f"file:{place}"

    def map_file(self, *keys: str, methods: tuple[str, ...] = ("PUT",)) -> str:
        """Write a URL map of *keys* and return its path."""
        slots = {"PUT": "url", "HEAD": "head", "GET": "get"}
        entries = {
            f"{BUCKET}/{key}": {slots[m]: self.url(key, m) for m in methods}
            for key in keys
        }
        place = self._place / "urls.json"
        place.write_text(json.dumps({"version": 1, "objects": entries}))
        place.chmod(0o600)
        return str(place)

    def stored(self) -> dict[str, bytes]:
        """Return key -> bytes of everything that is published."""
        found = self.oss.objects(BUCKET)
        return {key: bytes(found[key]) for key in found}

    def wait_for_faults(self) -> None:
        """Wait until every fault has struck as often as it shall."""
        end = time.monotonic() + 20
        while self.oss.faults.pending:
            assert time.monotonic() < end
            time.sleep(0.005)

    def wait_for_engine(self) -> None:
        """Wait until the engine has no task and no request."""
        end = time.monotonic() + 20
        while (left := run(left_on_engine))[0] or left[1]:
            assert time.monotonic() < end, left
            time.sleep(0.005)

    def actions(self) -> list[str]:
        """Return the calls that came, in order."""
        return [record.action for record in self.oss.requests]


@pytest.fixture
def owner(oss: Emulator, tmp_path: Path) -> Owner:
    """Who has the keys of that OSS."""
    return Owner(oss, tmp_path)


@pytest.fixture
def environment(oss: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the owner's key in the environment, for ``signer="keys"``."""
    key = oss.credentials
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
    monkeypatch.setenv("OSS_ENDPOINT", oss.url)
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")


@pytest.fixture
def fs(environment: None) -> OSSPresignedFileSystem:
    """A filesystem that may do everything."""
    return OSSPresignedFileSystem(signer="keys")


def _put_file(fs: Any, path: str, data: bytes, place: Path, given: Any) -> None:
    (place / "local").write_bytes(data)
    fs.put_file(place / "local", path, **given)
    (place / "local").unlink()


def _put(fs: Any, path: str, data: bytes, place: Path, given: Any) -> None:
    (place / "local").write_bytes(data)
    fs.put([place / "local"], [path], **given)
    (place / "local").unlink()


def _open(fs: Any, path: str, data: bytes, _: Path, given: Any) -> None:
    with fs.open(path, "wb", **given) as file:
        file.write(data)


def _open_text(fs: Any, path: str, data: bytes, _: Path, given: Any) -> None:
    with fs.open(path, "w", encoding="latin-1", newline="", **given) as file:
        file.write(data.decode("latin-1"))


_VERBS: dict[str, Callable[..., Any]] = {
    "pipe_file": lambda fs, path, data, _, given: fs.pipe_file(path, data, **given),
    "pipe": lambda fs, path, data, _, given: fs.pipe({path: data}, **given),
    "put_file": _put_file,
    "put": _put,
    "open": _open,
    "open text": _open_text,
}


def _verb(name: str) -> Callable[..., Any]:
    def store(fs: Any, path: str, data: bytes, place: Path, **given: Any) -> None:
        _VERBS[name](fs, path, data, place, given)

    return store


# Each stores *data* as *path*, with the options of the call; *place* is for local files.
VERBS = {name: _verb(name) for name in _VERBS}

WRITES = {
    "PutObject",
    "InitiateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
}


class OnlyActions:
    """Signs with the keys of the environment, but only some actions."""

    remote = False

    def __init__(self, actions: set[str]) -> None:
        self._keys = KeySigner.from_options()
        self._actions = actions

    def sign(self, operations: Any) -> Any:
        """Sign, or refuse as a policy does."""
        for operation in operations:
            if operation.action not in self._actions:
                msg = f"{operation.action} is not granted"
                raise NotCoveredError(msg, path=operation.path)
        return self._keys.sign(operations)


@pytest.fixture
def only(environment: None) -> Callable[..., OSSPresignedFileSystem]:
    """Make a filesystem whose signer signs writing, and what else is named."""

    def make(*more: str, **options: Any) -> OSSPresignedFileSystem:
        signer = OnlyActions(WRITES | set(more))
        return OSSPresignedFileSystem(signer=signer, **options)

    return make


@pytest.fixture
def blind(only: Callable[..., OSSPresignedFileSystem]) -> OSSPresignedFileSystem:
    """A filesystem that can write and not look."""
    return only()


@pytest.fixture(params=["keys", pytest.param("service", marks=pytest.mark.slow)])
def full(
    request: pytest.FixtureRequest,
    environment: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[OSSPresignedFileSystem]:
    """A filesystem that may do everything: by keys, and through a signer service."""
    if request.param == "keys":
        yield OSSPresignedFileSystem(signer="keys")
        return
    token = "a-made-up-token-0"
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", token)
    policy = Policy(name="all", prefixes=(f"{BUCKET}/",), actions=frozenset(Action))
    app = create_app(KeySigner.from_options(), tokens={hash_token(token): policy})
    with LoopbackServer(app) as server:
        yield OSSPresignedFileSystem(
            signer=f"http://127.0.0.1:{server.port}",
            signer_token="env:OSSPRESIGNED_TOKEN",
        )


class Interrupts:
    """Ctrl-C for the main thread, until it has come."""

    def __init__(self) -> None:
        self.raised = threading.Event()
        self.hook = sys.unraisablehook

    def press(self) -> None:
        """Send the signal."""
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def press_until_raised(self) -> None:
        """Send it again: just before the main thread waits it wakes nothing."""
        for _ in range(100):
            self.press()
            if self.raised.wait(0.1):
                break

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt once."""
        if not self.raised.is_set():
            self.raised.set()
            signal.default_int_handler(number, frame)

    def see_unraisable(self, unraisable: Any) -> None:
        """Come again: Python drops what is raised in a finalizer or a callback of its own."""
        if unraisable.exc_type is KeyboardInterrupt:
            self.raised.clear()
            threading.Timer(0.05, self.press).start()
        else:
            self.hook(unraisable)


@pytest.fixture
def interrupt_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let Ctrl-C come when a filesystem sends a certain request."""
    interrupts = Interrupts()
    monkeypatch.setattr(sys, "unraisablehook", interrupts.see_unraisable)
    # Who starts the tests in the background may have SIGINT ignored.
    before = signal.signal(signal.SIGINT, interrupts.handle)

    def arm(fs: OSSPresignedFileSystem, action: str, count: int) -> None:
        send, seen = fs.client.call, itertools.count(1)

        async def call(operation: Any, *args: Any, **options: Any) -> Any:
            if operation.action == action and next(seen) == count:
                # The main thread waits, and nothing may be complete before it is woken.
                interrupts.press_until_raised()
            return await send(operation, *args, **options)

        monkeypatch.setattr(fs.client, "call", call)

    yield arm
    signal.signal(signal.SIGINT, before)
