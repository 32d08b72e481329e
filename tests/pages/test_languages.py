"""The Chinese pages show what the English ones do: code, options, errors and limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAIRS = {"README.md": "README.zh-CN.md"} | {
    f"docs/{page.name}": f"docs/zh/{page.name}" for page in ROOT.glob("docs/zh/*.md")
}
FRONT = {"README.md", "docs/index.md"}  # each leads its readers to other pages
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def code(text: str) -> list[tuple[str, str]]:
    """Return the blocks of a page without comments, which are translated."""
    return [
        (language, re.sub(r"(?:^|[ ]+)# .*$", "", block, flags=re.MULTILINE))
        for language, block in FENCE.findall(text)
        if not language.startswith("{")  # directives
    ]


def sections(text: str) -> list[tuple[str, str]]:
    """Return the level of each heading, and the prose below it."""
    parts = re.split(r"^(#+) .*$", FENCE.sub("", text), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def facts(prose: str) -> dict[str, list[str]]:
    """Return code, numbers and names, which are equal in each language."""
    plain = re.sub(r"\]\([^)\s]*\)", "]", prose)
    spans = re.findall(r"`([^`\n]+)`", plain)
    plain = re.sub(r"`[^`\n]+`", "", plain)
    patterns = {
        "quoted": r'"[^"\n]+"',
        "numbers": r"\d(?:[\d.,]*\d)?",
        "names": r"\b(?!AccessKey\b)(?:[A-Z][a-z]+){2,}\b|\bE[A-Z]{2,}\b",
    }
    found = {name: re.findall(p, plain, re.ASCII) for name, p in patterns.items()}
    return {name: sorted(set(f)) for name, f in {"code": spans, **found}.items()}


@pytest.mark.parametrize("page", PAIRS)
def test_code_is_the_same(page):
    """Each block shows the same commands, calls and output, in the same order."""
    assert code(read(PAIRS[page])) == code(read(page))


@pytest.mark.parametrize("page", PAIRS)
def test_sections_hold_the_same_facts(page):
    """Options, commands, quoted messages and numbers are in the same section."""
    here, there = sections(read(page)), sections(read(PAIRS[page]))
    assert [level for level, _ in there] == [level for level, _ in here]
    if page not in FRONT:
        for (_, english), (_, chinese) in zip(here, there, strict=True):
            assert facts(chinese) == facts(english)
            assert chinese.count("\n* ") == english.count("\n* ")


@pytest.mark.parametrize("page", PAIRS)
def test_prose_is_in_the_language_of_the_page(page):
    """A cell, an item or a paragraph that was only copied is a fault."""
    for _, prose in sections(read(PAIRS[page])):
        plain = re.sub(r'`[^`\n]+`|"[^"\n]+"', "", prose)
        assert re.findall(r"(?:\b[a-z]{2,} ){2}[a-z]{2,}", plain, re.ASCII) == []
    prose = "".join(prose for _, prose in sections(read(page)))
    assert set(re.findall("[\u4e00-\u9fff]+", prose)) <= {"中文"}
