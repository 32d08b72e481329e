"""Ways to send a file in parts, side by side, and what this machine can do at most.

    python -m benchmarks.experiments [--size MIB] [--rounds N]

Each way sends the same parts of 8 MiB over the same eight connections to the discarding
server, by nothing but system calls: what differs is how the bytes come to the socket,
and whether the CRC-64 is computed of them. Ways take turns; figures are medians.

The last line is a proof: a process that sums up a mapped file, which somebody makes
shorter meanwhile.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastcrc import crc64

from .data import Data
from .sink import Sink
from .work import KIB, MIB, Work

PART, WIDTH, BLOCK = 8 * MIB, 8, 256 * KIB
Send = Callable[[socket.socket, int, int, int], None]

_CUT = """
import mmap, os, sys, tempfile
from fastcrc import crc64
with tempfile.TemporaryFile() as file:
    file.truncate(1 << 20)
    mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    file.truncate(4096)
    try:
        crc64.xz(mapped)
    except BaseException:
        sys.exit("an exception: it could be caught")
"""


def read(block: int, *, crc: bool) -> Send:
    """Return what reads into one buffer a part, again and again, and sends that."""

    def send(link: socket.socket, file: int, start: int, stop: int) -> None:
        buffer, total = memoryview(bytearray(block)), 0
        while start < stop:
            count = os.preadv(file, [buffer[: stop - start]], start)
            if crc:
                total = crc64.xz(buffer[:count], total)
            link.sendall(buffer[:count])
            start += count

    return send


def mapped(*, crc: bool) -> Send:
    """Return what sends out of the page cache's own pages."""

    def send(link: socket.socket, file: int, start: int, stop: int) -> None:
        with (
            mmap.mmap(
                file, stop - start, access=mmap.ACCESS_READ, offset=start
            ) as pages,
            memoryview(pages) as view,
        ):
            if not crc:
                link.sendall(view)
                return
            total = 0
            for at in range(0, len(view), BLOCK):
                with view[at : at + BLOCK] as piece:
                    total = crc64.xz(piece, total)
                    link.sendall(piece)

    return send


def in_kernel(*, crc: bool) -> Send:
    """Return what lets the kernel send the file, and reads it only to sum it up."""

    def send(link: socket.socket, file: int, start: int, stop: int) -> None:
        buffer, total = memoryview(bytearray(BLOCK)), 0
        while start < stop:
            count = min(BLOCK if crc else PART, stop - start)
            if crc:
                count = os.preadv(file, [buffer[:count]], start)
                total = crc64.xz(buffer[:count], total)
            end = start + count
            while start < end:
                start += os.sendfile(link.fileno(), file, start, end - start)

    return send


WAYS: dict[str, Send] = {
    "mmap": mapped(crc=False),
    "mmap, CRC-64": mapped(crc=True),
    "pread 256 KiB": read(BLOCK, crc=False),
    **{
        f"pread {size // KIB} KiB, CRC-64": read(size, crc=True)
        for size in (128 * KIB, BLOCK, 512 * KIB, MIB)
    },
    "sendfile": in_kernel(crc=False),
    "sendfile, pread for CRC-64": in_kernel(crc=True),
}


def upload(sink: Sink, path: str, send: Send) -> None:
    """Send the file in parts, some at once."""
    local = threading.local()
    links: list[socket.socket] = []

    def one(start: int) -> None:
        if not hasattr(local, "link"):
            local.link = socket.create_connection(("127.0.0.1", sink.port))
            links.append(local.link)
        stop = min(start + PART, size)
        target = f"/examplebucket/one?partNumber={start // PART + 1}&uploadId=one"
        head = f"PUT {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {stop - start}\r\n\r\n"
        local.link.sendall(head.encode())
        send(local.link, file, start, stop)
        if not local.link.recv(4096).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("a part was refused")

    file = os.open(path, os.O_RDONLY)
    size = os.fstat(file).st_size
    with ThreadPoolExecutor(WIDTH) as threads:
        list(threads.map(one, range(0, size, PART)))
    os.close(file)
    for link in links:
        link.close()


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def compare(path: str, rounds: int) -> None:
    """Print what each way takes for a GiB, by turns."""
    size = os.path.getsize(path)
    scale = (1 << 30) / size
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    with Sink() as sink:
        for turn in range(rounds + 1):
            for name, send in WAYS.items():
                sink.reset()
                used, started = _cpu(), time.perf_counter()
                upload(sink, path, send)
                wall = time.perf_counter() - started
                if sink.stats()["bytes"] != size:
                    raise RuntimeError(f"{name}: not all bytes came")
                if turn:  # the first one warms up
                    found[name].append(((_cpu() - used) * scale, wall * scale))
    first = found["mmap"]
    print(f"{'s for 1 GiB':28}{'CPU':>7}{'wall':>7}{'x CPU':>7}{'x wall':>7}")
    for name, runs in found.items():
        cpu, wall = (statistics.median(one[i] for one in runs) for i in (0, 1))
        ratios = [
            statistics.median(a[i] / b[i] for a, b in zip(runs, first, strict=True))
            for i in (0, 1)
        ]
        print(f"{name:28}{cpu:7.2f}{wall:7.2f}{ratios[0]:7.2f}{ratios[1]:7.2f}")


def floors(path: str, rounds: int) -> None:
    """Print how fast one thread does each of what no way can do without."""
    buffer, other = bytearray(BLOCK), bytearray(BLOCK)
    big = memoryview(bytearray(64 * MIB))
    copy = memoryview(bytearray(64 * MIB))
    file = os.open(path, os.O_RDONLY)

    def steps() -> Iterable[tuple[str, int, Callable[[], object]]]:
        yield "copy of 256 KiB, in the cache", BLOCK, lambda: _assign(other, buffer)
        yield "copy of 64 MiB", len(big), lambda: _assign(copy, big)
        yield "pread of 256 KiB", BLOCK, lambda: os.preadv(file, [buffer], BLOCK)
        yield "CRC-64 of 256 KiB, in the cache", BLOCK, lambda: crc64.xz(buffer)
        yield "CRC-64 of 64 MiB", len(big), lambda: crc64.xz(big)

    print("\nGB/s of one thread, of its own processor time; the best of all")
    for name, size, step in steps():
        best = 0.0
        for _ in range(rounds):
            count = max(1, 64 * MIB // size)
            started = time.thread_time()
            for _ in range(count):
                step()
            best = max(best, count * size / (time.thread_time() - started))
        print(f"{name:34}{best / 1e9:6.2f}")
    os.close(file)


def _assign(into: bytearray | memoryview, data: bytearray | memoryview) -> None:
    into[:] = data


def truncated() -> str:
    """Return how a process ends that sums up a mapped file which was made shorter."""
    done = subprocess.run([sys.executable, "-c", _CUT], check=False)
    if done.returncode < 0:
        return f"killed by {signal.Signals(-done.returncode).name}"
    return f"ended with {done.returncode}"


def main() -> None:
    """Compare them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.experiments")
    parser.add_argument("--size", type=int, default=256, help="MiB of the file")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data", type=Path, help="where the file is kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Work("experiment", "put", given.size * MIB)
        data = Data(given.data or Path(scratch))
        path = f"{data.source(work)}/000000.bin"
        data.warm(work)
        compare(path, given.rounds)
        floors(path, given.rounds)
    print(f"\nCRC-64 of a mapped file that somebody makes shorter: {truncated()}")


if __name__ == "__main__":
    main()
