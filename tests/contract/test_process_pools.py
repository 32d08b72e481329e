"""Worker processes write through ``osspresigned serve`` and maps; no secret travels."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from attrs import frozen

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.emulator.app import App
from tests.conftest import presigned
from tests.contract import pool_uploader as program
from tests.contract.pool_uploader import FILES
from tests.serve_child import Serve, clean

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),  # on a busy machine
]

BUCKET = "examplebucket"
SOURCES = ("file", "map")  # where the signatures come from
METHODS = ("spawn", "fork", "forkserver")
WAYS = ("by-fs", "by-file")
# Text after these names is a secret, unless it was hidden.
_NAMED = re.compile(rb"(?i)signature(?:=|%3d)(?!<hidden>)")


@frozen
class Run:
    """One run of the program.

    Attributes:
        seen: all that it has shown, logged and pickled.
        told: the processes that wrote, by source and method.
        hidden: secrets that must not be found there.
        stored: key -> the bytes of each object.
        unfinished: uploads that are left in the store.
    """

    seen: Path
    told: dict[str, Any]
    hidden: set[str]
    stored: dict[str, bytes]
    unfinished: list[object]


def private(place: Path, text: str) -> Path:
    """Write a file that only its owner can read."""
    place.touch(mode=0o600)
    place.write_text(text)
    return place


def sources(oss: Emulator, url: str, token: str, folder: Path) -> Mapping[str, Any]:
    """Return the storage options of each source."""
    names = [f"{m}/{way}/{n}" for m in METHODS for way in WAYS for n in range(FILES)]
    keys = [f"granted/map/{name}" for name in ("parent", *names)]
    urls = {f"{BUCKET}/{key}": presigned(oss, "PUT", key) for key in keys}
    token_file = private(folder / "osspresigned-token", token + "\n")
    return {
        "file": {"signer": url, "signer_token": f"file:{token_file}"},
        "map": {"url_map": str(private(folder / "urls.json", json.dumps(urls)))},
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Everything that process pools have written, once for all tests."""
    folder = tmp_path_factory.mktemp("pools")
    seen, signer, place = folder / "seen", folder / "signer", folder / "plan.json"
    seen.mkdir()
    signer.mkdir()
    token, signatures = secrets.token_urlsafe(32), set[str]()
    authenticate = App.authenticate

    def watch(app: App, call: Any) -> None:
        # The records of an emulator leave signatures out, so look where they arrive.
        signatures.update(parse_qs(call.query).get("x-oss-signature", ()))
        authenticate(app, call)

    with (
        pytest.MonkeyPatch.context() as patch,
        Emulator() as oss,
        Serve(oss, signer, token) as serve,
    ):
        patch.setattr(App, "authenticate", watch)
        plan = {
            "folder": str(seen),
            "roots": {source: f"{BUCKET}/granted/{source}" for source in SOURCES},
            "sources": sources(oss, serve.url, token, folder),
            "methods": METHODS,
        }
        place.write_text(json.dumps(plan))
        with (seen / "stdout").open("wb") as out, (seen / "stderr").open("wb") as err:
            done = subprocess.run(
                [sys.executable, program.__file__, str(place)],
                stdout=out,
                stderr=err,
                env={**clean(), "PYTHONFAULTHANDLER": "1"},
                timeout=240,
                check=False,
            )
        assert done.returncode == 0, (seen / "stderr").read_text()[-5_000:]
        objects = oss.objects(BUCKET)
        yield Run(
            seen,
            json.loads((seen / "told.json").read_text()),
            {token, oss.credentials.access_key_secret.reveal(), *signatures},
            {key: bytes(objects[key]) for key in objects},
            [*oss.uploads(BUCKET)],
        )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("source", SOURCES)
def test_every_byte_of_every_pool_arrives(run, source, method):
    """However the processes are made, after the parent had used the filesystem."""
    root = f"granted/{source}"
    for way in WAYS:
        for number in range(FILES):
            key = f"{root}/{method}/{way}/{number}"
            assert run.stored[key] == program.content(f"{BUCKET}/{key}")
    assert run.stored[f"{root}/parent"] == b"parent"
    pids = run.told[f"{source} {method}"]
    assert len(pids) in (1, 2)  # one may have been quick enough for all
    assert run.told["parent"] not in pids
    assert not run.unfinished


def test_no_secret_in_what_pools_pickle_and_log(run):
    """Nothing but references goes to the processes."""
    assert len(run.hidden) > 50
    for file in (one for one in run.seen.rglob("*") if one.is_file()):
        data = file.read_bytes()
        for text in run.hidden:
            assert text.encode() not in data, file.name
            assert quote(text, safe="").encode() not in data, file.name
        assert not _NAMED.search(data), file.name
    # A process that got no file, because another was quick enough, has logged nothing.
    logs = [log.read_text() for log in run.seen.glob("process-*.log")]
    logs = [text for text in logs if text]
    assert len(logs) > len(METHODS)  # of the parent, and of each kind of process
    assert all("DEBUG" in text for text in logs)
