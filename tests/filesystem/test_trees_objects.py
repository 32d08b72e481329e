"""Names of objects become local files, or are refused before anything is written."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.filesystem.destinations import (
    Destination,
    refuse_clashes,
    refuse_escapes,
)


@pytest.mark.parametrize(
    "name",
    ["../x", "d/../../x", "..", "d/..", "a\0b"],
)
def test_names_that_leave_the_directory_are_refused(name):
    """Names of objects cannot lead outside of the destination directory."""
    going = [Destination("b/ok", "/home/ok"), Destination(f"b/{name}", f"/home/{name}")]
    with pytest.raises(ConfigurationError, match="get it alone") as caught:
        refuse_escapes(going, "/home/")
    assert "ok" not in str(caught.value)


def test_two_objects_for_one_place_are_refused():
    """Two objects for one file are refused, because one of them would be lost."""
    going = [Destination("b/d/x", "/home/x"), Destination("b//d/x", "/home//x")]
    refuse_clashes(going)
    with pytest.raises(ConfigurationError, match="would both be"):
        refuse_clashes(going, local=True)
    many = [Destination(f"b/{n}", "b/same") for n in range(30)]
    with pytest.raises(ConfigurationError, match="and 9 more") as caught:
        refuse_clashes(many)
    assert len(caught.value.problems) == 21
    refuse_clashes([Destination("b/x", "t"), Destination("b/x", "t")])
    refuse_clashes(
        [Destination("b/x", "t"), Destination("b/x/", "t", is_directory=True)]
    )
