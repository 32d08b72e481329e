"""Failures of a verb for many files: raised, returned, left out, or the end of it."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import AccessDeniedError, UploadErrors

ROOT = "examplebucket"


@pytest.mark.parametrize("verb", ["put", "pipe"])
def test_failures_are_returned_in_their_places(blind, owner, tmp_path, verb):
    """With ``return`` every object is tried, and the order is that of the call."""
    names = [f"{n:02}" for n in range(40)]
    bad = {"03", "17", "39"}
    for name in bad:
        owner.oss.faults.add(
            Fault(action="PutObject", key=name, times=None, status=403)
        )
    (tmp_path / "f").write_bytes(b"x")

    def run(on_error):
        if verb == "pipe":
            values = {f"{ROOT}/{name}": b"x" for name in names}
            return blind.pipe(values, on_error=on_error)
        paths = [f"{ROOT}/{name}" for name in names]
        return blind.put([tmp_path / "f"] * 40, paths, on_error=on_error)

    found = run("return")
    assert [one.path for one in found] == [f"{ROOT}/{name}" for name in names]
    failed = [one for one in found if isinstance(one, AccessDeniedError)]
    assert {one.path for one in failed} == {f"{ROOT}/{name}" for name in bad}
    found = run("omit")
    assert [one.path for one in found] == [f"{ROOT}/{n}" for n in names if n not in bad]
    with pytest.raises((AccessDeniedError, UploadErrors)):
        run("raise")
    with pytest.raises(ValueError, match="on_error must be one of raise, omit, return"):
        run("ignore")
