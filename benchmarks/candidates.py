"""Who takes part: each client of the comparison, by the name it is asked for.

A module of clients decorates one function a client::

    @candidate("boto3", verbs={"put", "multipart"}, checks="CRC-32", needs=("boto3",))
    def boto3(work: Work, where: Where) -> Timed:
        import boto3            # all that is not to be timed: imports, client, URLs
        ...
        return run              # what is timed: a function of no arguments

The function runs in a process of its own, once. Modules import their libraries in
the function only: every module is loaded wherever one candidate runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from itertools import cycle

from attrs import field, frozen

from .work import Work

Timed = Callable[[], None]


class MissingError(Exception):
    """What the candidate needs is not on this machine; the message says what."""


@frozen
class Where:
    """Where the bytes come from and go to.

    Attributes:
        url: Of the sink, no slash at its end: "http://127.0.0.1:40000".
        ca: Path of the certificate authority to trust for https. None: plain http.
        files: Local files to send, as many as the work counts; for a download, none.
            For "small" they lie in one directory, `source`, and nothing else does.
        directory: A directory of this run: downloads go there, and scratch files.
        target: The bucket.
        source: Directory that holds all of `files`, flat.
        closing: Enter what must end after the timed part: servers, pools.
    """

    url: str
    ca: str | None
    files: tuple[str, ...]
    directory: str
    target: str = "examplebucket"
    source: str = ""
    closing: ExitStack = field(factory=ExitStack, eq=False, repr=False)

    def key(self, index: int = 0) -> str:
        """Return the name of the object that `files[index]` becomes."""
        return f"bench/{index:06d}.bin"

    @property
    def download(self) -> str:
        """Path of the local file that a "get" must leave behind."""
        return os.path.join(self.directory, "download.bin")


Prepare = Callable[[Work, Where], Timed]

POOL = 64 << 20


def produce(work: Work, where: Where) -> Callable[[], Iterator[bytes]]:
    """Return the producer of a stream: what every candidate writes, block by block.

    The blocks are made here, outside of time, from the first 64 MiB of the file, and
    come again and again: what is timed is the client. The producer rests `work.pause`
    seconds after each MiB, and once, half-way, `work.stop` seconds. With `work.fresh`
    each block is a new one, which whoever keeps it has to hold.
    """
    with open(where.files[0], "rb") as file:
        data = file.read(min(POOL, work.size))
    pool = [data[at : at + work.block] for at in range(0, len(data), work.block)]
    del data

    def blocks() -> Iterator[bytes]:
        left, rested, half = work.size, work.size, work.size // 2
        stopped = work.stop == 0
        for block in cycle(pool):
            piece = block if len(block) <= left else block[:left]
            if work.fresh:
                piece = bytes(memoryview(piece))
            left -= len(piece)
            yield piece
            if work.pause and rested - left >= 1 << 20:
                time.sleep(work.pause * ((rested - left) >> 20))
                rested = left
            if not stopped and left <= half:
                stopped = True
                time.sleep(work.stop)
            if not left:
                return

    return blocks


def offsets(work: Work) -> list[int]:
    """Return where the ranges of `work.block` bytes begin, spread over the object."""
    return [index * (work.size // work.count) for index in range(work.count)]


@frozen
class Candidate:
    """One client.

    Attributes:
        name: What it is asked for by.
        verbs: The kinds of work it can do.
        prepare: Does what is not timed and gives what is.
        checks: What proves the bytes to it, for the reader of the table.
        needs: Python modules without which it is left out.
        program: Program on PATH without which it is left out. None: needs none.
        note: What a reader should know of how it was set up.
    """

    name: str
    verbs: frozenset[str]
    prepare: Prepare
    checks: str = "none"
    needs: tuple[str, ...] = ()
    program: str | None = None
    note: str = ""

    def missing(self) -> str | None:
        """Say what this machine lacks for it; None if nothing."""
        for name in self.needs:
            if importlib.util.find_spec(name) is None:
                return f"no Python module {name}"
        if self.program is not None and shutil.which(self.program) is None:
            return f"no program {self.program}"
        return None


_known: dict[str, Candidate] = {}


def candidate(
    name: str,
    *,
    verbs: Collection[str],
    checks: str = "none",
    needs: Collection[str] = (),
    program: str | None = None,
    note: str = "",
) -> Callable[[Prepare], Prepare]:
    """Enter the decorated function in the registry.

    Raises:
        ValueError: The name is taken by another function.
    """

    def enter(prepare: Prepare) -> Prepare:
        entry = Candidate(
            name, frozenset(verbs), prepare, checks, tuple(needs), program, note
        )
        if name in _known:
            raise ValueError(f"two candidates are called {name!r}")
        _known[name] = entry
        return prepare

    return enter


def registry() -> dict[str, Candidate]:
    """Load every module of candidates and return them all, ours first."""
    for name in ("ours", "hand", "hand_many", "starting"):
        importlib.import_module(f"{__package__}.{name}")
    peers = importlib.import_module(f"{__package__}.peers")
    for module in sorted(pkgutil.iter_modules(peers.__path__), key=lambda m: m.name):
        importlib.import_module(f"{peers.__name__}.{module.name}")
    return dict(_known)
