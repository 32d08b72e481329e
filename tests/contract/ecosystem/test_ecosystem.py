"""The suites of other projects as judges: what differs from them is known, with its reason.

Each suite runs in a process of its own against the emulator. A table in
docs/interop.md is written from the cases below; run this module with
``WRITE_ECOSYSTEM_TABLE=1`` in the environment to write it again.
"""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import field, frozen

from tests import marked

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PLACE = ("interop.md", "suites")
ALL = bool(os.environ.get("ALL_ECOSYSTEM"))  # what is missing is an error

APPEND = "an object cannot be appended to"
PATHS = "passes its path to pyarrow, which does not support this URL"
PROCESSES = "`memory://` is not mapped in another process"
SLASH = "ossfs returns names with a slash at the start if the path has one"
MEMBERS = "ossfs adds the members `Key` and `Size`"
TIMES = "ossfs returns times as numbers"
UNLISTED = "a directory without objects is remembered but not stored, so its parent does not list it; pyarrow skips these tests for s3fs too"


@frozen
class Suite:
    """One suite of another project.

    Attributes:
        name: how the table calls it.
        tests: pytest's arguments.
        needs: module without which it cannot run, or the variable that names its source.
        least: tests that must have passed, so that an empty run is no success.
        differences: pattern of test names -> why they fail.
        plugin: the module that leads their file system to our store.
    """

    name: str
    tests: tuple[str, ...]
    needs: str
    least: int
    differences: Mapping[str, str] = field(factory=dict)
    plugin: str = "tests.contract.ecosystem.redirect"


_OWN = ("--noconftest", "--import-mode=importlib", "-o", "asyncio_mode=auto")
SUITES = (
    Suite(
        name="universal_pathlib: `BaseTests`",
        tests=(*_OWN, str(HERE / "upath_suite.py")),
        needs="UPATH_SOURCE",
        least=115,
        differences={
            "test_rename_with_target_absolute[[]plain_*]": "a local path does not exist in a bucket, and a store has no `cwd()`",
            "test_iterdir_parent_iteration": "the parent of a bucket would list buckets, for which no presigned URL exists",
        },
    ),
    Suite(
        name="zarr: `StoreTests` and two state machines",
        tests=(*_OWN, str(HERE / "zarr_suite.py")),
        needs="zarr",
        least=65,
    ),
    Suite(
        name="pyarrow: `test_fs`",
        tests=("--pyargs", "pyarrow.tests.test_fs", "-k", "fsspec and memory"),
        needs="pyarrow",
        least=26,
        differences={
            "test_open_append_stream*": APPEND,
            "test_get_file_info_with_selector*": UNLISTED,
            "test_delete_dir[[]*": UNLISTED,
            "test_delete_dir_contents*": UNLISTED,
            "test_move_directory*": UNLISTED,
        },
    ),
    Suite(
        name="pandas: `io/test_fsspec`",
        tests=("--pyargs", "pandas.tests.io.test_fsspec", "-k", "not s3"),
        needs="pandas",
        least=25,
    ),
    Suite(
        name="dask: `bytes/test_s3`",
        tests=(*_OWN, str(HERE / "dask_suite.py")),
        needs="s3fs",
        least=25,
        differences={
            "test_parquet_wstoragepars*": "reads attributes that only s3fs instances have"
        },
    ),
    Suite(
        name="dask: `dataframe/io/test_parquet`",
        tests=(*_OWN, str(HERE / "dask_parquet_suite.py")),
        needs="dask",
        least=240,
        differences={
            "test_null_partition_pyarrow[[]processes]": PROCESSES,
            "test_to_parquet_lazy[[]pyarrow-processes]": PROCESSES,
            "test_to_parquet_with_get*": PROCESSES,
            "test_pandas_timestamp_overflow_pyarrow": PATHS,
            "test_roundtrip_partitioned_pyarrow_dataset*": PATHS,
            "test_writing_parquet_with_compression*": PATHS,
            "test_writing_parquet_with_partition_on_and_compression*": PATHS,
            "test_fsspec_to_parquet_filesystem_option": "passes an option that does not exist",
            "test_split_row_groups_int_aggregate_files[[]pyarrow-8]": "dask splits differently if files are not local, also with the original `memory://`",
        },
    ),
    Suite(
        name="ossfs: all tests",
        tests=(
            f"{os.environ.get('OSSFS_SOURCE', '')}/tests",
            # ossfs fails the former too with a recent fsspec; an endpoint is an option.
            *("-k", "not small_files and not set_endpoint"),
        ),
        needs="OSSFS_SOURCE",
        least=85,
        differences={
            "test_ls_dir[[]*": SLASH,
            "test_bulk_delete[[]*": SLASH,
            "test_du[[]*": SLASH,
            "test_ossfs_ls[[]*": SLASH,
            "test_ossfs_glob[[]*": SLASH,
            "test_cat_missing[[]*": SLASH,
            "test_find_with_prefix[[]*": SLASH,
            "test_bucket_info[[]*": MEMBERS,
            "test_write[[]*": MEMBERS,
            "test_ls_and_touch[[]*": MEMBERS,
            "test_ossfs_file_access[[]*": MEMBERS,
            "test_info[[]*": TIMES,
            "test_modified[[]*": TIMES,
            "test_append[[]*": APPEND,
            "test_write_blocks[[]*": "looks into the buffer of an open file",
            "test_ls_bucket[[]*": "buckets are not listed, because a signature is for one bucket",
            "test_errors[[]*": "a name that cannot be a bucket is an invalid argument, not a missing file; ossfs fails this test too",
            "test_anonymous_login[[]*": "every request is signed; ossfs fails this test too, because the bucket is private",
            "test_ls_object[[]*": "`ls` of a missing path raises FileNotFoundError, as in fsspec",
            "test_find_file_info_with_selector[[]*": "`find` with directories includes the top one, as in fsspec",
            "test_exists[[]*": "a slash at the end of a path is ignored",
            "test_checksum[[]*": "the checksum depends on the bytes only, not on the time",
            "test_touch[[]*": "`touch` without `truncate` of an existing object raises FileExistsError, not NotImplementedError",
            "test_get_put_file[[]*": "progress is reported in steps relative to the last one, and in larger ones",
            "test_pickle[[]*": "a filesystem that holds a secret cannot be pickled",
            "test_strip_protocol": "the URL of an object at `https://` is not a path",
        },
        plugin="ossfs_suite",
    ),
)


def table() -> str:
    """Return the table of docs/interop.md: why tests of each suite fail."""
    rows = [
        f"| {suite.name} | {'; '.join(dict.fromkeys(suite.differences.values())) or 'none'} |"
        for suite in SUITES
    ]
    return "\n".join(["| suite | differences |", "|---|---|", *rows, ""])


def outcomes(suite: Suite, report: Path) -> dict[str, str]:
    """Run *suite* and return what became of each test."""
    settings = report.with_name("pytest.ini")  # else those of this project count
    settings.write_text("[pytest]\n", "utf-8")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "--tb=short", "-c", str(settings)),
            *("-p", "no:randomly", "-p", "no:cacheprovider", "-W", "ignore"),
            *("-p", suite.plugin, f"--rootdir={report.parent}"),
            *(f"--junitxml={report}", *suite.tests),
        ],
        cwd=report.parent,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    print(done.stdout)  # noqa: T201 - shown if the comparison fails
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - our own child's
        kinds = {child.tag for child in case}
        bad = kinds & {"failure", "error"}
        found[case.get("name", "")] = (
            "failed" if bad else "skipped" if "skipped" in kinds else "passed"
        )
    return found


@pytest.mark.ecosystem
@pytest.mark.timeout(700)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name.replace("`", ""))
def test_suite(suite, tmp_path):
    """Exactly the tests in the table fail."""
    if suite.needs.isupper():
        missing = suite.needs not in os.environ
    else:
        missing = subprocess.run(
            [sys.executable, "-c", f"import {suite.needs}"],
            capture_output=True,
            check=False,
        ).returncode
    if missing:
        assert not ALL, f"{suite.needs} is missing"
        pytest.skip(f"no {suite.needs} here")
    found = outcomes(suite, tmp_path / "report.xml")
    passed = [name for name, how in found.items() if how == "passed"]
    failed = [name for name, how in found.items() if how == "failed"]
    known = {
        name
        for name in failed
        if any(fnmatch.fnmatchcase(name, one) for one in suite.differences)
    }
    assert set(failed) == known
    gone = [p for p in suite.differences if not fnmatch.filter(failed, p)]
    assert gone == []
    assert len(passed) >= suite.least


def test_page_shows_the_differences():
    """The table of docs/interop.md is what this module would write."""
    if os.environ.get("WRITE_ECOSYSTEM_TABLE"):
        marked.write(*PLACE, table())
    assert marked.read(*PLACE) == table()
