"""docs/security.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
CITED = sorted(set(re.findall(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "name"), CITED)
def test_what_shows_a_claim_exists(file, name):
    """Whoever doubts a sentence of the page can run its test."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert (
        name in names
        if name
        else any(n.startswith("test_") for n in names) or (file == "tests/canary.py")
    )


def test_page_is_not_empty_of_tests():
    """A change of its form must not let all claims go unchecked."""
    assert len(CITED) > 30
