"""Reads: open files, parallel reads of objects and ranges, downloads to files."""

from __future__ import annotations

import asyncio
import io
import os
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from attrs import define
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
from ..objects.download import AtomicFile, Download, Publisher, is_written_into
from ..objects.lookup import Lookup
from ..objects.ranges import Version, changed
from ..options.target import ObjectOptions
from .arguments import BulkOptions, check_choice, in_turn, object_path
from .callbacks import BlockCopy, SharedCallback
from .destinations import Destination, Match


class PresignedReader(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is untyped
    """File open for reading; fsspec's read cache requests its ranges.

    All ranges are of the version at the time of ``open``: each request requires its
    ETag. If the object was replaced, SourceChangedError is raised.
    """

    cache: Any  # fsspec's cache, which decides about the ranges that are read

    def __init__(self, fs: Any, info: dict[str, Any], **kwargs: Any) -> None:
        self._version = Version.of(info)
        self._cache_options = kwargs.get("cache_options")
        self._pid = os.getpid()
        # number of bytes read in order from the start, and their CRC-64
        self._summed = 0, 0
        super().__init__(fs, info["name"], mode="rb", size=info["size"], **kwargs)
        self.details = info

    def read(self, length: int = -1) -> bytes:
        """Return the next *length* bytes; -1 reads to the end.

        Raises:
            IntegrityError: the whole object was read, and its CRC-64 differs.
        """
        if self._pid != os.getpid() and not self.closed:
            # After a fork, the parent's version and cache may be half changed or
            # locked.
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
        # After a fork, ``client`` is a new client, which shares no connection with the
        # parent.
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

    If GetObject is not granted, the file has the body that this process kept. dask's
    names ``default_cache`` for *cache_type* and ``blocksize`` for *block_size* are
    accepted. An unknown *cache_type* raises ValueError.
    """
    client: Client = filesystem.client
    options = ObjectOptions.from_call(client.options, given, path=path).options
    cache = cache_type or given.get("default_cache") or options.default_cache_type
    if cache is not None:
        check_choice("cache_type", cache, [name for name in caches if name])
    size = block_size or given.get("blocksize") or options.default_block_size
    info = run(_readable_info, client, path)
    if info is None:
        # GetObject is not granted: return the body that this process kept, or raise the
        # error.
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

    If so, a worker thread reads the object. The engine's loop would give up a large
    object, which would then be requested again.
    """

    is_large: bool = False

    async def read(
        self,
        lookup: Lookup,
        path: str,
        start: int | None = None,
        end: int | None = None,
    ) -> bytes:
        """Read like ``Lookup.read``, and note the size if the whole object was read."""
        is_whole = end is None and not start
        in_thread = self.is_large if is_whole else end is None
        data = await lookup.read(path, start, end, in_thread=in_thread)
        if is_whole:
            self.is_large = len(data) > SMALL
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
    data: dict[str, Any] = {}

    async def read(name: str) -> None:
        data[name] = await guess.read(lookup, name, start, end)

    def work(name: str) -> Coroutine[Any, Any, None]:
        return in_turn(large, read, name) if guess.is_large else read(name)

    results = await bulk.run(client, names, work, str)
    if bulk.on_error == "return":
        pairs = zip(names, results, strict=True)
        data |= {name: error for name, error in pairs if error is not None}
    data = {name: data[name] for name in names if name in data}
    is_one = isinstance(match.source, str)
    slashless = [name.rstrip("/") for name in names]
    if is_one and data and slashless == [object_path(client, match.source)]:
        return next(iter(data.values()))
    return data


async def cat_ranges(
    client: Client, paths: Sequence[str], starts: Any, ends: Any, bulk: BulkOptions
) -> list[Any]:
    """Return the bytes of a range of each path; all ranges of a path have one version.

    *starts* and *ends* are one value for all *paths*, or a list with one value for
    each. Lists of different lengths raise ValueError.
    """
    if not isinstance(paths, list | tuple):
        raise TypeError("paths must be a list, with one path for each range")
    lookup, count = Lookup(client), len(paths)
    names = [object_path(client, path, keep_slash=True) for path in paths]
    starts = starts if isinstance(starts, list) else [starts] * count
    ends = ends if isinstance(ends, list) else [ends] * count
    if len(starts) != count or len(ends) != count:
        raise ValueError(f"{count} paths, {len(starts)} starts, {len(ends)} ends")
    several = Counter(names)
    versions = {name: Version() for name in names if several[name] > 1}

    async def work(job: tuple[int, str, int | None, int | None]) -> bytes:
        _, path, start, end = job
        # A range without an end may be large, so a worker thread reads it.
        return await lookup.read(
            path, start, end, versions.get(path), in_thread=end is None
        )

    jobs = list(zip(range(count), names, starts, ends, strict=True))
    return await bulk.run(
        client, jobs, work, lambda job: f"{job[1]}[{job[2]}:{job[3]}] ({job[0]})"
    )


async def get_file(
    filesystem: Any, path: str, local: Any, callback: Callback, given: Mapping[str, Any]
) -> None:
    client: Client = filesystem.client
    ObjectOptions.from_call(client.options, given, path=path)
    shared = SharedCallback(callback)
    if isfilelike(local) or await blocking(is_written_into, local):
        await _pour(filesystem, path, local, shared)
        return
    job = _download(client, path, local, shared)
    if await _run(job, Lookup(client), Publisher()) is None:
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


def _download(
    client: Client,
    path: str,
    local: str,
    callback: SharedCallback,
    turns: asyncio.Semaphore | None = None,
) -> Download:
    file = AtomicFile(local)
    if callback.is_heard:
        return Download(client, path, file, callback.add, callback.set_size, turns)
    return Download(client, path, file, turns=turns)


async def _run(job: Download, lookup: Lookup, publisher: Publisher) -> int | None:
    """Run *job*, publish its file by *publisher*, and return the size in bytes.

    Return None if its path is a directory; nothing is created then.
    """
    try:
        try:
            size = await job.run()
        except PermissionError as error:
            size = await lookup.fill(job, error)
        await publisher.publish(job.file)
    except BaseException as error:
        await job.file.end()
        if isinstance(error, FileNotFoundError) and await lookup.holds(job.path):
            return None
        raise
    return size


async def get(
    filesystem: Any,
    destinations: Sequence[Destination],
    callback: SharedCallback,
    bulk: BulkOptions,
    named: str | None,
) -> None:
    """Download the objects of *destinations*, several at a time; create directories.

    *named* is the destination in the call of ``fs.get``; None for a list. Only this
    destination may be a pipe or a device.
    """
    if callback.is_heard:
        await waiting(callback.expect, len(destinations))
    client, publisher = filesystem.client, Publisher()
    lookup, turns = Lookup(client), asyncio.Semaphore(client.options.connections)

    async def fetch(item: Destination, callback: SharedCallback = callback) -> None:
        path, local = item.path, item.target
        if item.is_directory:
            await blocking(lambda: os.makedirs(local, exist_ok=True))
        elif local == named and await blocking(is_written_into, local):
            await _pour(filesystem, path, local, callback)
        else:
            job = _download(client, path, local, callback, turns)
            await _run(job, lookup, publisher)

    async def fetch_heard(item: Destination) -> None:
        async with callback.of_file(item.path, item.target) as child:
            await fetch(item, child)

    work = fetch_heard if callback.is_heard else fetch
    await bulk.run(client, destinations, work, lambda item: item.path)
