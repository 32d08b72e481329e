"""curl, the program."""

from __future__ import annotations

import os

from ..candidates import Timed, Where, candidate
from ..work import Work
from .common import signed, spans
from .processes import found, run


@candidate(
    "curl",
    verbs={"put", "small", "get", "ranges"},
    program=found("curl"),
    note="curl -T for one file without Expect; curl -Z --config for many, in one "
    "process; it cannot send a section of a file, hence no parts",
)
def curl(work: Work, where: Where) -> Timed:
    """Send by one process of curl."""
    urls = signed(work, where)
    common = [found("curl"), "-q", "-sS", "--fail-early", "-f", "--http1.1"]
    common += ["-H", "Expect:", *(["--cacert", where.ca] if where.ca else [])]
    parallel = [*common, "-Z", "--parallel-immediate"]
    parallel += ["--parallel-max", str(work.concurrency)]
    listing = os.path.join(where.directory, "curl.txt")
    lines: list[str] = []
    if work.verb == "small":
        for url, path in zip(urls, where.files, strict=True):
            lines += [f'url = "{url}"', f'upload-file = "{path}"']
    elif work.verb == "ranges":
        trust = f'cacert = "{where.ca}"\n' if where.ca else ""
        for start, length in spans(work):
            output = os.path.join(where.directory, f"{start}.range")
            lines += [f'url = "{urls[0]}"', f'output = "{output}"']
            lines += [f'range = "{start}-{start + length - 1}"', "fail", "http1.1"]
            lines += [f"{trust}next"]
        lines.pop()
        lines += [trust.strip()]
    with open(listing, "w", encoding="ascii") as file:
        file.write("\n".join(lines) + "\n")
    commands = {
        "put": [*common, "-T", where.files[0] if where.files else "", urls[0]],
        "small": [*parallel, "--config", listing],
        "get": [*common, "-o", where.download, urls[0]],
        "ranges": [*parallel, "--config", listing],
    }
    environment = {"PATH": os.environ["PATH"], "NO_PROXY": "*"}
    return lambda: run(commands[work.verb], environment)
