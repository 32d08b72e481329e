"""Print the lower bounds of a pyproject.toml as pip constraints."""

import re
import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"].values()
for requirement in [*project["dependencies"], *(r for extra in extras for r in extra)]:
    if bound := re.match(r"([\w-]+)(?:\[[\w,-]+\])?>=([\w.]+)(?:,<\d+)?$", requirement):
        sys.stdout.write(f"{bound[1]}=={bound[2]}\n")
    elif not requirement.startswith(project["name"]):
        sys.exit(f"{requirement}: no lower bound to test")
