"""Every writer in every world: what it writes arrives, or it says what to do.

The table in docs/interop.md is written from these cases; run this module with
``WRITE_WRITERS_TABLE=1`` in the environment to write it again.
"""

from __future__ import annotations

import fnmatch
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    DiscardWarning,
    ExistenceNotVerifiedWarning,
    PublishWarning,
)
from tests import marked
from tests.contract.writers import (
    array_writers,
    dask_writers,
    file_writers,
    fsspec_writers,
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

ROOT = Path(__file__).parents[3]
PLACE = ("interop.md", "writers")
ALL = bool(os.environ.get("ALL_WRITERS"))  # what is missing is an error

HEAD = """\
| tool | writer | works by | again | note |
|---|---|---|---|---|
"""
PLAIN = """
These work by every source that permits as many objects as they write, replace silently, and have no other conditions:

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


def table() -> str:
    """Return the table of docs/interop.md, and the list below it."""
    order = {module.__name__: place for place, module in enumerate(MODULES)}
    cases = sorted(CASES.values(), key=lambda case: order[case.run.__module__])
    rows: dict[tuple[str, ...], list[str]] = {}
    plain: dict[str, list[str]] = {}
    for case in cases:
        told = (case.group, case.works_by(), second_run.cell(case), case.to_know())
        if told[1] in ("all", "all but one URL") and told[2:] == ("replaces", ""):
            plain.setdefault(case.group, []).append(case.title)
        else:
            rows.setdefault(told, []).append(case.title)
    lines, above = "", ""
    for (group, *cells), titles in rows.items():
        tool = group if group == above else versioned(group)
        lines += f"| {tool} | {'; '.join(titles)} | {' | '.join(cells)} |\n"
        above = group
    above = "; ".join(title for titles in rows.values() for title in titles)
    others = ""
    for tool, titles in plain.items():
        short = [t if name_of(t) in above else name_of(t) for t in titles]
        others += f"* {tool}: {'; '.join(dict.fromkeys(short))}\n"
    return f"{HEAD}{lines}{PLAIN}{others}"


def name_of(title: str) -> str:
    """Return the name of a writer without the options that its case gives it."""
    return title if "(" in title else title.partition(",")[0]


def versioned(group: str) -> str:
    """Return the name of a tool with the oldest version that its tests install."""
    name = group.partition(",")[0].replace("_", "-")
    name = {"PyTorch": "torch", "Hugging Face `datasets`": "datasets"}.get(name, name)
    found = re.search(
        rf'^ *"{re.escape(name.partition(" ")[0].lower())}(?:\[[\w,-]*\])?>=([\d.]+)',
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return f"{group}, from {found[1]}" if found else group


def runs_again(case: Case, kind: str) -> bool:
    """Return whether ``test_run_again`` has this writer, and so its first run, too."""
    return kind in second_run.TRIED and second_run.is_tried(case, kind)


def runs_once(case: Case, kind: str) -> bool:
    """Return whether the writer runs in this world, and only once."""
    return case.runs_in(kind) and not runs_again(case, kind)


def runs(is_tried: Callable[[Case, str], bool]) -> list[object]:
    """Return the cells of the table that *is_tried* names."""
    return [
        pytest.param(
            case,
            kind,
            id=f"{case.id}-{kind}",
            marks=pytest.mark.writers_heavy if case.heavy else pytest.mark.writers,
        )
        for case in CASES.values()
        for kind in KINDS
        if is_tried(case, kind)
    ]


@pytest.mark.parametrize(("case", "kind"), runs(runs_once))
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
    allowed = set() if here.sees else {ExistenceNotVerifiedWarning}
    if failed:
        allowed.add(DiscardWarning)  # the file tells that it was left
    ours = {one.category for one in said if issubclass(one.category, PublishWarning)}
    assert ours <= allowed
    end = time.monotonic() + 5
    while here.oss.uploads(BUCKET) and time.monotonic() < end:
        time.sleep(0.005)
    assert not here.oss.uploads(BUCKET)


@pytest.mark.parametrize(("case", "kind"), runs(runs_again))
def test_run_again(world, case: Case, kind: str):
    """The first run works; another one replaces its result, or leaves it as it is."""
    if case.missing and not ALL:
        pytest.skip(f"not installed: {', '.join(case.missing)}")
    here: World = world(kind, f"again-{case.id}", case.names)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        case.run(here)
    check_after(here, said, failed=False)
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
    """The table of docs/interop.md is what this module would write."""
    if os.environ.get("WRITE_WRITERS_TABLE"):
        marked.write(*PLACE, table())
    assert marked.read(*PLACE) == table()


@pytest.mark.writers
def test_map_may_forbid_replacing(world, store):
    """Exclusive writes work if the map's URL was signed with the header."""
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
    """The ORC writer may end the process if a write fails; ``to_orc`` to bytes raises."""
    pytest.importorskip("pyarrow.orc")
    world(KEYS, "orc")
    store.faults.add(Fault(action="UploadPart", status=403, code="AccessDenied"))
    done = subprocess.run(
        [sys.executable, "-c", ORC, how], capture_output=True, text=True, check=False
    )
    assert done.returncode in ends
    assert "UploadPart was refused" in done.stderr
    assert "a.orc" not in store.objects(BUCKET)
