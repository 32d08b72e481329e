"""Policies, keys and certificates for the signer service."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fsspec_osspresigned.server.policy import hash_token

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


def pem(folder: Path, name: str, *more: str) -> tuple[Path, Path]:
    """Return a certificate for 127.0.0.1 and its key."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    made = folder / f"{name}.new"
    subprocess.run(
        [
            *(program, "req", "-x509", "-newkey", "ec", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)),
            *("-out", str(made), *(more or ("-nodes",))),
        ],
        check=True,
        capture_output=True,
    )
    made.replace(certificate)
    return certificate, key
