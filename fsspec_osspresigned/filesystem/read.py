"""The verbs of fsspec that read: ranges, many objects at once, local files."""

from __future__ import annotations

import io
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK, Callback, NoOpCallback
from fsspec.utils import isfilelike, stringify_path

from ..concurrency.workers import ON_ERROR, Cancellation, Transfers
from ..model import Action
from ..options.object_options import ObjectOptions
from ..units import MIB
from .base import twin
from .look import LookingFileSystem

if TYPE_CHECKING:
    from ..objects.ranges import Merged
    from .trees import Going


T = TypeVar("T")

_MOST_MERGED = 64 * MIB  # bytes of ranges that are read at once


class ReadingFileSystem(LookingFileSystem):
    """What can be read of objects, whoever wrote them."""

    def _reader(
        self,
        path: str,
        block_size: int | None,
        cache_options: dict[str, Any] | None,
        given: Mapping[str, Any],
    ) -> Any:
        """Return a file that reads by ranges where GET is signed."""
        from ..objects import operations  # noqa: PLC0415 - only for what is read
        from ..objects.reader import PresignedReader  # noqa: PLC0415 - likewise

        ObjectOptions.of(self._options, given, path=path)
        if not self._view.sees(Action.GetObject, path):
            return io.BytesIO(self._view.read(path))
        try:
            info = operations.look(self.client, path)
        except PermissionError:
            return io.BytesIO(self._view.read(path))  # or says why it cannot
        return PresignedReader(
            self,
            self.client,
            info,
            block_size=block_size or "default",
            cache_type=given.get("cache_type") or "readahead",
            cache_options=cache_options,
        )

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return an object, or its bytes *start* to *end* (exclusive).

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: this process wrote it, but nobody signs GET and its body
                was too large to be kept.
        """
        return self._view.read(self._path(path), start, end)

    _cat_file = twin(cat_file)

    def cat(
        self,
        path: Any,
        recursive: bool = False,
        on_error: str = "raise",
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return the bytes of one object, or path to bytes of several, read at once.

        Args:
            path: a path, a pattern, or several.
            recursive: whether directories are walked.
            on_error: ``raise``; ``omit`` what fails; or ``return`` the exception in its
                place.
            batch_size: objects at once; None for ``max_concurrency``.
            kwargs: ``start`` and ``end``, as for :meth:`cat_file`.

        Raises:
            UploadErrors: several could not be read.
        """
        _check_on_error(on_error, ON_ERROR)
        names = self._expanded(path, recursive=recursive, maxdepth=None).files

        def work(name: str, _: Cancellation) -> tuple[str, bytes]:
            return name, self.cat_file(name, **kwargs)

        several = not isinstance(path, str) or names != [self._path(path)]
        done = self._at_once(names, work, str, batch_size, on_error=on_error)
        if on_error == "return":
            pairs = zip(names, done, strict=True)
            done = [(n, d) if isinstance(d, Exception) else d for n, d in pairs]
        data = dict(done)
        return data if several or not data else next(iter(data.values()))

    _cat = twin(cat, "trees")

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Return the bytes of many ranges, read at once.

        Args:
            paths: an object for each range.
            starts: where they begin, as for :meth:`cat_file`; one for all, or a list.
            ends: where they end.
            max_gap: ranges of one object so many bytes apart become one request; None
                for none.
            batch_size: requests at once; None for ``max_concurrency``.
            on_error: ``return`` an exception in the place of the bytes, or ``raise``.

        Raises:
            UploadErrors: several could not be read, and *on_error* says so.
        """
        from ..objects.ranges import (  # noqa: PLC0415 - only for what is read
            cut,
            planned,
        )

        _check_on_error(on_error, ("return", "raise"))
        if not isinstance(paths, list | tuple):
            msg = "paths must be a list, with one path for each range"
            raise TypeError(msg)
        names = [self._path(path) for path in paths]
        jobs = planned(names, starts, ends, max_gap, _MOST_MERGED)

        def work(job: Merged, _: Cancellation) -> bytes:
            return self.cat_file(job.path, job.start, job.stop)

        done = self._at_once(
            jobs,
            work,
            lambda job: f"{job.path}[{job.start}:{job.stop}] ({job.pieces[0].index})",
            batch_size,
            on_error=on_error,
        )
        found: list[Any] = [b""] * len(paths)
        for job, data in zip(jobs, done, strict=True):
            pieces: list[tuple[int, Any]]
            if isinstance(data, Exception):
                pieces = [(piece.index, data) for piece in job.pieces]
            elif len(job.pieces) == 1:
                pieces = [(job.pieces[0].index, data)]
            else:
                pieces = list(cut(job, data))
            for index, piece in pieces:
                found[index] = piece
        return found

    _cat_ranges = twin(cat_ranges, "trees")

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        **kwargs: Any,
    ) -> None:
        """Fetch one object into a local file, which is replaced only when complete.

        A large object comes in several ranges at once, all of one version; its CRC-64
        is compared with the store's. A directory is made.

        Args:
            rpath: ``bucket/key``.
            lpath: the file, or a file object that is open for writing.
            callback: told the bytes.
            kwargs: what other filesystems take for reading.

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            IntegrityError: what came is not what the store has.
            SourceChangedError: it was replaced meanwhile.
        """
        path = self._path(rpath)
        ObjectOptions.of(self._options, kwargs, path=path)
        if isfilelike(lpath):
            with self._reader(path, None, None, {"cache_type": "readahead"}) as source:
                shutil.copyfileobj(source, lpath)
            return
        local = os.fspath(stringify_path(lpath))
        if not self._fetch(path, local, callback, threading.Lock(), None):
            os.makedirs(local, exist_ok=True)

    _get_file = twin(get_file)

    def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> None:
        """Fetch objects into local files, several at once.

        The layout is fsspec's. Nothing is written if the name of an object leads out of
        *lpath*, or two objects would become one file. The first failure stops the
        rest; nothing runs any more when this returns or raises.

        Args:
            rpath: an object, a directory (with *recursive*), a pattern, or several.
            lpath: a file or directory, or a list as long as that of *rpath*.
            recursive: whether directories are walked.
            callback: told the files; its branches are told the bytes.
            maxdepth: levels of directories; None for all.
            batch_size: files at once; None for ``max_concurrency``.
            on_error: ``raise``, or go on: ``omit``, ``return``.
            kwargs: what other filesystems take for reading.

        Raises:
            ConfigurationError: such names, before anything is written.
            UploadErrors: several could not be fetched.
        """
        _check_on_error(on_error, ON_ERROR)
        ObjectOptions.of(self._options, kwargs, path=str(rpath))
        going = self._going(rpath, lpath, recursive=recursive, maxdepth=maxdepth)
        lock = threading.Lock()
        callback.set_size(len(going))

        def work(one: Going, cancel: Cancellation) -> None:
            with lock:
                child = callback.branched(one.path, one.target)
            with child:
                if one.is_directory:
                    os.makedirs(one.target, exist_ok=True)
                else:
                    self._fetch(one.path, one.target, child, lock, cancel)
            with lock:
                callback.relative_update(1)

        self._at_once(going, work, lambda one: one.path, batch_size, on_error=on_error)

    _get = twin(get, "trees")

    def _going(
        self, rpath: Any, lpath: Any, *, recursive: bool, maxdepth: int | None
    ) -> list[Going]:
        """Return which object ``get`` puts where, if that does no harm."""
        from . import trees  # noqa: PLC0415 - only for trees

        if not isinstance(rpath, str) and isinstance(lpath, list | tuple):
            paths = [self._path(path) for path in rpath]
            going = trees.paired(paths, [trees.local_path(local) for local in lpath])
        else:
            meant = self._expanded(rpath, recursive=recursive, maxdepth=maxdepth)
            if isinstance(rpath, str) and (not recursive or maxdepth is not None):
                meant = meant.only_files()
            place = trees.local_path(lpath)
            going = meant.destinations(place, is_directory=os.path.isdir)
            trees.refuse_escapes(going, place)
        trees.refuse_clashes(going, local=True)
        return going

    def _fetch(
        self,
        path: str,
        local: str,
        callback: Callback,
        lock: threading.Lock,
        cancel: Cancellation | None,
    ) -> bool:
        """Fetch one object; return False for a directory, of which nothing is made."""
        from ..objects.download import (  # noqa: PLC0415 - only for what is fetched
            Fetching,
            PartialFile,
        )

        quiet = callback is DEFAULT_CALLBACK or isinstance(callback, NoOpCallback)

        def told(size: int | None) -> None:
            with lock:
                callback.set_size(size)

        def progress(done: int) -> None:
            with lock:
                callback.relative_update(done)

        file = PartialFile(local)
        fetching = Fetching(
            self.client,
            path,
            file,
            cancel=cancel,
            progress=None if quiet else progress,
            told=told,
        )
        try:
            self._view.fetch(fetching)
            file.publish()
        except FileNotFoundError:
            file.discard()
            if self._view.holds(path):
                return False
            raise
        except BaseException:
            file.discard()
            raise
        return True

    def _at_once(
        self,
        jobs: Sequence[T],
        work: Callable[[T, Cancellation], Any],
        name: Callable[[T], str],
        batch_size: int | None,
        *,
        on_error: str = "raise",
    ) -> list[Any]:
        """Do *jobs*, several at once; nothing runs any more at the end."""
        most = self.client.options.max_concurrency
        wanted = most if batch_size in (None, -1) else int(batch_size or 1)
        width = max(1, min(wanted, most, len(jobs)))
        pool = self.client.files
        return Transfers(pool, width, work, name, on_error=on_error).outcomes(jobs)


def _check_on_error(given: str, allowed: Iterable[str]) -> None:
    if given not in allowed:
        msg = f"on_error must be one of {', '.join(allowed)}, not {given!r}"
        raise ValueError(msg)
