"""An OSS that verifies, and filesystems that reach it in every way there is."""

from __future__ import annotations

import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import PresignRequest
from tests.http.conftest import serve  # noqa: F401 - a fixture

BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"


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

    def actions(self) -> list[str]:
        """Return the calls that came, in order."""
        return [record.action for record in self.oss.requests]


@pytest.fixture
def owner(oss: Emulator, tmp_path: Path) -> Owner:
    """The owner of the store, who has its keys."""
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


@contextlib.contextmanager
def service(
    prefix: str = "", signer: Any = None, **terms: Any
) -> Iterator[dict[str, str]]:
    """Serve signatures of *signer*, by default the keys of the environment.

    It signs all calls below *prefix*, with *terms* of its policy. Yield the options of
    a filesystem.
    """
    prefixes = (f"{BUCKET}/{prefix}",)
    policy = Policy(name="p", prefixes=prefixes, actions=frozenset(Action), **terms)
    tokens = {hash_token(TOKEN): policy}
    app = create_app(signer or KeySigner.from_options(), tokens=tokens)
    with pytest.MonkeyPatch.context() as patch, LoopbackServer(app) as server:
        patch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
        yield {"signer": server.url, "signer_token": "env:OSSPRESIGNED_TOKEN"}


@pytest.fixture(params=["keys", pytest.param("service", marks=pytest.mark.slow)])
def full(
    request: pytest.FixtureRequest, environment: None
) -> Iterator[OSSPresignedFileSystem]:
    """A filesystem that may do everything: by keys, and through a signer service."""
    if request.param == "keys":
        yield OSSPresignedFileSystem(signer="keys")
        return
    with service() as options:
        yield OSSPresignedFileSystem(**options)


def forked(act: Callable[[], object]) -> int:
    """Call *act* in a forked child; return 0, or 1 if it raised an exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads
        child = os.fork()
    if child == 0:  # pragma: no cover - seen by its exit code
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
