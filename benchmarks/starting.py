"""New interpreters: what importing costs, and one small object."""

from __future__ import annotations

from .candidates import Timed, Where, candidate
from .ours import interpreters
from .work import Work

_SIGNED = "x-oss-signature=" + "0" * 300

_HAND = """
import fsspec, requests, attrs
requests.put({url!r}, data=b"x" * {size}).raise_for_status()
"""
_IMPORT = """
import importlib.metadata as metadata, os, sys, types
listed, hidden = metadata.entry_points, os.environ["HIDE"]
def shown():
    found = listed()
    return types.SimpleNamespace(
        select=lambda **by: [e for e in found.select(**by) if e.name != hidden]
    )
metadata.entry_points = shown
import fsspec
found = [name for name in sys.modules if name.startswith("fsspec_osspresigned")]
assert not found, found
from fsspec.registry import known_implementations
assert ("osspresigned" in known_implementations) == (hidden != "osspresigned")
"""


@candidate("hand:bare", verbs={"start"}, note="`python -c pass`")
def bare(work: Work, where: Where) -> Timed:
    """An interpreter that does nothing."""
    del where
    return interpreters("pass", work.count)


@candidate("hand:start", verbs={"start"}, note="`import fsspec, requests, attrs`")
def start(work: Work, where: Where) -> Timed:
    """What our imports cost at least, and the same PUT."""
    url = f"{where.url}/{where.target}/{where.key()}?{_SIGNED}"
    return interpreters(_HAND.format(url=url, size=work.size), work.count)


@candidate("hand:import", verbs={"import"}, note="our entry point is there")
def importing(work: Work, where: Where) -> Timed:
    """`import fsspec` as it is."""
    del where
    return interpreters(_IMPORT, work.count, HIDE="nobody")


@candidate("hand:import-hidden", verbs={"import"}, note="our entry point is hidden")
def importing_hidden(work: Work, where: Where) -> Timed:
    """`import fsspec` where we are not installed."""
    del where
    return interpreters(_IMPORT, work.count, HIDE="osspresigned")
