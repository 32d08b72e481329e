"""docs/emulator.md runs, and lists what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import fields

from fsspec_osspresigned.emulator import Emulator, Fault, parse_faults
from fsspec_osspresigned.emulator.faults import REASONS

PAGE = (Path(__file__).parents[2] / "docs/emulator.md").read_text(encoding="utf-8")
NAMES = re.compile(r"`([a-z0-9_-]+)`")


def first_column(section: str) -> list[str]:
    """Return the names in backticks in the first columns of the tables."""
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return [name for row in rows for name in NAMES.findall(row)]


def test_the_examples_run():
    """The Python of the page runs from top to bottom."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    space: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/emulator.md", "exec"), space)  # noqa: S102 - our page
    with Emulator() as oss:
        space["test_my_export"](oss)


def test_the_rules_of_the_page_can_be_read():
    """Each rule in a shell example is one that the command takes."""
    rules = re.findall(r'--fault "([^"]+)"', PAGE)
    assert len(parse_faults(rules)) == 5


def test_the_page_lists_every_member_and_every_reason():
    """The tables name each member of a fault, and each reason, exactly once."""
    section = PAGE.partition("### Matching requests, and number of failures")[
        2
    ].partition("## The clock")[0]
    found = first_column(section)
    wanted = [member.name for member in fields(Fault)] + list(REASONS) + ["refuse"]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`oss\.([a-z]+)", PAGE))))
def test_the_page_names_what_exists(name):
    """Each attribute on the page exists."""
    assert hasattr(Emulator(), name)
