"""docs/screens shows what the commands print, and no secret."""

from __future__ import annotations

import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SCREENS = DOCS / "screens"
NAMES = sorted(file.stem for file in SCREENS.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
# Text that differs between machines or releases of dependencies.
VERSIONS = re.compile(r"(python: CPython|(?:fsspec|requests|pycurl|attrs|fastcrc):) .*")


@pytest.fixture(scope="module")
def screenshots() -> ModuleType:
    """The script that draws them."""
    specification = importlib.util.spec_from_file_location(
        "screenshots", DOCS / "screenshots.py"
    )
    module = importlib.util.module_from_spec(specification)
    sys.modules["screenshots"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["screenshots"]


def shown(svg: str) -> list[str]:
    """Return the lines of a screen, from top to bottom."""
    lines: dict[float, str] = {}
    for text in ET.fromstring(svg).iter(f"{SVG}text"):  # noqa: S314 - our own
        if "clip-path" in text.attrib:  # all but the title
            y, x = float(text.get("y")), round(float(text.get("x")) / 12.2)
            line = lines.get(y, "")
            lines[y] = f"{line:<{x}}{text.text.replace(chr(160), ' ')}"
    return [lines[y].rstrip() for y in sorted(lines)]


def loose(lines: list[str]) -> list[str]:
    """Return *lines* without what depends on what is installed."""
    kept = [VERSIONS.sub(r"\1", line) for line in lines]
    kept = [re.sub(r" +[\d,]+ │|[0-9a-f]{16} │", " N │", line) for line in kept]
    return [line for line in kept if "optional packages" not in line]


@pytest.mark.parametrize(
    "text",
    ["?x-oss-signature=abc", "a" * 64, "Signature=", "Zm9yIGEgdGVzdCBvbmx5IQ/abcd="],
)
def test_a_secret_is_not_drawn(screenshots, text):
    """Text that looks like a secret stops the drawing, and is not repeated."""
    with pytest.raises(ValueError, match="look like a secret") as refused:
        screenshots.drawn("help", f"first\n{text}\n")
    assert text not in str(refused.value)


def test_a_place_of_this_machine_is_not_drawn(screenshots):
    """A warning that names a file of Python's stops the drawing."""
    with pytest.raises(ValueError, match="where Python is"):
        screenshots.drawn("help", f"{sys.prefix}/lib/some.py:1: UserWarning\n")


@pytest.mark.slow
@pytest.mark.timeout(300)  # the demo starts workers, and a busy machine takes its time
@pytest.mark.skipif(
    not Path("/bin/bash").exists(), reason="bash types the commands of the pictures"
)
@pytest.mark.parametrize("name", NAMES)
def test_screen_is_what_the_commands_print(screenshots, tmp_path, monkeypatch, name):
    """Drawn again it is the same, apart from versions."""
    monkeypatch.setattr(screenshots, "SCREENS", tmp_path)
    assert screenshots.main([name]) == 0
    anew, kept = (
        (place / f"{name}.svg").read_text(encoding="utf-8")
        for place in (tmp_path, SCREENS)
    )
    assert loose(shown(anew)) == loose(shown(kept))
