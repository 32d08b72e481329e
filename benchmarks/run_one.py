"""One candidate does one work, once, in this process.

    python -m benchmarks.run_one CANDIDATE WORK WHERE

WORK and WHERE are JSON: the fields of `Work`; and `url`, `ca`, `source`, `directory`.
Prints one line of JSON:

    wall     seconds
    cpu      seconds of processor, user and system, with children that have ended
    rss      bytes by which the resident memory grew at its peak (VmHWM, after a reset of
             the peak just before), or all of the largest child's if that is more
    stats    what the sink counted meanwhile
    size     bytes of what was downloaded ("get" only)
    crc64    its CRC-64, and `stated` what the sink says it is

Importing, opening clients and signing for those who are handed URLs come before the
clock starts. What a child has as its peak is never less than this interpreter: a new
process begins with its parent's.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import statistics
import sys
import time
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import urlsplit

from .candidates import Timed, Where, registry
from .work import MIB, Work

_BATCHES = 7


def main(name: str, work_text: str, where_text: str) -> int:
    """Run it and print what it took."""
    work = Work.from_dict(json.loads(work_text))
    given = json.loads(where_text)
    source = given["source"]
    names = sorted(os.listdir(source)) if source else []
    where = Where(files=tuple(f"{source}/{name}" for name in names), **given)
    if work.memory:
        resource.setrlimit(resource.RLIMIT_AS, (work.memory, work.memory))
    candidate = registry()[name]
    with where.closing:
        timed = candidate.prepare(work, where)
        if work.total:
            _ask(where, "/__reset")
        found = _measured(timed, work)
        # Before anything closes: a client may say goodbye by requests.
        if work.total:
            found["stats"] = json.loads(_ask(where, "/__stats")[1])
        if work.verb == "get":
            found |= _downloaded(where)
    print(json.dumps(found), flush=True)
    return 0


def _measured(timed: Timed, work: Work) -> dict[str, object]:
    gc.collect()
    before, children = _status("VmRSS"), _children()
    _reset_peak()
    used, started = _cpu(), time.perf_counter()
    timed()
    wall = time.perf_counter() - started
    cpu = _cpu() - used
    own = max(0, _status("VmHWM") - before)
    child = _children() if _children() > children else 0
    if work.verb == "sign":
        wall = statistics.median([wall, *(_again(timed) for _ in range(_BATCHES - 1))])
    return {"wall": wall, "cpu": cpu, "rss": max(own, child)}


def _again(timed: Timed) -> float:
    started = time.perf_counter()
    timed()
    return time.perf_counter() - started


def _cpu() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    both = [resource.getrusage(kind) for kind in kinds]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _children() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def _status(name: str) -> int:
    """Return a member of /proc/self/status, bytes; the peak of the life elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return int(lines[name].split()[0]) * 1024


def _reset_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        print("the peak of memory cannot be reset here", file=sys.stderr)


def _ask(
    where: Where, path: str, headers: dict[str, str] | None = None
) -> tuple[dict[str, str], str]:
    netloc = urlsplit(where.url).netloc
    if where.ca:
        import ssl  # noqa: PLC0415 - most works need none

        context = ssl.create_default_context(cafile=where.ca)
        connection: HTTPConnection = HTTPSConnection(netloc, context=context)
    else:
        connection = HTTPConnection(netloc)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    text = response.read().decode("latin-1")
    connection.close()
    return {name.lower(): value for name, value in response.getheaders()}, text


def _downloaded(where: Where) -> dict[str, object]:
    """Return what came, and what the sink says that it is."""
    from fastcrc import crc64  # noqa: PLC0415 - not for those who only send

    size, crc = 0, 0
    with open(where.download, "rb", buffering=0) as file:
        while data := file.read(16 * MIB):
            crc, size = crc64.xz(data, crc), size + len(data)
    os.remove(where.download)
    path = f"/{where.target}/{where.key()}"
    headers, _ = _ask(where, path, {"Range": "bytes=0-0"})
    stated = headers.get("x-oss-hash-crc64ecma")
    return {"size": size, "crc64": crc, "stated": stated and int(stated)}


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:4]))
