"""A release: one address in all files, and a README whose links work on an index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / ".github").exists():
    pytest.skip("a source distribution has no workflows", allow_module_level=True)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
ADDRESS = PROJECT["urls"]["Repository"]
SITE = PROJECT["urls"]["Documentation"]
SKIPPED = {".git", ".venv", "_build", "__pycache__", "node_modules", "dist"}


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text("utf-8")


# -- address and version ------------------------------------------------------------------


def test_one_address():
    """Every address of the project is one of ``[project.urls]``; the site follows them."""
    owner, name = ADDRESS.split("/")[-2:]
    assert f"https://{owner}.github.io/{name}/" == SITE
    others = PROJECT["urls"].items() - {("Documentation", SITE)}
    assert all(url.startswith(ADDRESS) for _, url in others)
    address = re.compile(
        r"https?://[\w.]+/[\w.-]+/fsspec-osspresigned(?![\w.-])"
        r"|https?://[\w-]+\.github\.io/[\w-]*/?"
    )
    found = {}
    for path in ROOT.rglob("*"):
        ours = path.suffix in {".md", ".py", ".toml", ".yaml", ".yml", ".svg", ".html"}
        if ours and path.is_file() and not SKIPPED & set(path.parts):
            for url in address.findall(path.read_text("utf-8")):
                found.setdefault(url, path.relative_to(ROOT).as_posix())
    found.pop("https://pypi.org/p/fsspec-osspresigned")  # of the release workflow
    assert found.keys() == {ADDRESS, SITE}, found


def test_links_of_the_readme_lead_to_the_tag():
    """No link stays relative: pages lead to the site, other files to the tag."""
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join(read(fragment["path"]) for fragment in hook["fragments"])
    for change in hook["substitutions"]:
        assert ADDRESS in change["replacement"] or SITE in change["replacement"]
        text = re.sub(change["pattern"], change["replacement"], text)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)]*)\)", prose)
    assert [t for t in targets if not t.startswith(("https://", "#"))] == []
    assert f"![The demo shows who does what, and ends with a table of thirteen objects, each verified.]({ADDRESS}/raw/v$HFPR_VERSION/docs/screens/demo.svg)" in prose  # fmt: skip
    assert f"[changes]({ADDRESS}/blob/v$HFPR_VERSION/CHANGELOG.md)" in prose
    assert f"[Options]({SITE}options.html)" in prose
