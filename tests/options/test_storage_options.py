"""The keywords that type checkers see are the options that the package takes."""

from __future__ import annotations

from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from attrs import fields

from fsspec_osspresigned.options.options import ALIAS, FOREIGN, Options
from fsspec_osspresigned.options.storage_options import StorageOptions

HINTS = get_type_hints(StorageOptions)
CONVERTERS = {field.name: field.metadata["convert"] for field in fields(Options)}
CHOICES = {
    name: get_args(part)
    for name, hint in HINTS.items()
    for part in get_args(hint)
    if get_origin(part) is Literal
}


def test_same_options():
    """A name is in both lists, or in none."""
    assert HINTS.keys() == {*CONVERTERS, *FOREIGN, ALIAS}


def test_choices_are_typed():
    """A closed list of texts is a ``Literal``, in which a misspelt value is found."""
    closed = set()
    for name, convert in CONVERTERS.items():
        try:
            convert("no such value")
        except ValueError as error:
            if str(error).startswith("one of ") and "mapping" not in str(error):
                closed.add(name)
    assert closed == CHOICES.keys()


@pytest.mark.parametrize(("name", "values"), CHOICES.items())
def test_same_choices(name, values):
    """The ``Literal`` of an option lists what its converter takes, and nothing else."""
    with pytest.raises(ValueError, match="one of") as caught:
        CONVERTERS[name]("no such value")
    listed = str(caught.value).removeprefix("one of ").split(", ")
    assert sorted(listed) == sorted(values)


def test_none_is_the_default():
    """None stands for the default of each option of the package."""
    assert all(type(None) in get_args(HINTS[name]) for name in CONVERTERS)
