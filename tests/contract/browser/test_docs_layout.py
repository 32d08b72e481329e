"""The documentation in a real Chromium: nothing is hidden at the side of a page."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]  # sixty pages, twice

ROOT = Path(__file__).parents[3]
WIDE, PHONE = 1280, 390  # pixels
# What moves sideways, by how many pixels, and whether its first column stays in sight.
MOVES = """
const page = document.documentElement;
const found = [];
if (page.scrollWidth > page.clientWidth)
  found.push(["page", page.scrollWidth - page.clientWidth, false]);
for (const box of document.querySelectorAll("article *")) {
  const over = box.scrollWidth - box.clientWidth;
  if (over < 2 || !["auto", "scroll"].includes(getComputedStyle(box).overflowX)) continue;
  box.scrollLeft = over;
  const edge = box.getBoundingClientRect().left;
  const first = [...box.querySelectorAll("tr > :first-child")];
  const stays = first.length > 0
    && first.every(cell => cell.getBoundingClientRect().left >= edge - 4);
  found.push([box.tagName + " " + box.textContent.trim().slice(0, 40), over, stays]);
}
return found;
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages as HTML."""
    if importlib.util.find_spec("furo") is None:
        missing = pytest.fail if os.environ.get("ALL_BROWSER") else pytest.skip
        missing("sphinx and furo are missing: they are in the group docs")
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", str(place)]
    subprocess.run(command, cwd=ROOT, check=True)
    return place


@pytest.mark.parametrize("width", [WIDE, PHONE])
def test_nothing_is_hidden_at_the_side(chromium, site, width):
    """Pages, code and tables fit; on a phone a table may move if its names stay."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    hidden = []
    pages = sorted(site.rglob("*.html"))
    for page in pages:
        chromium.get(page.as_uri())
        for what, over, stays in chromium.execute_script(MOVES):
            if width == WIDE or not stays:
                hidden.append(f"{page.relative_to(site)}: {what}: {over} px")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(pages) > 50
    assert hidden == []
