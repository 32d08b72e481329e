"""Names of objects become local files, or are refused before anything is written."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.filesystem.trees import (
    Going,
    Meant,
    paired,
    refuse_clashes,
    refuse_escapes,
)


@pytest.mark.parametrize(
    "name",
    ["../x", "d/../../x", "..", "d/..", "a\0b"],
)
@pytest.mark.parametrize("windows", [False, True])
def test_names_that_leave_the_directory_are_refused(name, windows):
    """Whoever names objects must not choose places on this machine."""
    going = [Going("b/ok", "/home/ok"), Going(f"b/{name}", f"/home/{name}")]
    with pytest.raises(ConfigurationError, match="get it alone") as caught:
        refuse_escapes(going, "/home/", windows=windows)
    assert "ok" not in str(caught.value)


@pytest.mark.parametrize("name", ["C:/x", "d/c:x", "C:\\x", "..\\x", "d\\..\\..\\x"])
def test_names_that_only_windows_reads_so_are_refused_there(name):
    """A drive letter or a backslash is part of a name elsewhere."""
    going = [Going(f"b/{name}", f"C:/home/{name}")]
    refuse_escapes(going, "C:/home", windows=False)
    with pytest.raises(ConfigurationError):
        refuse_escapes(going, "C:/home", windows=True)


@pytest.mark.parametrize("name", ["...", "a..b", "..a", "/x", "//x/y", "co:lon", "a b"])
def test_odd_names_stay_inside(name):
    """Dots inside of a name, and slashes at its beginning, lead nowhere else."""
    refuse_escapes([Going(f"b/{name}", f"/home/{name}")], "/home", windows=False)


def test_two_objects_for_one_place_are_refused():
    """One of them would be lost, and nobody would know which."""
    going = [Going("b/d/x", "/home/x"), Going("b//d/x", "/home//x")]
    refuse_clashes(going)
    with pytest.raises(ConfigurationError, match="would both be"):
        refuse_clashes(going, local=True)
    many = [Going(f"b/{n}", "b/same") for n in range(30)]
    with pytest.raises(ConfigurationError, match="and 9 more") as caught:
        refuse_clashes(many)
    assert len(caught.value.problems) == 21
    refuse_clashes([Going("b/x", "t"), Going("b/x", "t")])
    refuse_clashes([Going("b/x", "t"), Going("b/x/", "t", is_directory=True)])


def test_nothing_goes_nowhere():
    """Without names there are no destinations."""
    assert Meant("b/*", {}, True).destinations("t", is_directory=bool) == []
    with pytest.raises(ValueError, match="2 sources for 1"):
        paired(["a", "b"], ["c"])
