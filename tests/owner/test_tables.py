"""The tables of pages that are made from the tables of the package.

``WRITE_OWNER_TABLES=1`` in the environment writes them again. The reports of
``osspresigned check store --json`` in docs/service-facts/ give the facts a column of
what real buckets did: put its head into the page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from fsspec_osspresigned.owner.check import FACTS, RULES
from fsspec_osspresigned.owner.check.rows import Row
from fsspec_osspresigned.owner.check.uploads import ROWS

DOCS = Path(__file__).parents[2] / "docs"
RULES_HEAD = "| rule | what it requires |\n|---|---|\n"
ROWS_HEAD = "| kind | rule |\n|---|---|\n"
FACTS_HEAD = "| fact | source | needs |\n|---|---|---|\n"
LIVE_HEAD = "| fact | source | needs | live |\n|---|---|---|---|\n"


def rules(table: Iterable[Row]) -> list[str]:
    """Return the rows of what ``check signer`` or ``check map`` tests."""
    return [f"| `{rule.name}` | {rule.says} |" for rule in table]


def live() -> dict[str, str]:
    """Return fact -> outcome and day of the newest report of a real bucket."""
    found: dict[str, str] = {}
    for report in sorted((DOCS / "service-facts").glob("*.json")):
        document = json.loads(report.read_text(encoding="utf-8"))
        for fact in document["results"]:
            found[fact["name"]] = f"{fact['outcome']}, {document['taken'][:10]}"
    return found


def facts() -> list[str]:
    """Return the rows of the facts that ``check store`` asks for."""
    rows, known = [], live()
    for fact in FACTS:
        needs = [f"`{fact.counter}`"] if fact.counter else []
        needs += [fact.needs.value] if fact.needs else []
        source = fact.source.removeprefix("API reference, ")
        fields = [f"`{fact.name}`: {fact.says}", source, "; ".join(needs)]
        fields += [known.get(fact.name, "not yet")] if known else []
        rows.append(f"| {' | '.join(fields)} |")
    return rows


@pytest.mark.parametrize(
    ("name", "head", "rows"),
    [
        ("signer-protocol.md", RULES_HEAD, rules(RULES)),
        ("owners.md", ROWS_HEAD, rules(ROWS.values())),
        ("service-facts.md", LIVE_HEAD if live() else FACTS_HEAD, facts()),
    ],
)
def test_page_ends_with_the_table(name, head, rows):
    """The last table of the page has one row for each rule or fact, in their order."""
    page = DOCS / name
    text, _, found = page.read_text(encoding="utf-8").partition(head)
    table = "".join(f"{row}\n" for row in rows)
    if os.environ.get("WRITE_OWNER_TABLES"):
        page.write_text(f"{text}{head}{table}", encoding="utf-8")
        return
    assert found == table


@pytest.mark.parametrize("table", [RULES, FACTS])
def test_names_are_one_each(table):
    """A report is read by the names."""
    assert len({row.name for row in table}) == len(table)


def test_page_says_that_no_real_bucket_was_asked():
    """As long as there is no report of one."""
    page = (DOCS / "service-facts.md").read_text(encoding="utf-8")
    assert ("**None was checked on the real service yet.**" in page) == (not live())
