"""Every writer in every world: what it writes arrives, or it says what to do.

The table in docs/writers.md is written from these cases; run this module with
``WRITE_WRITERS_TABLE=1`` in the environment to write it anew.
"""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    BlindAnswerWarning,
    DiscardWarning,
    PublishWarning,
)
from tests.contract.writers import (
    array_writers,
    dask_writers,
    file_writers,
    fsspec_writers,
    half_way,
    heavy_writers,
    other_writers,
    pandas_writers,
    pyarrow_writers,
    second_run,
)
from tests.contract.writers.matrix import (
    BUCKET,
    CASES,
    KEYS,
    KINDS,
    MAP,
    Case,
    Fails,
    Outcome,
    World,
)
from tests.contract.writers.wrappers import WRAPPERS

PAGE = Path(__file__).parents[3] / "docs" / "writers.md"
ALL = bool(os.environ.get("ALL_WRITERS"))  # what is missing is an error

PAGE_START = """\
# Writers

Each cell is a test of `tests/contract/writers`, which also generates this page. In each test, the tool itself writes to a store that verifies every signature, and the tool's own reader must read the result.

The columns are six sources of signatures:

* **one URL**: the presigned URL of one PUT, `presigned_url="file:upload.url"`. A dash in this column means that the row writes several objects, or one object whose name the tool chooses. The tests pass the path of the URL's object; the path may be empty (`osspresigned://`) unless the tool derives a format or a compression from it.
* **URL map**: presigned URLs of one PUT each, for names that are known in advance. A dash in this column means that the tool chooses the names of its files, or that the row needs objects of other writers. Rows with a dash need a signer.
* **grant**: one [grant](grant.md) for the directory, in a file; each object is sent in one form.
* **write-only signer**: the [signer service](serve.md) with a policy of PutObject and the four calls of a multipart upload.
* **signer of all verbs**: the signer service with a policy that also grants reading, listing, copying and deleting.
* **keys**: `signer="keys"`.

**Fails half-way** is what is stored if the tool fails in the middle of what it writes, with the write-only signer. In every case, the tool raises.

* **not published**: the object that the tool was writing is not published, and an older object of that name stays. Other objects, which the tool has finished, stay as well; [a transaction](transactions.md) publishes all or none.
* **whole objects**: the tool passes complete values or files. Each object is stored completely or not at all, and those before the failure stay.
* A dash: the row only raises.

The first four sources do not grant reading: *write-only* in a cell. With these sources, the filesystem knows the objects that this process wrote, and can read small bodies back. All other objects
are reported as missing, with one warning, or are refused with `unknown="error"`. If the missing permission to read changes the result of a writer, the cell of the writer says so.

Two columns say what happens if the same writer runs again on its own result, with all sources but keys:

* **second run, same process**: the filesystem knows the result of the first run.
* **another process**: the result of the first run cannot be seen where only writing is signed. *Works* means that the objects are replaced. A tool that looks for existing
  objects first, and is told that there are none, does not replace any: an object that exists raises `ObjectExistsError`, and stays as it is ([why](write-only.md#nothing-is-replaced-after-a-blind-look)).
  *A warning* stands for one URL and URL maps. Their URLs were signed without the header `x-oss-forbid-overwrite`, so the object is replaced, and a `BlindAnswerWarning` at your line of code says so.

An error in one of these two columns leaves the result of the first run unchanged. A dash means that a second run cannot be compared with the first.

If a cell names an error, the tool raises this error, and nothing is published unless the cell says otherwise. Further notes:

* `generic.rsync` and `pyarrow.fs.copy_files` ignore errors. With `on_error="raise"`, `generic.rsync` raises errors. Errors of `copy_files` are only in the log of `fsspec_osspresigned.upload.upload`; use `fs.put` instead, which reports every file.
* Libraries that seek while writing (HDF5, netCDF, video) can write to `simplecache::osspresigned://...`, a local file that is sent
  when it is closed, unless an exception closes it.
* polars and pyarrow do not support fsspec's URLs. Pass polars an open file, and pass pyarrow the argument `filesystem=`.
* An object cannot be appended to (`mode="a"`). Tools that append by adding files (dask, zarr, xarray) work if they can read the existing
  files, which includes files written by the same process.
* `UPath("osspresigned://bucket/key", signer=...)` of universal_pathlib is registered. The `touch` of such a path never replaces an object: the store itself refuses, so the URL must be signed with `x-oss-forbid-overwrite`.

```python
with fsspec.open("osspresigned://bucket/a.parquet", "wb", **options) as file:
    polars_frame.write_parquet(file)

pq.write_table(
    table, "bucket/b.parquet", filesystem=fsspec.filesystem("osspresigned", **options)
)

url = "simplecache::osspresigned://bucket/c.h5"
with fsspec.open(url, "wb", osspresigned=options) as file, h5py.File(file, "w") as out:
    out["numbers"] = numbers

url = "simplecache::osspresigned://bucket/d.nc"
with (
    fsspec.open(url, "wb", osspresigned=options) as file,
    netCDF4.Dataset(file.name, "w") as out,
):
    out.createDimension("x", 3)

with fsspec.open("osspresigned://bucket/e.nc", "wb", **options) as file:
    file.write(xarray_dataset.to_netcdf(engine="h5netcdf"))
```
"""


RUNS = ("second run, same process", "another process")
PAGE_END = """
## Bodies that raise

Each of these wrappers and tools closes its file while an exception of its body, or of the data that it writes, passes. The exception reaches you, nothing is published, and no parts are left, with a grant, with the write-only signer and with keys:

"""

MODULES = (  # in the order of the page
    pandas_writers,
    pyarrow_writers,
    dask_writers,
    array_writers,
    heavy_writers,
    other_writers,
    file_writers,
    fsspec_writers,
)
FILES = {module.__file__ for module in MODULES}


def page() -> str:
    """Return docs/writers.md."""
    text = PAGE_START
    order = {module.__name__: place for place, module in enumerate(MODULES)}
    cases = sorted(CASES.values(), key=lambda case: order[case.run.__module__])
    for group, rows in groupby(cases, lambda case: case.group):
        columns = ["writer", *KINDS.values(), *RUNS, "notes", "fails half-way"]
        text += f"\n## {group}\n\n| {' | '.join(columns)} |\n"
        text += f"|{'---|' * len(columns)}\n"
        for case in rows:
            cells = [case.title, *map(case.cell, KINDS)]
            cells += [*second_run.cells(case), case.to_know()]
            cells.append(half_way.cell(case))
            text += f"| {' | '.join(cells)} |\n"
    titles = "".join(f"* {tool.title}\n" for tool in WRAPPERS)
    return f"{text}{PAGE_END}{titles}"


def runs(
    kinds: Iterable[str] = KINDS, is_tried: Callable[[Case, str], bool] = Case.runs_in
) -> list[object]:
    """Return every cell of the table, or those that *is_tried* names."""
    return [
        pytest.param(
            case,
            kind,
            id=f"{case.id}-{kind}",
            marks=pytest.mark.writers_heavy if case.heavy else pytest.mark.writers,
        )
        for case in CASES.values()
        for kind in kinds
        if is_tried(case, kind)
    ]


@pytest.mark.parametrize(("case", "kind"), runs())
def test_writer(world, case: Case, kind: str):
    """The bytes arrive and can be read, or the error says what the table says."""
    if case.missing and not ALL:
        pytest.skip(f"not installed: {', '.join(case.missing)}")
    here: World = world(kind, case.id, case.names)
    outcome = case.outcome(kind)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if isinstance(outcome, Fails):
            with pytest.raises(BaseException) as caught:  # torch raises such
                case.run(here)
            error = caught.value
            families = {kind.__name__ for kind in type(error).__mro__}
            assert outcome.error in families, repr(error)
            assert outcome.text in str(error)
            left, wanted = sorted(here.stored()), sorted(outcome.leaves)
            assert len(left) == len(wanted)
            assert all(map(fnmatch.fnmatchcase, left, wanted))
            del caught, error  # its frames hold what the writer had in hand
        else:
            case.run(here)
    check_after(here, said, failed=isinstance(outcome, Fails))


def check_after(
    here: World, said: list[warnings.WarningMessage], *, failed: bool
) -> None:
    """Check that nothing was warned of without need, and that no upload is left."""
    allowed = set() if here.sees else {BlindAnswerWarning}
    if failed:
        allowed.add(DiscardWarning)  # the file tells that it was left
    ours = {one.category for one in said if issubclass(one.category, PublishWarning)}
    assert ours <= allowed
    end = time.monotonic() + 5
    while here.oss.uploads(BUCKET) and time.monotonic() < end:
        time.sleep(0.005)
    assert not here.oss.uploads(BUCKET)


@pytest.mark.parametrize(("case", "kind"), runs(second_run.TRIED, second_run.is_tried))
def test_run_again(world, case: Case, kind: str):
    """A writer replaces its first result, or leaves it as it is; it never does so unsaid."""
    if case.missing and not ALL:
        pytest.skip(f"not installed: {', '.join(case.missing)}")
    here: World = world(kind, f"again-{case.id}", case.names)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        case.run(here)
    run_again(here, case, second_run.same_process(case, kind))
    here.forget()
    run_again(here, case, second_run.other_process(case, kind))


def run_again(here: World, case: Case, outcome: Outcome) -> None:
    """Run the writer on its own result, and check that nothing is lost silently."""
    before = here.stored()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if isinstance(outcome, Fails):
            with pytest.raises(Exception, match=outcome.text) as raised:
                case.run(here)
            assert outcome.error in {one.__name__ for one in type(raised.value).__mro__}
            del raised
        elif outcome is None or outcome is second_run.WARNED:
            case.run(here)
        else:  # whose own check expects the rows of one run
            with pytest.raises(AssertionError, match="shape"):
                case.run(here)
    after = here.stored()
    replaced = [w for w in caught if "it is replaced" in str(w.message)]
    assert {w.filename for w in replaced} <= FILES  # the user's own line
    assert bool(replaced) is (outcome is second_run.WARNED)
    added = sorted(after.keys() - before.keys())
    if isinstance(outcome, Fails):
        assert before.items() <= after.items()
        assert len(added) == len(outcome.leaves)
        assert all(map(fnmatch.fnmatchcase, added, outcome.leaves))
    elif outcome is None or outcome is second_run.WARNED:
        assert after.keys() == before.keys()
    else:
        assert added
        assert before.items() <= after.items()
    check_after(here, caught, failed=isinstance(outcome, Fails))


def test_page_shows_what_is_tested():
    """docs/writers.md is what this module would write."""
    if os.environ.get("WRITE_WRITERS_TABLE"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page()


@pytest.mark.writers
def test_map_may_forbid_replacing(world, store):
    """What the table says about exclusive writes: a map's URL may carry the header."""
    here: World = world(MAP, "exclusive", ("a.bin",), exclusive=True)
    with here.fs.open(here.path("a.bin"), "xb") as file:
        file.write(b"abc")
    with pytest.raises(FileExistsError), here.fs.open(here.path("a.bin"), "xb") as file:
        file.write(b"def")
    assert here.stored() == {"a.bin": b"abc"}


ORC = """
import sys, fsspec, numpy, pandas
options = {"signer": "keys", "retries": 0, "part_size": 102_400}
frame = pandas.DataFrame({"n": numpy.random.default_rng(1).random(100_000)})
with fsspec.open("osspresigned://examplebucket/a.orc", "wb", **options) as file:
    if sys.argv[1] == "file":
        frame.to_orc(file)
    else:
        file.write(frame.to_orc())
"""


@pytest.mark.writers
@pytest.mark.parametrize(
    ("how", "ends"), [("file", {1, -signal.SIGABRT}), ("bytes", {1})]
)
def test_orc_of_pyarrow_may_abort(world, store, how, ends):
    """What the table says about ORC: its writer may end the process, bytes raise."""
    pytest.importorskip("pyarrow.orc")
    world(KEYS, "orc")
    store.faults.add(Fault(action="UploadPart", status=403, code="AccessDenied"))
    done = subprocess.run(
        [sys.executable, "-c", ORC, how], capture_output=True, text=True, check=False
    )
    assert done.returncode in ends
    assert "UploadPart was refused" in done.stderr
    assert "a.orc" not in store.objects(BUCKET)
