"""docs/errors.md says what the code does: classes, errno, retries, reasons."""

from __future__ import annotations

import errno
import inspect
import re
from pathlib import Path

import pytest

import fsspec_osspresigned
from fsspec_osspresigned import errors
from fsspec_osspresigned.client.retry import RetryPolicy, Verb
from fsspec_osspresigned.errors import RefusalReason

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
    assert set(REASONS) == set(RefusalReason.__members__)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_builtin_classes_and_errno(name):
    """The page names what code around fsspec catches, and what an instance carries."""
    error = PUBLIC[name]("what")
    kinds = set(PUBLIC[name].__mro__) - set(OSError.__mro__)
    builtin = sorted(f"`{k.__name__}`" for k in kinds if k.__module__ == "builtins")
    assert EXCEPTIONS[name][0] == ", ".join([*builtin, errno.errorcode[error.errno]])


def test_every_warning_is_of_one_class():
    """A filter for it applies to all of them."""
    assert all(issubclass(PUBLIC[name], errors.PublishWarning) for name in WARNINGS)


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_tries(name):
    """The page says what happens before the exception is seen."""
    policy, failure = RetryPolicy(retries=5), PUBLIC[name]("what")

    def verb(attempt: int, *, resigned: bool = False) -> Verb:
        facts = {"elapsed": 0.0, "draw": 0.0, "resigned": resigned}
        return policy.decide(failure, attempt=attempt, **facts).verb

    again = {
        (Verb.GIVE_UP, Verb.GIVE_UP): None,
        (Verb.WAIT, Verb.GIVE_UP): "once",
        (Verb.WAIT, Verb.WAIT): "with waits",
        (Verb.SIGN_AGAIN, Verb.SIGN_AGAIN): "once, with a new signature",
    }[verb(1), verb(2)]
    told = re.findall(rf"^\* ([^:`]*): .*`{name}`", PAGE, re.MULTILINE)
    assert told == [again] * (again is not None)
    if verb(1) is Verb.SIGN_AGAIN:
        assert verb(2, resigned=True) is Verb.GIVE_UP
