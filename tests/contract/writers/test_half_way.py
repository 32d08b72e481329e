"""Writers that fail in the middle: no part of an object is published."""

from __future__ import annotations

import gc
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fsspec.core import OpenFile, OpenFiles

from fsspec_osspresigned.errors import DiscardWarning
from fsspec_osspresigned.upload.writer import PresignedWriter
from tests.contract.writers import half_way
from tests.contract.writers.matrix import (
    BUCKET,
    CASES,
    GRANT,
    KEYS,
    WRITES,
    Case,
    World,
)
from tests.contract.writers.other_writers import execute
from tests.contract.writers.test_writers import ALL
from tests.contract.writers.wrappers import WRAPPERS, Boom, Wrapper


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Let warnings pass: that a file was discarded, and those of the tools."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()  # a tool may leave its file to it


def needs(libraries: tuple[str, ...]) -> None:
    """Skip what is not installed, unless everything must be."""
    if not ALL:
        for name in libraries:
            pytest.importorskip(name)


def cases(choose: Callable[[Case], bool]) -> list[Any]:
    """Return the writers that can fail half-way and that a test chooses."""
    return [
        pytest.param(
            case,
            id=case.id,
            marks=pytest.mark.writers_heavy if case.heavy else pytest.mark.writers,
        )
        for case in CASES.values()
        if half_way.is_tried(case) and choose(case)
    ]


class FailingWrites:
    """Raises out of a ``write``, and out of all later ones to other files.

    Attributes:
        path: of the first one; "" before it has failed.
        before: the bytes of the object then; None if there was none.
    """

    def __init__(self, here: World, number: int, patch: pytest.MonkeyPatch) -> None:
        """Fail at the write with that *number* to one object of *here*."""
        self.path = ""
        self.before: bytes | None = None
        self._here = here
        self._files = weakref.WeakSet[PresignedWriter]()
        write, counts, lock = PresignedWriter.write, dict[str, int](), threading.Lock()

        def fail(file: PresignedWriter, data: Any) -> int:
            if not file.path.startswith(f"{here.root}/"):
                return write(file, data)  # of a thread that outlived another test
            with lock:
                counts[file.path] = counts.get(file.path, 0) + 1
                self._files.add(file)
                first = not self.path and counts[file.path] == number
                if first:
                    self.path = file.path
                    self.before = self.stored()
                if first or self.path not in {"", file.path}:
                    raise Boom
            return write(file, data)

        patch.setattr(PresignedWriter, "write", fail)

    def stored(self) -> bytes | None:
        """Return the bytes of the object; None if there is none."""
        return self._here.stored().get(self.path.removeprefix(f"{self._here.root}/"))

    def settle(self) -> None:
        """Wait until threads of the tool, which may outlive its call, are done."""
        end = time.monotonic() + 10
        while not all(file.closed for file in list(self._files)):
            assert time.monotonic() < end
            gc.collect()
            time.sleep(0.005)
        no_upload_is_left(self._here)


def no_upload_is_left(here: World) -> None:
    """Wait until the parts of what was discarded are removed."""
    end = time.monotonic() + 10
    while any(one.key.startswith(here.folder) for one in here.oss.uploads(BUCKET)):
        assert time.monotonic() < end
        time.sleep(0.005)


def run(case: Case, here: World) -> BaseException | None:
    """Run a writer; return what it raises."""
    try:
        case.run(here)
    except BaseException as error:  # noqa: BLE001 - torch raises such
        return error
    return None


@pytest.mark.parametrize(
    "case",
    cases(lambda c: c.id not in half_way.WHOLE | half_way.CACHED | half_way.ABORTS),
)
def test_not_published(world, case: Case, monkeypatch):
    """The tool raises, and an older object of that name stays."""
    needs(case.needs)
    for number in (2, 1):  # some write everything at once
        here: World = world(WRITES, f"half-{number}-{case.id}", case.names)
        with monkeypatch.context() as patch:
            failing = FailingWrites(here, number, patch)
            failed = run(case, here) is not None
            failing.settle()
        if failing.path:
            break
    assert failing.path
    assert failed
    assert failing.stored() == failing.before


@pytest.mark.parametrize("case", cases(lambda case: case.id in half_way.WHOLE))
def test_whole_objects(world, case: Case, monkeypatch):
    """The tool never writes into an open file, so it gives values that are complete."""
    needs(case.needs)
    here: World = world(WRITES, f"half-{case.id}", case.names)
    failing = FailingWrites(here, 1, monkeypatch)
    error = run(case, here)
    assert error is None
    assert not failing.path


@pytest.mark.parametrize("case", cases(lambda case: case.id in half_way.CACHED))
def test_not_published_by_a_cache(world, case: Case, monkeypatch):
    """The body of the file raises; what its library wrote locally is not put."""
    needs(case.needs)
    here: World = world(WRITES, f"half-{case.id}", case.names)
    for kind in (OpenFile, OpenFiles):

        def end(self: Any, *_: Any, leave: Any = kind.__exit__) -> None:
            try:
                raise Boom
            except Boom as error:
                leave(self, Boom, error, error.__traceback__)
                raise

        monkeypatch.setattr(kind, "__exit__", end)
    assert isinstance(run(case, here), Boom)
    assert not here.stored()


@pytest.mark.writers
@pytest.mark.parametrize("kind", [GRANT, WRITES, KEYS])
@pytest.mark.parametrize(
    "tool", [pytest.param(tool, id=tool.title) for tool in WRAPPERS]
)
def test_body_that_raises(world, tool: Wrapper, kind: str):
    """The exception reaches the user, and nothing is published."""
    needs(tool.needs)
    here: World = world(kind, f"raises-{WRAPPERS.index(tool)}", ("a",))
    with pytest.raises(BaseException) as caught:
        tool.run(here)
    assert tool.error in {one.__name__ for one in type(caught.value).__mro__}
    del caught
    assert not here.stored()
    no_upload_is_left(here)


ROWS = 300_000
FORMATS = {
    "csv": "FORMAT csv, USE_TMP_FILE false",
    "json": "FORMAT json, USE_TMP_FILE false",
    "parquet": "FORMAT parquet, USE_TMP_FILE false",
    "gzip": "FORMAT csv, COMPRESSION gzip, USE_TMP_FILE false",
    "per-thread": "FORMAT parquet, PER_THREAD_OUTPUT",
    "sizes": "FORMAT csv, FILE_SIZE_BYTES 100000",
    "partitions": "FORMAT parquet, PARTITION_BY (g)",
}


def failing_copy(w: World, options: str, row: int) -> str:
    """Return a statement that fails at *row*."""
    bad = f"CASE WHEN i = {row} THEN error('boom') ELSE i END"
    rows = f"SELECT {bad} AS n, i % 3 AS g FROM range({ROWS}) t(i)"  # noqa: S608
    return f"COPY ({rows}) TO '{w.url('a')}' ({options})"


@pytest.mark.writers
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("row", [0, ROWS - 1], ids=["first", "last"])
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("kind", [WRITES, KEYS])
def test_duckdb(world, kind: str, form: str, row: int, threads: int):
    """A failed statement publishes nothing, and older objects stay."""
    duckdb = pytest.importorskip("duckdb")
    here: World = world(kind, f"duckdb-{form}-{row}-{threads}", ("a",))
    several = form in {"per-thread", "sizes", "partitions"}
    before = {} if several else {"a": b"older"}
    for name, data in before.items():
        here.before(name, data)
    copy = failing_copy(here, FORMATS[form], row)
    with pytest.raises(duckdb.Error, match="boom"), here.fs.transaction:
        execute(here, copy, threads)
    assert here.stored() == before
    # Outside of a transaction it is refused, unless it fails before it opens.
    with pytest.raises(duckdb.Error, match=r"boom|with fs\.transaction"):
        execute(here, copy, threads)
    assert here.stored() == before
    no_upload_is_left(here)


@pytest.mark.writers
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("form", FORMATS)
def test_duckdb_alone(world, form: str, threads: int):
    """Outside of a transaction, each form is refused before anything is sent."""
    duckdb = pytest.importorskip("duckdb")
    here: World = world(KEYS, f"alone-{form}-{threads}")
    for option in ("", ", USE_TMP_FILE false"):
        good = failing_copy(here, FORMATS[form].removesuffix(option), -1)
        with pytest.raises(duckdb.Error, match=r"with fs\.transaction"):
            execute(here, good, threads)
    assert not here.stored()


@pytest.mark.writers
@pytest.mark.parametrize("kind", [WRITES, KEYS])
@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_dask_single_file(world, kind: str, chain: str):
    """It is refused before its first partition is written."""
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    here: World = world(kind, f"single-{bool(chain)}")
    here.before("a.csv", b"older")
    options = {"osspresigned": here.options} if chain else here.options
    made = dd.from_pandas(pd.DataFrame({"n": range(100)}), npartitions=4)
    with pytest.raises(ValueError, match="cannot be changed in place"):
        made.to_csv(
            f"{chain}{here.url('a.csv')}", single_file=True, storage_options=options
        )
    assert here.stored() == {"a.csv": b"older"}


@pytest.mark.writers
def test_user_is_told(world):
    """A warning names the object that a tool closed while an exception passed."""
    pytest.importorskip("pandas")
    (tool,) = (tool for tool in WRAPPERS if tool.run.__name__ == "pandas_to_csv")
    here: World = world(WRITES, "told")
    with pytest.warns(DiscardWarning, match=r"a\.csv"), pytest.raises(Boom) as caught:
        tool.run(here)
    assert "a.csv" in "".join(caught.value.__notes__)
