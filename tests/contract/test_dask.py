"""Worker processes write through ``osspresigned serve`` and maps; no secret travels."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pandas as pd
import pytest

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.emulator.app import App
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.url_map.source import write as write_map
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest
from tests.conftest import presigned
from tests.contract import dask_uploader as program
from tests.contract.dask_uploader import FILES, PARTITIONS
from tests.serve_child import Serve, clean

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),  # two clusters' worth, on a busy machine
]

BUCKET = "examplebucket"
METHODS = ("spawn", "fork", "forkserver")
KINDS = ("parquet", "csv", "text")
TABLES = ("parquet/part.{}.parquet", "csv/{}.csv", "text/{}.txt.gz")
DASK_CONFIG = """
distributed:
  logging:
    version: 1
    disable_existing_loggers: false
    formatters:
      plain: {{format: '%(process)d %(levelname)s %(name)s %(message)s'}}
    handlers:
      file: {{class: logging.FileHandler, filename: '{file}', formatter: plain}}
    root: {{level: DEBUG, handlers: [file]}}
    loggers:
      distributed: {{level: DEBUG}}
"""


# -- the checker -------------------------------------------------------------------------

# A signature that nobody issued is none of ours, but what follows is hidden or a bug.
_NAMED = re.compile(rb"(?i)signature(?:=|%3d)(?!<hidden>)")


def leaks(folder: Path, hidden: Mapping[str, str]) -> dict[str, set[str]]:
    """Search all files below *folder*.

    Args:
        folder: logs, pickles, graphs, output.
        hidden: name -> a text that must not be found.

    Returns:
        File name -> what was found in it, by name; files without a find are left out.
    """
    forms = {
        name: {text.encode(), quote(text, safe="").encode()}
        for name, text in hidden.items()
    }
    found: dict[str, set[str]] = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        data = file.read_bytes()
        if file.suffix == ".gz":
            data = gzip.decompress(data)
        names = {name for name, texts in forms.items() if any(t in data for t in texts)}
        if _NAMED.search(data):
            names.add("a named signature")
        if names:
            found[str(file.relative_to(folder))] = names
    return found


# -- the two sides -----------------------------------------------------------------------


def private(place: Path, text: str) -> Path:
    """Write a file that nobody else may read."""
    place.touch(mode=0o600)
    place.write_text(text)
    return place


def map_of(oss: Emulator, paths: list[str], place: Path) -> Path:
    """Sign a PutObject for each path into a URL map."""
    keys = {path: path.partition("/")[2] for path in paths}
    write_map(
        {
            path: MapEntry(put=MapRequest(url=SecretURL(presigned(oss, "PUT", key))))
            for path, key in keys.items()
        },
        place,
    )
    return place


class Run:
    """One run of the uploader, and its recorded results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = folder / "uploader"  # all that the uploader's side shows
        self.signer = folder / "signer"
        self.local = folder / "local"  # what dask writes without us
        self.token = secrets.token_urlsafe(32)
        self.signatures: set[str] = set()
        self.stored: dict[str, bytes] = {}
        self.told: dict[str, Any] = {}
        self.unfinished: list[object] = []
        self.key_secret = ""

    @property
    def hidden(self) -> dict[str, str]:
        """Secrets that must not be found anywhere."""
        named = {f"signature {n}": text for n, text in enumerate(self.signatures)}
        return {"token": self.token, "key secret": self.key_secret, **named}

    def do(self, how: str, sources: tuple[str, ...], in_map: tuple[str, ...]) -> None:
        """Start both sides, let the uploader write, and collect.

        Args:
            how: what the program is told to do.
            sources: ``file``, ``environment`` (where the token is) or ``map``.
            in_map: names of the objects that the map has URLs for.
        """
        self.signer.mkdir()
        (self.seen / "logs").mkdir(parents=True)
        roots = {source: f"{BUCKET}/granted/{source}" for source in sources}
        with watched_emulator(self.signatures) as oss:
            self.key_secret = oss.credentials.access_key_secret.reveal()
            with Serve(oss, self.signer, self.token) as serve:
                self._run(how, self._plan(oss, serve.url, roots, in_map))
            contents = oss.objects(BUCKET)
            self.stored = {key: bytes(contents[key]) for key in contents}
            self.unfinished = [*oss.uploads(BUCKET)]

    def _plan(
        self,
        oss: Emulator,
        url: str,
        roots: Mapping[str, str],
        in_map: tuple[str, ...],
    ) -> dict[str, Any]:
        token_file = private(self.folder / "osspresigned-token", self.token + "\n")
        urls = [f"{roots['map']}/{name}" for name in in_map]
        refused = f"{roots['map']}/refused"
        url_map = map_of(oss, [*urls, refused], self.folder / "urls.json")
        for root in roots.values():
            key = f"{root}/refused".partition("/")[2]
            oss.faults.add(Fault(key=key, status=403, code="SignatureDoesNotMatch"))
        more = {
            "part_size": "128KiB",
            "multipart_threshold": "128KiB",
            "receipts": str(self.seen / "receipts"),
        }
        options = {
            "file": {"signer": url, "signer_token": f"file:{token_file}"},
            "environment": {"signer": url, "signer_token": "env:OSSPRESIGNED_TOKEN"},
            "map": {"url_map": str(url_map)},
        }
        return {
            "folder": str(self.seen),
            "scratch": str(self.folder / "scratch"),
            "local": str(self.local),
            "roots": roots,
            "sources": {source: options[source] | more for source in roots},
            "failing": {
                source: [f"{root}/refused", f"{BUCKET}/not-granted"]
                for source, root in roots.items()
            },
            "methods": METHODS,
            "token_file": str(token_file),
        }

    def _run(self, how: str, plan: Mapping[str, Any]) -> None:
        place = self.folder / "plan.json"
        place.write_text(json.dumps(plan))
        config = self.folder / "config"
        config.mkdir()
        log = self.seen / "logs" / "cluster.log"
        (config / "distributed.yaml").write_text(DASK_CONFIG.format(file=log))
        out, err = self.seen / "stdout", self.seen / "stderr"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            done = subprocess.run(
                [sys.executable, program.__file__, str(place), how],
                stdout=stdout,
                stderr=stderr,
                env={**clean(), "DASK_CONFIG": str(config), "PYTHONFAULTHANDLER": "1"},
                timeout=240,
                check=False,
            )
        assert done.returncode == 0, err.read_text()[-5_000:]
        self.told = json.loads((self.seen / "told.json").read_text())

    def under(self, source: str, kind: str) -> dict[str, bytes]:
        """Return what is stored of a kind, by the name's last part."""
        head = f"granted/{source}/{kind}/"
        return {k.removeprefix(head): v for k, v in self.stored.items() if k.startswith(head)}  # fmt: skip


@contextlib.contextmanager
def watched_emulator(signatures: set[str]) -> Iterator[Emulator]:
    """Run an emulator; put every signature that arrives into *signatures*."""
    authenticate = App.authenticate

    def watch(app: App, call: Any) -> None:
        # The records of an emulator leave signatures out, so look where they arrive.
        signatures.update(parse_qs(call.query).get("x-oss-signature", ()))
        authenticate(app, call)

    with pytest.MonkeyPatch.context() as patch, Emulator() as oss:
        patch.setattr(App, "authenticate", watch)
        yield oss


def check_files(run: Run, source: str, *kinds: str) -> None:
    """Compare what plain functions wrote with what they must have written."""
    for kind in kinds:
        found = run.under(source, kind)
        assert sorted(found) == [str(number) for number in range(FILES)]
        for name, data in found.items():
            assert data == program.content(f"{BUCKET}/granted/{source}/{kind}/{name}")


# -- dask --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster_run(tmp_path_factory):
    """Everything that dask's workers have written, once for all tests."""
    run = Run(tmp_path_factory.mktemp("dask"))
    numbers = range(PARTITIONS)
    in_map = [name.format(number) for name in TABLES for number in numbers]
    in_map += [f"{kind}/{n}" for kind in ("by-fs", "by-file") for n in range(FILES)]
    run.do("dask", ("file", "map", "environment"), tuple(in_map))
    return run


SOURCES = pytest.mark.parametrize("source", ["file", "environment", "map"])


@pytest.mark.heavy
@SOURCES
def test_every_byte_of_every_worker_arrives(cluster_run, source):
    """Parquet, csv, text and plain files are what the same code makes on a disk."""
    stored = {kind: cluster_run.under(source, kind) for kind in KINDS}
    for kind, objects in stored.items():
        local = cluster_run.local / kind
        assert sorted(objects) == sorted(file.name for file in local.iterdir())
        assert len(objects) == PARTITIONS
        for name, data in objects.items():
            assert plain(name, data) == plain(name, (local / name).read_bytes())
    frame = program.frame()
    for kind, read in (("parquet", pd.read_parquet), ("csv", pd.read_csv)):
        tables = [read(io.BytesIO(data)) for _, data in sorted(stored[kind].items())]
        table = pd.concat(tables, ignore_index=True)[list(frame)]
        pd.testing.assert_frame_equal(table, frame, check_dtype=False)
    text = [plain(name, data).decode() for name, data in sorted(stored["text"].items())]
    assert "\n".join(text).split("\n") == program.lines()
    check_files(cluster_run, source, "by-fs", "by-file")
    assert not cluster_run.unfinished


def plain(name: str, data: bytes) -> bytes:
    """Return what is in a file: the head of a gzip one holds the time."""
    return gzip.decompress(data) if name.endswith(".gz") else data


@pytest.mark.heavy
def test_environments_hold_the_token_only_where_it_was_put(cluster_run):
    """With a file, no environment has the token; with a variable, only the workers'."""
    told = cluster_run.told
    assert told["holders"]["file"] == [[], [], []]
    assert told["holders"]["map"] == [[], [], []]
    name = ["OSSPRESIGNED_TOKEN"]
    assert told["holders"]["environment"] == [[], name, name]


@pytest.mark.heavy
@SOURCES
def test_failures_of_workers_come_back_as_they_are(cluster_run, source):
    """The client sees which it was: not what was signed, or not granted at all."""
    refused, not_granted = cluster_run.told["failures"][source]
    assert (refused, not_granted) == ("SignatureMismatchError", "NotCoveredError")
    shown = (cluster_run.seen / "seen" / f"{source}-failure-1.traceback").read_text()
    assert f"{BUCKET}/not-granted" in shown


@pytest.mark.heavy
def test_no_secret_in_any_pickle_graph_or_log(cluster_run):
    """Token, key and every signature that arrived are nowhere to be found."""
    run = cluster_run
    assert len(run.signatures) > 100
    assert leaks(run.seen, run.hidden) == {}
    assert leaks(run.signer, run.hidden) == {}  # what the signer logs

    for name in ("cluster.log", "workers.log", "scheduler.log", "state.msgpack.gz"):
        (place,) = run.seen.rglob(name)
        assert place.stat().st_size > 1_000  # what was searched is not empty
    log = (run.seen / "logs" / "cluster.log").read_text()
    # All of them speak, in full: the client, the scheduler, two workers, ourselves.
    assert len({line.partition(" ")[0] for line in log.splitlines()}) >= 3
    requests = "fsspec_osspresigned.http"
    for speaker in ("distributed.scheduler", "distributed.worker", requests, "asyncio"):
        assert f"DEBUG {speaker}" in log
    graphs = [f.read_bytes() for f in (run.seen / "seen").glob("file-*.graph")]
    assert len(graphs) == len(KINDS)
    assert all(b"file:" in graph for graph in graphs)  # the reference itself travels


# -- process pools -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def pools_run(tmp_path_factory):
    """Everything that process pools have written, once for all tests."""
    run = Run(tmp_path_factory.mktemp("pools"))
    in_map = ["parent"]
    in_map += [
        f"{method}/{kind}/{n}"
        for method in METHODS
        for kind in ("by-fs", "by-file")
        for n in range(FILES)
    ]
    run.do("pools", ("file", "map"), tuple(in_map))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("source", ["file", "map"])
def test_every_byte_of_every_pool_arrives(pools_run, source, method):
    """However the processes are made, after the parent had used the filesystem."""
    check_files(pools_run, source, f"{method}/by-fs", f"{method}/by-file")
    assert pools_run.stored[f"granted/{source}/parent"] == b"parent"
    pids = pools_run.told["workers"][f"{source} {method}"]
    assert len(pids) in (1, 2)  # one may have been quick enough for all
    assert pools_run.told["client"] not in pids
    assert not pools_run.unfinished


@pytest.mark.slow
def test_no_secret_in_what_pools_pickle_and_log(pools_run):
    """Nothing but references goes to the processes."""
    run = pools_run
    assert len(run.signatures) > 50
    assert leaks(run.seen, run.hidden) == {}
    logs = [*(run.seen / "logs").glob("process-*.log")]
    assert len(logs) > len(METHODS)  # of the parent, and of each kind of process
    assert all("DEBUG" in log.read_text() for log in logs)
