"""One store and one signer service for all writers, and the six ways to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

import pytest

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.model import URL_ACTIONS
from fsspec_osspresigned.owner.service.policy import hash_token
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.url_map.source import write as write_map
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest
from tests.conftest import key_variables, presigned
from tests.contract.writers.matrix import (
    BUCKET,
    GRANT,
    KEYS,
    MAP,
    ONE,
    PARTS,
    SERVICE,
    WRITES,
    World,
)
from tests.form_signer import grant_of
from tests.owner_keys import signer_service

TOKENS = {WRITES: "a-made-up-token-0", SERVICE: "a-made-up-token-1"}
WRITING = [
    "PutObject",
    "InitiateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "AbortMultipartUpload",
]
GRANTED = {WRITES: WRITING, SERVICE: [str(action) for action in URL_ACTIONS]}


def policy(kind: str) -> str:
    """Return the part of a policy file that grants a world what it has."""
    actions = ", ".join(f'"{name}"' for name in GRANTED[kind])
    return f"""
[[tokens]]
name = "{kind}"
sha256 = "{hash_token(TOKENS[kind])}"
buckets = ["{BUCKET}"]
prefixes = [""]
actions = [{actions}]
"""


@pytest.fixture(scope="session")
def store() -> Iterator[Emulator]:
    """The store."""
    with Emulator() as oss:
        yield oss


@pytest.fixture(scope="session")
def service(store: Emulator) -> Iterator[LoopbackServer]:
    """The reference service, which signs by what a token may."""
    with signer_service(store, "".join(map(policy, TOKENS))) as server:
        yield server


@pytest.fixture
def world(
    store: Emulator,
    service: LoopbackServer,
    tmp_path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., World]]:
    """Make a world of a kind."""
    for name, value in key_variables(store).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OSSPRESIGNED_TOKEN_WRITES", TOKENS[WRITES])
    monkeypatch.setenv("OSSPRESIGNED_TOKEN_SERVICE", TOKENS[SERVICE])

    def signed(name: str, headers: Mapping[str, str] | None) -> MapEntry:
        url = SecretURL(presigned(store, "PUT", name, headers=headers or {}))
        return MapEntry(put=MapRequest(url=url, headers=headers))

    def make(
        kind: str, folder: str, names: tuple[str, ...] = (), *, exclusive: bool = False
    ) -> World:
        folder = f"{kind}/{folder}"
        if kind == ONE:
            place = tmp_path / "upload.url"
            place.touch(mode=0o600)
            place.write_text(signed(f"{folder}/{names[0]}", None).put.url.reveal())
            options = {"presigned_url": f"file:{place}"}
        elif kind == MAP:
            place = tmp_path / "urls.json"
            keys = [f"{folder}/{name}" for name in names]
            headers = {"x-oss-forbid-overwrite": "true"} if exclusive else None
            entries = {f"{BUCKET}/{name}": signed(name, headers) for name in keys}
            write_map(entries, place)
            options = {"url_map": str(place)}
        elif kind == GRANT:
            place = tmp_path / "grant.json"
            place.touch(mode=0o600)
            place.write_text(json.dumps(grant_of(store, BUCKET, f"{folder}/")))
            options = {"grant": str(place)}
        elif kind == KEYS:
            options = {"signer": "keys", **PARTS}
        else:
            token = f"env:OSSPRESIGNED_TOKEN_{kind.upper()}"
            options = {"signer": service.url, "signer_token": token, **PARTS}
        return World(kind, store, folder, options, tmp_path)

    yield make
    store.clear()
