"""Reads: open files, parallel reads of objects and ranges, downloads to files."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import define, evolve
from fsspec.caching import caches
from fsspec.callbacks import Callback
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import isfilelike

from ..client.client import Client
from ..compat import Stream
from ..engine.engine import blocking, run, waiting
from ..http.body import SMALL
from ..http.checksums import crc64
from ..model import Action
from ..objects import reading
from ..objects.download import AtomicFile, Download
from ..objects.lookup import Lookup
from ..objects.ranges import MergedRange, Version, changed, merged
from ..options.target import ObjectOptions
from ..units import MIB
from .arguments import BulkOptions, check_choice, object_path
from .callbacks import BlockCopy, SharedCallback
from .destinations import Destination, Match

_MAX_MERGED = 64 * MIB  # bytes of ranges that become one request


class PresignedReader(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is untyped
    """File open for reading, of which fsspec's read cache requests ranges.

    All ranges are of the version at the time of ``open``: each request requires its
    ETag. If the object was replaced, SourceChangedError is raised.
    """

    cache: Any  # of fsspec, in whose steps the object is read

    def __init__(self, fs: Any, info: dict[str, Any], **kwargs: Any) -> None:
        self._version = Version.of(info)
        self._cache_options = kwargs.get("cache_options")
        self._pid = os.getpid()
        self._summed = 0, 0  # bytes from the start that were read, and their CRC-64
        super().__init__(fs, info["name"], mode="rb", size=info["size"], **kwargs)
        self.details = info

    def read(self, length: int = -1) -> bytes:
        """Return the next *length* bytes; -1 reads to the end.

        Raises:
            IntegrityError: the whole object was read, and its CRC-64 differs.
        """
        if self._pid != os.getpid() and not self.closed:
            # Version and cache of the parent of a fork may be half changed or locked.
            self._version = Version.of(self.details)
            options = self._cache_options or {}
            kind = type(self.cache)
            self.cache = kind(self.blocksize, self._fetch_range, self.size, **options)
            self._pid = os.getpid()
        start = self.loc
        data: bytes = super().read(length)
        count, crc = self._summed
        if start <= count < start + len(data):
            crc = crc64(memoryview(data)[count - start :], crc)
            self._summed = start + len(data), crc
            if start + len(data) == self.size:
                reading.check_whole(self.details["crc64"], crc, self.path)
        return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        # After a fork it is another client: no connection is shared with the parent.
        return run(reading.read, self.fs.client, self.path, start, end, self._version)

    def __reduce__(self) -> Any:
        options = {
            "block_size": self.blocksize,
            "cache_type": self.cache.name,
            "cache_options": self._cache_options,
        }
        return _reopen, (self.fs, self.path, self.loc, self.details["ETag"], options)


def _reopen(
    fs: Any, path: str, position: int, etag: str, options: dict[str, Any]
) -> Any:
    file = fs.open(path, **options)
    if file.details["ETag"] != etag:
        raise changed(path)
    file.seek(position)
    return file


def open_reader(
    filesystem: Any,
    path: str,
    *,
    block_size: int | None = None,
    cache_type: str | None = None,
    cache_options: dict[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Return a file open for reading.

    If GetObject is not granted, it is the body that this process has kept. dask writes
    ``default_cache`` for *cache_type*, and ``blocksize`` for *block_size*. An unknown
    *cache_type* raises ValueError.
    """
    client: Client = filesystem.client
    options = ObjectOptions.from_call(client.options, given, path=path).options
    cache = cache_type or given.get("default_cache") or options.default_cache_type
    if cache is not None:
        check_choice("cache_type", cache, [name for name in caches if name])
    size = block_size or given.get("blocksize") or options.default_block_size
    info = run(_readable_info, client, path)
    if info is None:
        # GET is not granted: the body that this process kept, or the error.
        return io.BytesIO(run(Lookup(client).read, path))
    return PresignedReader(
        filesystem,
        info,
        block_size=size or "default",
        cache_type=cache or "readahead",
        cache_options=cache_options,
    )


async def _readable_info(client: Client, path: str) -> dict[str, Any] | None:
    """Return the ``info`` of an object; None if reading the object is not granted."""
    if not await Lookup(client).can_sign(Action.GetObject, path):
        return None
    try:
        return await reading.stat(client, path)
    except PermissionError:
        return None


@define(eq=False)
class SizeGuess:
    """Guess whether the next object is large, from the size of the last one.

    A worker thread then reads the object. The engine's loop would request it in vain: it
    gives up a large object, which is then requested again.
    """

    is_large: bool = False

    def note(self, size: int) -> None:
        self.is_large = size > SMALL

    async def read(
        self,
        lookup: Lookup,
        path: str,
        start: int | None = None,
        end: int | None = None,
    ) -> bytes:
        """Read like ``Lookup.read``, and note the size if it read to the end."""
        data = await lookup.read(path, start, end, in_thread=self.is_large)
        if end is None and (start or 0) >= 0:
            self.note(len(data))
        return data


async def cat(
    client: Client,
    match: Match,
    bulk: BulkOptions,
    start: int | None = None,
    end: int | None = None,
    **_: Any,
) -> Any:
    names, lookup, guess = match.files, Lookup(client), SizeGuess()
    large = asyncio.Semaphore(client.options.connections)

    async def work(name: str) -> tuple[str, bytes]:
        async with large if guess.is_large else contextlib.nullcontext():
            return name, await guess.read(lookup, name, start, end)

    results = await bulk.run(client, names, work, str)
    if bulk.on_error == "return":
        pairs = zip(names, results, strict=True)
        results = [(n, r) if isinstance(r, Exception) else r for n, r in pairs]
    data = dict(results)
    is_one = isinstance(match.source, str)
    if is_one and data and names == [object_path(client, match.source)]:
        return next(iter(data.values()))
    return data


async def cat_ranges(
    client: Client,
    paths: Sequence[str],
    starts: Any,
    ends: Any,
    max_gap: int | None,
    bulk: BulkOptions,
) -> list[Any]:
    if not isinstance(paths, list | tuple):
        raise TypeError("paths must be a list, with one path for each range")
    lookup = Lookup(client)
    names = [object_path(client, path) for path in paths]
    jobs = merged(names, starts, ends, max_gap, _MAX_MERGED)

    count = Counter(job.path for job in jobs)
    versions = {path: Version() for path in count if count[path] > 1}

    async def work(job: MergedRange) -> bytes:
        version = versions.get(job.path)
        # A range without an end may be large.
        in_thread = job.stop is None
        return await lookup.read(
            job.path, job.start, job.stop, version, in_thread=in_thread
        )

    def name(job: MergedRange) -> str:
        return f"{job.path}[{job.start}:{job.stop}] ({job.pieces[0].index})"

    done = await bulk.run(client, jobs, work, name)
    results: list[Any] = [b""] * len(paths)
    for job, data in zip(jobs, done, strict=True):
        whole = isinstance(data, Exception) or len(job.pieces) == 1
        pieces = [(p.index, data) for p in job.pieces] if whole else job.cut(data)
        for index, piece in pieces:
            results[index] = piece
    return results


async def get_file(
    filesystem: Any, path: str, local: Any, callback: Callback, given: Mapping[str, Any]
) -> None:
    client: Client = filesystem.client
    ObjectOptions.from_call(client.options, given, path=path)
    shared = SharedCallback(callback)
    if isfilelike(local):
        await _pour(filesystem, path, local, shared)
    elif await download(filesystem, path, local, shared) is None:
        await blocking(lambda: os.makedirs(local, exist_ok=True))


async def _pour(
    filesystem: Any, path: str, local: Any, callback: SharedCallback
) -> int:
    """Copy an object into an open file, a pipe or a device; return its size."""
    copying = BlockCopy(path, callback)

    def pour() -> int:
        # The object is opened first, because opening a pipe waits for its reader.
        with open_reader(filesystem, path) as source:
            callback.set_size(getattr(source, "size", None))
            if isfilelike(local):
                return copying.run(source, local)
            with Stream(local, copying.check, writing=True) as sink:
                return copying.run(source, sink)

    return await waiting(pour, stop=copying.stop)


def _is_written_into(place: str) -> bool:
    """Return whether *place* is a device or a pipe, which must not be replaced."""
    try:
        mode = os.stat(place).st_mode
    except OSError:
        return False
    # Names of open files count as well, such as /dev/stdout and /dev/fd/1.
    parent = os.path.realpath(os.path.dirname(os.path.abspath(place)))
    is_open = parent == "/dev" or parent.startswith("/proc/")
    return not stat.S_ISDIR(mode) and (is_open or not stat.S_ISREG(mode))


async def download(
    filesystem: Any,
    path: str,
    local: str,
    callback: SharedCallback,
    *,
    may_be_pipe: bool = True,
    in_thread: bool = True,
) -> int | None:
    """Download an object into *local*, and return its size in bytes.

    Return None if *path* is a directory; it is not created. Without *may_be_pipe*, a
    pipe or device at *local* raises FileExistsError and is not opened. *in_thread* means
    that a worker thread reads, because the object may be large.
    """
    client: Client = filesystem.client
    lookup = Lookup(client)
    if may_be_pipe and await blocking(_is_written_into, local):
        return await _pour(filesystem, path, local, callback)
    file = AtomicFile(local)
    job = Download(client, path, file, in_thread=in_thread)
    if callback.is_heard:
        job = evolve(job, on_size=callback.set_size, heard=callback.add)
    try:
        size = await lookup.download(job)
        await blocking(_publish, file, local)
    except FileNotFoundError:
        if not await lookup.holds(path):
            raise
        return None
    finally:
        await file.end()
    return size


def _publish(file: AtomicFile, local: str) -> None:
    if _is_written_into(local):
        msg = "a pipe or device is in the place of the file: remove it"
        raise FileExistsError(errno.EEXIST, msg, local)
    file.publish()


async def get(
    filesystem: Any,
    destinations: Sequence[Destination],
    callback: SharedCallback,
    bulk: BulkOptions,
    named: str | None,
) -> None:
    """Download the objects of *destinations*, several at a time; create directories.

    *named* is the destination that the caller of ``fs.get`` named, None for a list. Only
    that one may be a pipe or a device.
    """
    if callback.is_heard:
        await waiting(callback.expect, len(destinations))
    client, guess = filesystem.client, SizeGuess()
    large = asyncio.Semaphore(client.options.connections)

    async def work(item: Destination) -> None:
        async with (
            large if guess.is_large else contextlib.nullcontext(),
            callback.of_file(item.path, item.target) as child,
        ):
            if item.is_directory:
                await blocking(lambda: os.makedirs(item.target, exist_ok=True))
                return
            size = await download(
                filesystem,
                item.path,
                item.target,
                child,
                may_be_pipe=item.target == named,
                in_thread=guess.is_large,
            )
            guess.note(size or 0)

    await bulk.run(client, destinations, work, lambda item: item.path)
