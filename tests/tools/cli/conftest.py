"""A store, ways to reach it, and the program in this process or as a child."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signing import PresignRequest
from fsspec_osspresigned.tools import cli

BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"
KEYS = ("--signer", "keys")
# A parameter that holds a secret, and what signatures of V4 and V1 look like.
SIGNATURE = re.compile(
    r"(?i)(?:signature|security-token)=(?!<hidden>)|\b[0-9a-f]{64}\b"
    r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{27}="
)


class Ended(NamedTuple):
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that ``--json`` has printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Text(io.TextIOWrapper):
    """A text stream that can claim to be a terminal."""

    def __init__(self, data: bytes = b"", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    @property
    def text(self) -> str:
        return self.buffer.getvalue().decode()


@pytest.fixture
def url(oss: Emulator) -> Callable[..., str]:
    """Return a function that presigns one URL."""

    def make(key: str, method: str = "PUT", *, now: float | None = None) -> str:
        return (
            PresignRequest(
                oss.credentials,
                oss.endpoint,
                method=method,
                bucket=BUCKET,
                key=key,
                region="cn-hangzhou",
                now=time.time() if now is None else now,
                expires_in=600,
            )
            .url()
            .reveal()
        )

    return make


@pytest.fixture
def url_map(url: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a URL map of some keys."""

    def make(*keys: str, **options: Any) -> str:
        objects = {f"{BUCKET}/{key}": url(key, **options) for key in keys}
        text = json.dumps({"version": 1, "objects": objects})
        (tmp_path / "urls.json").touch(0o600)
        (tmp_path / "urls.json").write_text(text, encoding="utf-8")
        return "urls.json"

    return make


@pytest.fixture
def signer_of(
    oss: Emulator, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[str, ...]]]:
    """Return a function: the options of a signer that grants actions to one token."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    with contextlib.ExitStack() as stack:

        def start(*actions: Action, **limits: int) -> tuple[str, ...]:
            place, granted = (f"{BUCKET}/",), frozenset(actions)
            policy = Policy(name="p", prefixes=place, actions=granted, **limits)
            app = create_app(
                KeySigner.from_options(), tokens={hash_token(TOKEN): policy}
            )
            server = stack.enter_context(LoopbackServer(app))
            place = f"http://127.0.0.1:{server.port}"
            return ("--signer", place, "--token", "env:OSSPRESIGNED_TOKEN")

        yield start


@pytest.fixture
def signer(signer_of: Callable[..., tuple[str, ...]]) -> str:
    """The URL of a signer service that grants everything to one token."""
    return signer_of(*Action)[1]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Return a function that runs the program in this process.

    Its output goes through streams of its own, and every run is searched for what must
    never be printed, unless the test says that it is.
    """

    def call(
        *arguments: object,
        stdin: bytes = b"",
        terminal: bool = False,
        secret: bool = False,
    ) -> Ended:
        streams = {name: Text(terminal=terminal) for name in ("stdout", "stderr")}
        streams["stdin"] = Text(stdin, terminal=terminal)
        with monkeypatch.context() as patch:
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            code = cli.main([str(one) for one in arguments])
        ended = Ended(int(code), streams["stdout"].text, streams["stderr"].text)
        assert "Traceback" not in ended.err
        assert not SIGNATURE.search(ended.err)
        if not secret:
            assert not SIGNATURE.search(ended.out)
            assert TOKEN not in ended.out + ended.err
            print(ended.out, ended.err)  # noqa: T201 - the search for leaks reads it
        return ended

    return call


@pytest.fixture
def tree(oss: Emulator, tmp_path: Path) -> Path:
    """A directory with three files in two levels."""
    for name, data in {"a.csv": b"a", "b/c.csv": b"cc", "b/d e.bin": b"ddd"}.items():
        place = tmp_path / "data" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return tmp_path / "data"


def stored(oss: Emulator, bucket: str = BUCKET) -> dict[str, bytes]:
    """Return all that the store has."""
    return {key: oss.get(bucket, key).data() for key in oss.objects(bucket)}


def environment(**more: str) -> dict[str, str]:
    """Return what a child process gets; a size of the terminal only from *more*."""
    inherited = {n: v for n, v in os.environ.items() if n not in ("COLUMNS", "LINES")}
    return {**inherited, **more}
