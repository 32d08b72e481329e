"""Policies and keys for the signer service."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fsspec_osspresigned.owner.service.policy import hash_token

TOKEN = "a-made-up-token-0"


def policy_text(*more: str, token: str = TOKEN, name: str = "writer") -> str:
    """Return a policy that lets *token* write below ``data/``."""
    return "\n".join(
        (
            "[[tokens]]",
            f'name = "{name}"',
            f'sha256 = "{hash_token(token)}"',
            'buckets = ["examplebucket"]',
            'prefixes = ["data/"]',
            'actions = ["PutObject", "InitiateMultipartUpload", "UploadPart",',
            '  "CompleteMultipartUpload", "AbortMultipartUpload", "HeadObject"]',
            *more,
        )
    )


@pytest.fixture
def keys(monkeypatch):
    """Put an access key and a region into the environment."""
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "LTAIfakeid")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "fakesecret")
    monkeypatch.setenv("OSS_REGION", "cn-hangzhou")


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    """A good policy on disk."""
    file = tmp_path / "policy.toml"
    file.write_text(policy_text())
    return file


class Service:
    """The command as a process, with its log."""

    def __init__(self, policy: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fsspec_osspresigned", "serve", "--port", "0"),
                *("--policy", str(policy), *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started = self.until("started")
        self.url = self.started["url"]
        self.port = int(self.url.rpartition(":")[2])

    def until(self, event: str) -> dict[str, Any]:
        """Return the next line about *event*."""
        assert self.process.stdout is not None
        while (line := json.loads(self.process.stdout.readline()))["event"] != event:
            pass
        return line

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Stop by a signal; return exit code, rest of the log, and stderr."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def start(keys: None, policy_file: Path) -> Iterator[Callable[..., Service]]:
    """Return a function that starts the command; every process is ended."""
    running = []

    def begin(*options: str) -> Service:
        service = Service(policy_file, *options)
        running.append(service.process)
        return service

    yield begin
    for process in running:
        process.kill()
        process.communicate()
