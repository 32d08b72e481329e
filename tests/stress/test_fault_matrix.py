"""Every fault of the emulator, in every kind of upload, with every kind of signer.

The table in docs/fault-table.md is written from these cells: run
``WRITE_FAULT_TABLE=1 pytest -m heavy tests/stress/test_fault_matrix.py`` to write it again.
By default each fault is met a few times; the heavy run goes through all cells.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pkgutil
import re
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

import pytest
from attrs import evolve

from fsspec_osspresigned.emulator import Emulator, RequestRecord
from fsspec_osspresigned.errors import OSSPresignedError, Outcome
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART
from fsspec_osspresigned.owner.service.policy import hash_token
from tests import marked
from tests.conftest import key_variables, presigned
from tests.form_signer import grant_of
from tests.owner_keys import signer_service
from tests.stress.cells import (
    A_PART,
    AT_ONCE,
    CELLS,
    COMPLETE,
    GRANT,
    HOUR,
    INITIATE,
    KEYS,
    LARGE,
    MANY,
    MAP,
    OFTEN,
    PATIENT,
    PUT,
    SERVICE,
    SIGNERS,
    SMALL,
    STEPS,
    TROUBLES,
    Cell,
    Seen,
    cross_section,
    noise,
)

pytestmark = pytest.mark.slow

PLACE = ("fault-table.md", "faults")
BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"
POLICY = f"""
[[tokens]]
name = "writer"
sha256 = "{hash_token(TOKEN)}"
buckets = ["{BUCKET}"]
prefixes = [""]
actions = ["PutObject", "InitiateMultipartUpload", "UploadPart",
  "CompleteMultipartUpload", "AbortMultipartUpload"]
"""
RETRIES = 2
UPLOADING = {
    "PutObject",
    "PostObject",
    "InitiateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
}


# -- one cell ---------------------------------------------------------------------------


class Messages(logging.Handler):
    """Keeps what is logged as text: a record would keep frames, and their data."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def ask(method: str, url: str, data: bytes = b"") -> str:
    """Do what the owner does, without a word in any log."""
    host, _, target = url.partition("//")[2].partition("/")
    connection = HTTPConnection(host, timeout=PATIENT)
    with contextlib.closing(connection):
        connection.request(method, f"/{target}", data)
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read().decode()


class Place:
    """A store, a signer service and filesystems, for one cell at a time."""

    def __init__(self, folder: Path, messages: Messages) -> None:
        self.messages = messages
        self.oss = Emulator()
        self._stack = contextlib.ExitStack()
        self._folder = folder
        folder.mkdir()
        for name, data in (("small", SMALL), ("large", LARGE)):
            (folder / name).write_bytes(data)
        self._filesystems: dict[tuple[str, float], OSSPresignedFileSystem] = {}
        self._map: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._stack.enter_context(self.oss)
        self.service = self._stack.enter_context(signer_service(self.oss, POLICY))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def prepare(self, cells: list[Cell]) -> None:
        """Make one URL map for all *cells* that need it."""
        self._map = {
            f"{BUCKET}/{key}": self._entry(cell, key)
            for cell in cells
            if cell.signer == MAP
            for key in cell.keys
        }

    def _url(self, key: str, method: str, **query: str) -> str:
        return presigned(self.oss, method, key, query=query, expires_in=HOUR)

    def _entry(self, cell: Cell, key: str) -> Any:
        if cell.step == PUT:
            return self._url(key, "PUT")
        started = ask("POST", self._url(key, "POST", uploads=""))
        upload = re.search("<UploadId>(.*)</UploadId>", started)[1]
        parts = [
            self._url(key, "PUT", partNumber=str(n), uploadId=upload) for n in (1, 2, 3)
        ]
        return {
            "upload_id": upload,
            "part_size": PART,
            "parts": parts,
            "complete": self._url(key, "POST", uploadId=upload),
            "list": self._url(key, "GET", uploadId=upload),
        }

    def filesystem(self, cell: Cell) -> OSSPresignedFileSystem:
        """Return the filesystem of the cell's kind of signer, as if it were new."""
        kind = cell.signer, cell.seconds
        if kind not in self._filesystems:
            source = {
                KEYS: {
                    "signer": "keys",
                    "endpoint": self.oss.url,
                    "region": "cn-hangzhou",
                },
                MAP: {"url_map": {"version": 1, "objects": self._map}},
                SERVICE: {
                    "signer": self.service.url,
                    "signer_token": "env:OSSPRESIGNED_TOKEN",
                },
                GRANT: {"grant": grant_of(self.oss, BUCKET, "")},
            }[cell.signer]
            fs = OSSPresignedFileSystem(
                **source,
                timeout=cell.seconds,
                retries=RETRIES,
                part_size=PART,
                multipart_threshold=PART,
                max_concurrency=2,
            )
            fs.client.policy = evolve(fs.client.policy, base=0.005)
            self._filesystems[kind] = fs
        fs = self._filesystems[kind]
        fs.client.buckets.clear()
        fs.client.clock_offset = None
        return fs

    def many(self, cell: Cell) -> dict[str, bytes]:
        """Return path -> bytes of all objects of the call, all different."""
        data = (cell.data, *(noise(key, 300) for key in cell.keys[1:]))
        return {
            f"{BUCKET}/{key}": one for key, one in zip(cell.keys, data, strict=True)
        }

    def store(self, cell: Cell) -> None:
        """Upload."""
        fs, path = self.filesystem(cell), f"{BUCKET}/{cell.key}"
        if cell.way == "`pipe`":
            fs.pipe({path: cell.data})
        elif cell.way == MANY:
            found = fs.pipe(self.many(cell), on_error="return")
            failed = [one for one in found if isinstance(one, Exception)]
            assert len(failed) <= 1 or cell.is_shared, "a neighbour failed"
            if isinstance(found[0], Exception):
                raise found[0]
        elif cell.way == "`put_file`":
            name = "small" if cell.step in AT_ONCE else "large"
            fs.put_file(str(self._folder / name), path)
        else:
            with fs.open(path, "wb") as file:
                for at in range(0, len(cell.data), 70_000):
                    file.write(cell.data[at : at + 70_000])

    def run(self, cell: Cell) -> Seen:
        """Let *cell* meet its fault, and check all that must hold whatever happens."""
        old = noise(f"old {cell.key}", len(cell.data))
        ask("PUT", self._url(cell.key, "PUT"), old)
        self.oss.clear()
        self.oss.clock.offset = cell.trouble.offset
        self.oss.faults.add(*cell.rules)
        error: OSSPresignedError | None = None
        try:
            self.store(cell)
        except OSSPresignedError as failure:
            error = failure
        sent = [r for r in self.oss.requests if r.key == cell.key]
        struck = any(r.fault is not None for r in sent)
        assert struck or not cell.rules or cell.trouble.varies, "the fault was not met"
        if not cell.is_shared:
            self.check_neighbours(cell, Counter(r.key for r in self.oss.requests))
        self.oss.clear()
        self.oss.clock.offset = 0
        visible = self.oss.get(BUCKET, cell.key).data()
        self.check(cell, error, visible, old)
        if error is not None:
            self.check_left(cell)
            if error.outcome is Outcome.NOT_STORED:
                self.store(cell)  # what is left over stands in nobody's way
                assert self.oss.get(BUCKET, cell.key).data() == cell.data
        return Seen(
            "" if error is None else type(error).__name__,
            "" if error is None else str(error.outcome),
            most_tries(cell, sent),
            visible == cell.data,
        )

    def check(
        self,
        cell: Cell,
        error: OSSPresignedError | None,
        visible: bytes,
        old: bytes,
    ) -> None:
        """Check that the object is whole, and that what was said about it is true."""
        assert visible in (cell.data, old), "truncated or mixed"
        if error is None:
            assert visible == cell.data, "silently lost"
            return
        if error.outcome is Outcome.NOT_STORED:
            assert visible == old, "said not to be stored, and is"
        elif error.outcome is Outcome.STORED:
            assert visible == cell.data, "said to be stored, and is not"
        else:
            is_late = error.is_late or "may still" in str(error)
            assert cell.signer != KEYS or is_late, (
                "unknown, although HeadObject is signed"
            )

    def check_neighbours(self, cell: Cell, sent: Counter[str]) -> None:
        """Check that each other object of the call was stored, by one request."""
        for path, data in list(self.many(cell).items())[1:]:
            key = path.partition("/")[2]
            assert self.oss.get(BUCKET, key).data() == data, "a neighbour is damaged"
            # A busy machine may keep a hasty client waiting, too.
            assert sent[key] == 1 or cell.seconds < PATIENT, "a neighbour was delayed"

    def check_left(self, cell: Cell) -> None:
        """Check that no upload of ours is left, or that its owner can find it."""
        owners = self._map.get(f"{BUCKET}/{cell.key}")
        for upload in self.oss.uploads(BUCKET):
            if upload.key != cell.key:
                continue
            if owners is not None:
                assert upload.upload_id == owners["upload_id"]
            elif cell.step == INITIATE:
                assert not upload.parts  # its ID never came: nobody can abort it
            else:  # no signature is good enough to abort it, so it is reported
                clock = cell.trouble.offset or cell.rules[0].clock_jump
                assert clock, "left open"
                assert any(upload.upload_id in text for text in self.messages.texts)


def most_tries(cell: Cell, sent: list[RequestRecord]) -> int:
    """Return how often the struck call was sent, or any, where all are struck."""
    action, _ = STEPS[cell.step]
    counts = Counter(
        (r.action, r.part_number)
        for r in sent
        if r.action == action or (cell.trouble.anywhere and r.action in UPLOADING)
    )
    return max(counts.values())


def run_all(
    cells: list[Cell], folder: Path, width: int
) -> tuple[dict[Cell, Seen], dict[Cell, str]]:
    """Return what came of each cell, or what was wrong with it; *width* at a time."""
    # pytest parses each module of a plugin when it is imported. CPython 3.11 raises
    # SystemError if several threads do that at once.
    package = "fsspec_osspresigned"
    for found in pkgutil.walk_packages(import_module(package).__path__, f"{package}."):
        with contextlib.suppress(ImportError):  # a few need libraries of others
            import_module(found.name)
    waiting: SimpleQueue[Cell] = SimpleQueue()
    seen: dict[Cell, Seen] = {}
    wrong: dict[Cell, str] = {}
    for cell in cells:
        waiting.put(cell)
    messages = Messages()

    def work(number: int) -> None:
        with Place(folder / str(number), messages) as place:
            place.prepare(cells)
            with contextlib.suppress(Empty):
                while True:
                    cell = waiting.get_nowait()
                    try:
                        seen[cell] = place.run(cell)
                    except Exception as error:  # noqa: BLE001 - all are shown together
                        wrong[cell] = f"{type(error).__name__}: {error}"

    logger = logging.getLogger("fsspec_osspresigned")
    logger.addHandler(messages)
    try:
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(work, range(width)))
    finally:
        logger.removeHandler(messages)
    return seen, wrong


# -- the page ---------------------------------------------------------------------------

CALLS: Mapping[str, tuple[str, ...]] = {
    "PUT, form": AT_ONCE,
    "initiate": (INITIATE,),
    "part": (A_PART,),
    "complete": (COMPLETE,),
}
EVERY, OTHERS, SAME, NEVER = "every", "others", "the same", "-"
HEAD = "| fault | call | once | always |\n|---|---|---|---|\n"
Said = Mapping[tuple[str, str, str, str], str]  # step, fault, signer, how often -> text


def table(said: Said) -> str:
    """Return the table: faults and calls with the same outcomes share a row."""
    faults: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for name, trouble in TROUBLES.items():
        calls: dict[tuple[str, str], list[str]] = {}
        for call, steps in CALLS.items():
            if set(steps) & set(trouble.steps):
                once, always = (_field(said, steps, name, often) for often in OFTEN)
                fields = (once, SAME if once == always else always)
                calls.setdefault(fields, []).append(call)
        rows = tuple((", ".join(who), *fields) for fields, who in calls.items())
        if len(rows) == 1 and len(next(iter(calls.values()))) > 1:
            rows = ((EVERY, *rows[0][1:]),)
        faults.setdefault(rows, []).append(name)
    lines = [
        f"| {' | '.join((' / '.join(names) if row is rows[0] else '', *row))} |\n"
        for rows, names in faults.items()
        for row in rows
    ]
    return HEAD + "".join(lines)


def _field(said: Said, steps: tuple[str, ...], name: str, often: str) -> str:
    """Return a field: the signers that agree have their words in common."""
    groups: dict[str, list[str]] = {}
    for step in steps:
        for signer in SIGNERS[step]:
            if text := said.get((step, name, signer, often)):
                groups.setdefault(text, []).append(signer)
    if len(groups) <= 1:
        return next(iter(groups), NEVER)
    (*first, (last, _)) = sorted(groups.items(), key=lambda one: len(one[1]))
    texts = [f"{', '.join(who)}: {text}" for text, who in first]
    return "; ".join([*texts, f"{OTHERS}: {last}"])


def read_table() -> dict[tuple[str, str, str, str], str]:
    """Return step, fault, signer and how often -> what the page says."""
    found: dict[tuple[str, str, str, str], str] = {}
    names: list[str] = []
    for line in marked.read(*PLACE).removeprefix(HEAD).splitlines():
        fault, calls, once, always = line.removeprefix("|").removesuffix("|").split("|")
        names = fault.strip().split(" / ") if fault.strip() else names
        told = list(CALLS) if calls.strip() == EVERY else None
        for name in names:
            for call, steps in CALLS.items():
                if call not in (told or _calls(calls)):
                    continue
                for step in set(steps) & set(TROUBLES[name].steps):
                    fields = [once.strip(), always.strip()]
                    if fields[1] == SAME:
                        fields[1] = fields[0]
                    for often, field in zip(OFTEN, fields, strict=True):
                        for signer in SIGNERS[step] if field != NEVER else ():
                            found[step, name, signer, often] = _of(field, signer)
    return found


def _calls(text: str) -> list[str]:
    return [call for call in CALLS if f", {call}," in f", {text.strip()},"]


def _of(field: str, signer: str) -> str:
    """Return what a field says of *signer*."""
    groups = [group.rpartition(": ") for group in field.split("; ")]
    for who, _, text in groups:
        if signer in who.split(", "):
            return text
    return groups[-1][2]


# -- the tests --------------------------------------------------------------------------


def check_all(seen: Mapping[Cell, Seen], wrong: Mapping[Cell, str]) -> None:
    """Fail with everything that is wrong, or is not what the page says."""
    said = read_table()
    found = [f"{cell}: {text}" for cell, text in wrong.items()]
    for cell, what in seen.items():
        expected = said.get((cell.step, cell.name, cell.signer, cell.often))
        if (text := cell.text(what)) != expected:
            found.append(f"{cell}: {text}; the page says {expected}")
    assert not found, "\n".join(sorted(found))


@pytest.fixture
def environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Have the key of every emulator, and the token of the service, at hand."""
    caplog.set_level(logging.WARNING)  # thousands of requests
    for name, value in key_variables(Emulator()).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)


@pytest.mark.slow
def test_every_fault_somewhere(environment, tmp_path):
    """Each fault, met a few times, does what the page says and no harm."""
    cells = cross_section()
    assert {cell.name for cell in cells} == TROUBLES.keys()
    for axis in ("step", "way", "signer", "often"):
        met = {getattr(cell, axis) for cell in cells}
        assert met == {getattr(cell, axis) for cell in CELLS}
    seen, wrong = run_all(cells, tmp_path, 4)
    check_all(seen, wrong)


def test_page_has_every_cell():
    """The table is in the form that is written, for the cells of this module."""
    said = read_table()
    assert said.keys() == {(c.step, c.name, c.signer, c.often) for c in CELLS}
    assert table(said) == marked.read(*PLACE)


@pytest.mark.heavy
@pytest.mark.timeout(1_200)
def test_every_fault_everywhere(environment, tmp_path):
    """Every field of the table is what happens."""
    seen, wrong = run_all(CELLS, tmp_path, 6)
    assert not wrong, "\n".join(f"{cell}: {text}" for cell, text in wrong.items())
    if os.environ.get("WRITE_FAULT_TABLE"):
        said = {(c.step, c.name, c.signer, c.often): c.text(seen[c]) for c in CELLS}
        marked.write(*PLACE, table(said))
    check_all(seen, wrong)
