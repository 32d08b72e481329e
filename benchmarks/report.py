"""Tables of the page, made from `docs/performance/results.json`.

python -m benchmarks.report     writes them into docs/performance.md
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .clients import OURS
from .work import BEFORE, FEWER, MIB, WORKS

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "performance.md"
RESULTS = DOCS / "performance" / "results.json"
_PACKAGES = ("fsspec-osspresigned", "fsspec", "pycurl", "fastcrc", "obstore", "boto3")
_HEADS = ("work", "time", "processor time", "memory", "Python calls of an object")
_PEERS = ("obstore", "curl", "boto3", BEFORE)


def machine() -> str:
    """Return in one line what the figures are taken on."""
    told = Path("/proc/cpuinfo").read_text()
    model = re.search(r"(?m)^model name\s*: (.*)$", told)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    curl = subprocess.run(
        [shutil.which("curl") or "true", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    versions = [" ".join(curl.stdout.split()[:2])]
    for name in _PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, Linux {platform.release().partition('-')[0]}, "
        f"Python {platform.python_version()}; {', '.join(sorted(versions))}"
    )


def table(found: dict[str, Any]) -> str:
    """Return the table of all works that ran, and what they ran on."""
    rows = {row["name"]: row for row in found["rows"]}
    seen = {name for row in found["rows"] for name in row["clients"]}
    peers = [name for name in _PEERS if name in seen]
    lines = [[*_HEADS, *(f"to {name}" for name in peers)]]
    lines.append(["---"] * len(lines[0]))
    for work in WORKS:
        if work.name not in rows:
            continue
        row = rows[work.name]
        ours = row["clients"][OURS]
        if FEWER in row["clients"]:
            ratio = row["clients"][FEWER]["ratio"]
            title = f"{work.title}: {ratio:.2f} x that with {FEWER}"
        else:
            title = work.title
        lines.append(
            [
                title,
                _time(ours["wall"], ours["count"]),
                _time(ours["cpu"], ours["count"]),
                f"{ours['rss'] / MIB:.0f} MiB",
                str(row.get("calls", "")),
                *(_ratio(row["clients"].get(name)) for name in peers),
            ]
        )
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{text}\n\n{found['machine']}. "
        f"Medians of {found['rounds']} rounds, {found['taken'][:10]}."
    )


def _time(seconds: float, count: int) -> str:
    """Return a time: in all, or of one of many objects."""
    return f"{seconds:.2f} s" if count == 1 else f"{seconds / count * 1000:.3f} ms"


def _ratio(client: dict[str, Any] | None) -> str:
    return "" if client is None else f"{client['ratio']:.2f}"


def filled(page: str, found: dict[str, Any] | None) -> str:
    """Return the text of the page with the table of today; None: nothing was measured."""
    text = "*Not measured.*" if found is None else table(found)
    begin, end = "<!-- begin results -->", "<!-- end results -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def recorded() -> dict[str, Any] | None:
    """Return the results that are kept, or None if there are none."""
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else None


def record(found: dict[str, Any]) -> None:
    """Keep results, and write the page."""
    rows = ",\n".join(json.dumps(row) for row in found["rows"])
    about = {key: value for key, value in found.items() if key != "rows"}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(f'{json.dumps(about)[:-1]}, "rows": [\n{rows}\n]}}\n', "utf-8")
    write()


def write() -> None:
    """Write the page from the results that are kept."""
    PAGE.write_text(filled(PAGE.read_text("utf-8"), recorded()), "utf-8")


if __name__ == "__main__":
    write()
