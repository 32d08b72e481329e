"""Check a tag before its release is built: python .ci/release.py TAG ADDRESS."""

import re
import sys
import tomllib
from pathlib import Path

root = Path(__file__).parent.parent
tag, address = sys.argv[1:]
pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
project = pyproject["project"]
version = project["version"]
changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
newest = changes.partition("\n## ")[2].partition("\n")[0]
wrong = []
if tag != f"v{version}":
    wrong.append(f"the tag {tag} is not v{version}, the version of pyproject.toml")
if not re.fullmatch(rf"{re.escape(version)} - \d{{4}}-\d\d-\d\d", newest):
    wrong.append(f"CHANGELOG.md begins with {newest!r}, not with {version} and a date")
if address != project["urls"]["Repository"]:
    wrong.append(f"[project.urls] leads to another repository than {address}")
sys.exit("\n".join(wrong) or 0)
