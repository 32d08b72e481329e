"""Reads: open files, parallel reads of objects and ranges, downloads to files."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define
from fsspec.caching import caches
from fsspec.callbacks import Callback
from fsspec.utils import isfilelike, stringify_path

from ..client.client import Client
from ..client.express_lane import ExpressLane
from ..client.small_request import Steps
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import run_steps
from ..concurrency.waiting import Future
from ..http.body import SMALL
from ..model import Action
from ..objects import calls
from ..objects.download import SLOW_FILE, AtomicFile, Download, given_up
from ..objects.lookup import Lookup
from ..objects.ranges import MergedRange, Version, merged
from ..objects.reader import PresignedReader
from ..options.object_options import ObjectOptions
from ..units import MIB
from .bulk_options import BulkOptions, check_choice
from .destinations import Destination, Match
from .paths import object_path
from .progress import SharedCallback

if TYPE_CHECKING:
    from ..client.coroutine_calls import GatheredCalls

MERGED = 64 * MIB  # bytes of ranges that become one request


def open_reader(
    filesystem: Any,
    path: str,
    *,
    block_size: int | None = None,
    cache_type: str | None = None,
    cache_options: dict[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Return a file open for reading, which requests ranges of the object.

    Without permission GET, the file reads the body that this process kept in memory.

    ``default_cache`` (dask) is an alias of *cache_type*, ``blocksize`` of *block_size*.
    Other *given* options are only checked.

    Raises:
        FileNotFoundError: the object does not exist, or cannot be checked.
        ValueError: fsspec has no cache of that name.
    """
    client: Client = filesystem.client
    options = ObjectOptions.from_call(client.options, given, path=path).options
    cache = cache_type or given.get("default_cache") or options.default_cache_type
    if cache is not None:
        check_choice("cache_type", cache, [name for name in caches if name])
    size = block_size or given.get("blocksize") or options.default_block_size
    lookup = Lookup(client)
    if not lookup.can_sign(Action.GetObject, path):
        return io.BytesIO(lookup.read(path))
    try:
        info = calls.look(client, path)
    except PermissionError:
        return io.BytesIO(lookup.read(path))  # or raises why it cannot
    return PresignedReader(
        filesystem,
        info,
        block_size=size or "default",
        cache_type=cache or "readahead",
        cache_options=cache_options,
    )


@define(eq=False)
class SizeGuess:
    """Guess whether the next object is large: it is if the last one was.

    A worker thread then reads the object, because an express lane would request a large
    object in vain.
    """

    is_large: bool = False

    def note(self, size: int) -> None:
        """Record the size in bytes of an object that was read."""
        self.is_large = size > SMALL

    def read_steps(
        self,
        lookup: Lookup,
        path: str,
        start: int | None = None,
        end: int | None = None,
    ) -> Steps[bytes]:
        """Do ``Lookup.read_steps``, which knows the size of most ranges beforehand."""
        is_known = _has_known_size(start, end)
        if self.is_large and not is_known:
            yield None
        data = yield from lookup.read_steps(path, start, end)
        if not is_known:
            self.note(len(data))
        return data

    def start(
        self,
        calls: GatheredCalls,
        lookup: Lookup,
        path: str,
        start: int | None = None,
        end: int | None = None,
    ) -> Future[Any] | None:
        """Start ``read_steps`` in *calls*; return None if a worker thread must do it."""
        is_known = _has_known_size(start, end)
        size = (end or 0) - (start or 0) if is_known else 0
        if size > SMALL or (self.is_large and not is_known):
            return None
        return calls.start(lambda: self.read_steps(lookup, path, start, end))


def _has_known_size(start: int | None, end: int | None) -> bool:
    """Return whether *start* and *end* limit the number of bytes to read."""
    return end is not None or (start or 0) < 0


def cat(
    client: Client,
    match: Match,
    how: BulkOptions,
    start: int | None = None,
    end: int | None = None,
    **_: Any,
) -> Any:
    """Return the bytes of the only object of *match*, or path -> bytes of several."""
    names, lookup, guess = match.files, Lookup(client), SizeGuess()

    def work(name: str, _: Cancellation) -> Steps[tuple[str, bytes]]:
        return name, (yield from guess.read_steps(lookup, name, start, end))

    done = how.run(client, names, work, str, ExpressLane(client, most=how.most))
    if how.on_error == "return":
        pairs = zip(names, done, strict=True)
        done = [(n, d) if isinstance(d, Exception) else d for n, d in pairs]
    data = dict(done)
    is_one = isinstance(match.source, str)
    if is_one and data and names == [object_path(client, match.source)]:
        return next(iter(data.values()))
    return data


def cat_ranges(
    client: Client,
    paths: Sequence[str],
    starts: Any,
    ends: Any,
    max_gap: int | None,
    how: BulkOptions,
) -> list[Any]:
    """Return the bytes of many ranges; close ranges of one object are merged."""
    if not isinstance(paths, list | tuple):
        raise TypeError("paths must be a list, with one path for each range")
    lookup = Lookup(client)
    names = [object_path(client, path) for path in paths]
    jobs = merged(names, starts, ends, max_gap, MERGED)

    count = Counter(job.path for job in jobs)
    versions = {path: Version() for path in count if count[path] > 1}

    def work(job: MergedRange, _: Cancellation) -> Steps[bytes]:
        version = versions.get(job.path)
        return (yield from lookup.read_steps(job.path, job.start, job.stop, version))

    def name(job: MergedRange) -> str:
        return f"{job.path}[{job.start}:{job.stop}] ({job.pieces[0].index})"

    done = how.run(client, jobs, work, name, ExpressLane(client, most=how.most))
    found: list[Any] = [b""] * len(paths)
    for job, data in zip(jobs, done, strict=True):
        whole = isinstance(data, Exception) or len(job.pieces) == 1
        pieces = [(p.index, data) for p in job.pieces] if whole else job.cut(data)
        for index, piece in pieces:
            found[index] = piece
    return found


def get_file(
    filesystem: Any, path: str, local: Any, callback: Callback, given: Mapping[str, Any]
) -> None:
    """Download one object into a file or file object; a directory is created locally."""
    client: Client = filesystem.client
    ObjectOptions.from_call(client.options, given, path=path)
    told = SharedCallback(callback)
    if isfilelike(local):
        with open_reader(filesystem, path) as source:
            _pour(path, source, local, told, Cancellation())
        return
    place = os.fspath(stringify_path(local))
    if run_steps(download_steps(filesystem, path, place, told)) is None:
        os.makedirs(place, exist_ok=True)


def _pour(
    path: str, source: Any, target: Any, told: SharedCallback, cancel: Cancellation
) -> int:
    """Copy the open object *source* to *target* block by block; return its size."""
    size = 0
    told.set_size(getattr(source, "size", None))
    while block := source.read(MIB):
        if cancel.is_set():
            raise given_up(path)
        target.write(block)
        told.add(len(block))
        size += len(block)
    return size


def _is_written_into(place: str) -> bool:
    """Return whether *place* is a device or a pipe, which must not be replaced."""
    try:
        mode = os.stat(place).st_mode
    except OSError:
        return False
    # What stands for an open file is one of those as well, as /dev/stdout and /dev/fd/1.
    parent = os.path.realpath(os.path.dirname(os.path.abspath(place)))
    is_open = parent == "/dev" or parent.startswith("/proc/")
    return not stat.S_ISDIR(mode) and (is_open or not stat.S_ISREG(mode))


def download_steps(
    filesystem: Any,
    path: str,
    local: str,
    told: SharedCallback,
    cancel: Cancellation | None = None,
    *,
    may_be_pipe: bool = True,
) -> Steps[int | None]:
    """Download one object into *local*, and return its size in bytes.

    Returns None for a directory, which is not created. Without *may_be_pipe*, a pipe or
    device at *local* raises FileExistsError and is not opened.
    """
    client: Client = filesystem.client
    file, lookup, cancel = AtomicFile(local), Lookup(client), Cancellation(cancel)
    heard = {"on_size": told.set_size, "progress": told.add} if told.is_heard else {}
    try:
        if _is_written_into(local):
            if not may_be_pipe:
                msg = "a pipe or device is in the place of the file: remove it"
                raise FileExistsError(errno.EEXIST, msg, local)
            yield None
            with open_reader(filesystem, path) as source, open(local, "wb") as target:
                return _pour(path, source, target, told, cancel)
        download = Download(client, path, file, cancel, **heard)
        size = yield from lookup.download_steps(download)
        file.publish()
    except FileNotFoundError:
        yield None
        if not lookup.holds(path):
            raise
        return None
    finally:
        file.discard()
    return size


def get(
    filesystem: Any,
    destinations: Sequence[Destination],
    told: SharedCallback,
    how: BulkOptions,
    named: str | None,
) -> None:
    """Download objects, several at a time, and create local directories for them.

    *named* is the destination that the caller named, so it may be a pipe or device.
    """
    told.expect(len(destinations))
    client, guess = filesystem.client, SizeGuess()

    def work(one: Destination, cancel: Cancellation) -> Steps[None]:
        if guess.is_large:
            yield None
        with told.of_file(one.path, one.target) as child:
            if one.is_directory:
                os.makedirs(one.target, exist_ok=True)
            else:
                size = yield from download_steps(
                    filesystem,
                    one.path,
                    one.target,
                    child,
                    cancel,
                    may_be_pipe=one.target == named,
                )
                guess.note(size or 0)

    driver = ExpressLane(client, SLOW_FILE, how.most)
    how.run(client, destinations, work, lambda one: one.path, driver)
