"""``osspresigned serve`` as a child process: the owner's side of some tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.owner.service.policy import hash_token

FOREIGN = ("OSS_", "FSSPEC_", "OSSPRESIGNED_", "ALIBABA_CLOUD_", "DASK_")
POLICY = """
[[tokens]]
name = "workers"
sha256 = "{hash}"
buckets = ["examplebucket"]
prefixes = ["granted/"]
actions = ["PutObject", "InitiateMultipartUpload", "UploadPart",
           "CompleteMultipartUpload", "AbortMultipartUpload"]
"""


def clean() -> dict[str, str]:
    """Return this process's environment without what could help an uploader."""
    return {n: v for n, v in os.environ.items() if not n.startswith(FOREIGN)}


class Serve:
    """``osspresigned serve`` as a child process; its log is a file."""

    def __init__(
        self, oss: Emulator, folder: Path, token: str, more: str = "", *options: str
    ) -> None:
        policy = folder / "policy.toml"
        policy.write_text(POLICY.format(hash=hash_token(token)) + more)
        self.log = folder / "serve.log"
        self._out = self.log.open("wb")
        key = oss.credentials
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "fsspec_osspresigned", "serve", "--port", "0"),
                *("--policy", str(policy), "--log-keys"),
                *options,
            ],
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env={
                **clean(),
                "OSS_ACCESS_KEY_ID": key.access_key_id,
                "OSS_ACCESS_KEY_SECRET": key.access_key_secret.reveal(),
                "OSS_ENDPOINT": oss.url,
                "OSS_REGION": "cn-hangzhou",
            },
        )

    def __enter__(self) -> Self:
        while not self._said("started"):
            if self.process.poll() is not None:
                self.__exit__()
                raise RuntimeError(self.log.read_text())
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._out.close()

    @property
    def url(self) -> str:
        """The address at which it listens."""
        return str(self._said("started")[0]["url"])

    def calls(self) -> list[dict[str, Any]]:
        """Return the calls for signatures from its access log."""
        return self._said("sign")

    def _said(self, event: str) -> list[dict[str, Any]]:
        whole = self.log.read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines() if line[0] == "{"]
        return [line for line in lines if line["event"] == event]
