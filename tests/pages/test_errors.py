"""docs/errors.md says what the code does: classes, families, errno, tries, reasons."""

from __future__ import annotations

import errno
import inspect
import re
from pathlib import Path

import pytest

import fsspec_osspresigned
from fsspec_osspresigned import errors
from fsspec_osspresigned.client.retry import RetryPolicy, Verb
from fsspec_osspresigned.errors import Refused

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
PUBLIC = {
    name: value
    for name in fsspec_osspresigned.__all__
    if inspect.isclass(value := getattr(fsspec_osspresigned, name))
    and issubclass(value, Exception)
}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the table under *heading*: the name in each row -> its further cells."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    assert len(found) == len(dict(found)), "a row stands twice"
    return {name: rest.split(" | ") for name, rest in found}


EXCEPTIONS, WARNINGS, REASONS = rows("Exceptions"), rows("Warnings"), rows("Refusals")


def test_every_public_error_and_warning_is_listed():
    """Nothing is missing, and nothing is listed that does not exist."""
    warnings = {n for n, kind in PUBLIC.items() if issubclass(kind, Warning)}
    assert set(WARNINGS) == warnings
    assert set(EXCEPTIONS) == set(PUBLIC) - warnings
    assert set(REASONS) == set(Refused.__members__)


@pytest.mark.parametrize("name", PUBLIC)
def test_families(name):
    """The page names exactly the direct bases of each class."""
    bases = (EXCEPTIONS.get(name) or WARNINGS[name])[0]
    assert bases == ", ".join(f"`{kind.__name__}`" for kind in PUBLIC[name].__bases__)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_errno(name):
    """The page names the errno that an instance carries."""
    error = PUBLIC[name]("what", path="b/k") if name != "UploadErrors" else None
    error = error or errors.UploadErrors("what")
    assert errno.errorcode[error.errno] == EXCEPTIONS[name][1]


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_tries(name):
    """The page says what happens before the exception is seen."""
    policy, failure = RetryPolicy(retries=5), PUBLIC[name]("what")

    def verb(attempt: int, *, resigned: bool = False) -> Verb:
        facts = {"elapsed": 0.0, "draw": 0.0, "resigned": resigned}
        return policy.decide(failure, attempt=attempt, **facts).verb

    again = {
        (Verb.GIVE_UP, Verb.GIVE_UP): "no",
        (Verb.WAIT, Verb.GIVE_UP): "once",
        (Verb.WAIT, Verb.WAIT): "with waits",
        (Verb.SIGN_AGAIN, Verb.SIGN_AGAIN): "signed again, once",
    }[verb(1), verb(2)]
    assert again == EXCEPTIONS[name][2]
    if again == "signed again, once":
        assert verb(2, resigned=True) is Verb.GIVE_UP


@pytest.mark.parametrize("name", [*EXCEPTIONS, *WARNINGS, *REASONS])
def test_every_cell_is_filled(name):
    """Each row has a cause and a remedy."""
    table = next(t for t in (EXCEPTIONS, WARNINGS, REASONS) if name in t)
    widths = {len(cells) for cells in table.values()}
    assert len(widths) == 1
    assert all(cell.strip() for cell in table[name])
