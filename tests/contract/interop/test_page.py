"""docs/interop.md says what the tests of this directory try, no more and no less.

Run it with ``WRITE_INTEROP_TABLES=1`` in the environment to write the tables again, with
the versions that are installed; those that are not stay as they stand on the page.
"""

from __future__ import annotations

import os
import re

import pytest

from fsspec_osspresigned.emulator.table import HANDLERS
from tests import marked
from tests.contract.interop import table
from tests.contract.interop.conftest import HERE, library


def test_tables(cells, files):
    """The tables have exactly the tests' rows, cells and notes."""
    if not set(HERE.glob("test_*.py")) <= files:
        pytest.skip("the tables are compared where the whole directory is collected")
    told = table.tables(cells)
    if os.environ.get("WRITE_INTEROP_TABLES"):
        known = table.versions_in(marked.read(*table.PLACE))
        marked.write(*table.PLACE, table.with_versions(told, known))
    assert table.without_versions(marked.read(*table.PLACE)) == told


BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```$", table.PAGE.read_text("utf-8"))
NEEDS = ("oss2", "alibabacloud_oss_v2", "ossfs")


@pytest.mark.parametrize(
    ("needed", "block"), list(zip(NEEDS, BLOCKS, strict=True)), ids=NEEDS
)
def test_examples(needed, block, oss):
    """What the page shows works with the variables that the emulator prints."""
    library(needed)
    exec(compile(block, table.PAGE.name, "exec"), {})  # noqa: S102 - of the page
    (key,) = oss.objects("examplebucket")
    assert oss.get("examplebucket", key).data() == b"hello"


def test_calls_of_the_emulator():
    """The list of calls that the emulator supports is complete."""
    text = table.PAGE.read_text("utf-8")
    listed = re.search(r"The emulator supports these calls: ([^.]*)\.", text)
    assert listed
    names = set(re.findall(r"\w+", listed[1])) - {"and"}
    assert names == set(map(str, HANDLERS))
