"""The two walks of docs/architecture.md name modules and functions that exist."""

from __future__ import annotations

import operator
import re
from importlib import import_module
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
WALKS = PAGE.partition("## Two uploads step by step")[2].partition("\n## ")[0]


def test_functions_of_the_walks_exist():
    """Each step names a module and the function at which to begin reading."""
    steps = re.findall(r"^\d\. `([\w/]+)` \(`([\w.]+)`\)", WALKS, re.MULTILINE)
    assert len(steps) == 13
    for module, name in steps:
        found = import_module(f"fsspec_osspresigned.{module.replace('/', '.')}")
        assert callable(operator.attrgetter(name)(found))
