"""The verbs of fsspec, each said in the words of the engine, once.

A verb is written as a plain method that runs in the caller's thread, so that Ctrl-C
ends it and a running event loop does not matter; its coroutine, for zarr and rsync, is
the same method in a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn, ParamSpec, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import stringify_path

from . import local_tree, objects
from .errors import NotSignedError
from .instances import EngineFileSystem
from .model import Action, Receipt
from .object_options import ObjectOptions
from .reader import PresignedReader
from .sending import Sending
from .view import View

P = ParamSpec("P")
T = TypeVar("T")


def _twin(verb: Callable[P, T], pool: str = "files") -> Callable[P, Any]:
    """Return the coroutine of a verb: the verb in a worker of the client."""

    async def coroutine(*args: P.args, **kwargs: P.kwargs) -> T:
        filesystem: Any = args[0]
        workers = getattr(filesystem.client, pool)
        return await asyncio.wrap_future(workers.submit(verb, *args, **kwargs))

    coroutine.__name__ = f"_{verb.__name__}"
    coroutine.__doc__ = f"Run ``{verb.__name__}`` in a worker."
    return coroutine


class OSSPresignedFileSystem(EngineFileSystem):
    """Objects of Alibaba Cloud OSS, reached through presigned URLs.

    Paths are ``bucket/key``. The storage options are those of
    :class:`fsspec_osspresigned.options.Options`; exactly one of ``url``, ``url_map``
    and ``signer`` says where signatures come from (a map may stand before a signer).

    Raises:
        ConfigurationError: with every problem of the options.
    """

    @property
    def _view(self) -> View:
        return View(self.client)

    # -- writing ------------------------------------------------------------------------

    def pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> Receipt:
        """Store *value* and return the receipt.

        Args:
            path: ``bucket/key``.
            value: any buffer of bytes; must not change meanwhile.
            mode: ``create`` refuses to replace an object.
            kwargs: options of the object, such as ``content_type``.
        """
        return Sending(self.client, kwargs, mode).value(self._path(path), value)

    _pipe_file = _twin(pipe_file)

    def pipe(
        self,
        path: Any,
        value: Any = None,
        batch_size: int | None = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> list[Receipt]:
        """Store one value, or a mapping of paths to values, several at once.

        The first failure stops the rest; nothing runs any more when this ends.

        Raises:
            UploadErrors: several values failed.
        """
        given = {path: value} if isinstance(path, str) else dict(path)
        pairs = [(self._path(one), data) for one, data in given.items()]
        return Sending(self.client, kwargs, mode).values(pairs, batch_size)

    _pipe = _twin(pipe, "trees")

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> Receipt | None:
        """Store one local file and return the receipt; None for a directory.

        Args:
            lpath: the file; one without a size (a pipe) is stored as a stream.
            rpath: ``bucket/key``.
            callback: told the bytes.
            mode: ``create`` refuses to replace an object.
            kwargs: options of the object, such as ``content_type``.

        Raises:
            SourceChangedError: the file changed meanwhile; nothing was published.
        """
        sending = Sending(self.client, kwargs, mode)
        return sending.file(lpath, self._path(rpath), callback)

    _put_file = _twin(put_file)

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> list[Receipt]:
        """Store local files, several at once, and return their receipts.

        The layout is fsspec's where listing is signed; else slashes alone decide: a
        destination with a trailing slash is a directory. The first failure stops the
        rest; nothing runs any more when this returns or raises.

        Args:
            lpath: a file, a directory (with *recursive*), a pattern, or several.
            rpath: ``bucket/key``, or a list as long.
            recursive: whether directories are walked.
            callback: told the files; its branches are told the bytes.
            batch_size: files at once; None for ``max_concurrency``.
            maxdepth: levels of directories; None for all.
            mode: ``create`` refuses to replace an object.
            kwargs: options of every object.

        Raises:
            UploadErrors: several files failed.
        """
        pairs = local_tree.pairs(
            lpath,
            _without_protocol(rpath),
            recursive=recursive,
            maxdepth=maxdepth,
            is_directory=self._view.shows_directory,
        )
        sending = Sending(self.client, kwargs, mode)
        named = ((local, self._path(path)) for local, path in pairs)
        return sending.files(named, callback, batch_size)

    _put = _twin(put, "trees")

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Store an empty object; *truncate* False never replaces one.

        Raises:
            FileExistsError: not *truncate*, and the object is there.
        """
        self.pipe_file(path, b"", mode="overwrite" if truncate else "create", **kwargs)

    _touch = _twin(touch)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy one object inside the store, where that is signed.

        Raises:
            FileNotFoundError: *path1* is not there, or cannot be seen.
            PermissionError: copying is not signed.
        """
        target = Sending(self.client, kwargs).target(self._path(path2))
        self._view.copy(self._path(path1), target)

    _cp_file = _twin(cp_file)

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Remember a directory: OSS has none, so nothing is sent."""
        del create_parents, kwargs
        self.client.known.make_directory(self._path(path))

    _mkdir = _twin(mkdir)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Remember a directory: OSS has none, so nothing is sent."""
        del exist_ok
        self.mkdir(path)

    _makedirs = _twin(makedirs)

    def rmdir(self, path: str) -> None:
        """Forget a directory that was made: OSS has none, so nothing is sent."""
        self.client.known.forget_directory(self._path(path))

    # -- files --------------------------------------------------------------------------

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open an object.

        Writing publishes the object as a whole when the file is closed, and only if
        what was written is complete: an exception that leaves a ``with`` block, also
        through text and compression, publishes nothing.

        Args:
            path: ``bucket/key``.
            mode: ``rb``, ``wb``, ``xb`` (never replaces), or ``r``, ``w``, ``x``.
            block_size: of the read cache in bytes; for writing see ``part_size``.
            cache_options: of the read cache.
            compression: a name that fsspec knows, ``infer``, or None.
            kwargs: options of the object; ``encoding``, ``errors``, ``newline``.

        Raises:
            ValueError: another mode; objects cannot be changed in place.
        """
        if mode.replace("b", "").replace("t", "") == "r":
            return super().open(
                path,
                mode,
                block_size=block_size,
                cache_options=cache_options,
                compression=compression,
                **kwargs,
            )
        text = {}
        if "b" not in mode:
            names = ("encoding", "errors", "newline")
            text = {name: kwargs.pop(name) for name in names if name in kwargs}
        autocommit = kwargs.pop("autocommit", not self._intrans)
        file = Sending(self.client, kwargs, _write_mode(mode)).open(
            self._path(path),
            binary="b" in mode,
            codec=compression,
            text=text,
            autocommit=autocommit,
        )
        if not autocommit:
            self.transaction.files.append(file)
        return file

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        path = self._path(path)
        if mode == "rb":
            return self._reader(path, block_size, cache_options, kwargs)
        return Sending(self.client, kwargs, _write_mode(mode)).open(
            path, binary=True, codec=None, text={}, autocommit=autocommit
        )

    def _reader(
        self,
        path: str,
        block_size: int | None,
        cache_options: dict[str, Any] | None,
        given: Mapping[str, Any],
    ) -> Any:
        """Return a file that reads by ranges where GET and HEAD are signed."""
        ObjectOptions.of(self._options, given, path=path)
        if self._view.sees(Action.GetObject, path):
            with contextlib.suppress(NotSignedError):
                return PresignedReader(
                    self,
                    self.client,
                    path,
                    block_size=block_size or "default",
                    cache_type=given.get("cache_type", "readahead"),
                    cache_options=cache_options,
                    size=objects.head(self.client, path)["size"],
                )
        return io.BytesIO(self._view.read(path))

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> NoReturn:
        """Refuse: files here are blocking; use ``_pipe_file`` and ``_cat_file``."""
        del kwargs
        msg = (
            f"{path} cannot be opened with mode {mode!r} as an asynchronous file: use "
            "fs.open in a thread, or await fs._pipe_file / fs._cat_file"
        )
        raise NotImplementedError(msg)

    # -- looking, as view.py answers ------------------------------------------------------

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size, type and what else is known of an object or directory.

        Where nobody signs HEAD, what this process wrote is answered from memory, and
        everything else is "missing", with a warning, or an error (``unknown=``).

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        return self._view.info(self._path(path))

    _info = _twin(info)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """Return what lies directly in a directory; raises as :meth:`info`."""
        found = self._view.ls(self._path(path))
        return found if detail else [item["name"] for item in found]

    _ls = _twin(ls)

    def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **_: Any,
    ) -> Any:
        """Return all objects under *path*: names, or with *detail* name to ``info``.

        Raises:
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        if maxdepth is not None and maxdepth < 1:
            msg = "maxdepth must be at least 1"
            raise ValueError(msg)
        path = self._path(path)
        found = self._view.find(path, maxdepth=maxdepth, withdirs=withdirs)
        return found if detail else list(found)

    _find = _twin(find)

    def created(self, path: str) -> datetime:
        """Return when an object was stored."""
        info = self.info(path)
        found = info.get("LastModified")
        return found or datetime.fromtimestamp(info["created"], UTC)

    def modified(self, path: str) -> datetime:
        """Return when an object was stored: objects are never changed in place."""
        return self.created(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Do nothing: no listing is cached."""

    # -- reading and removing -------------------------------------------------------------

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

    _cat_file = _twin(cat_file)

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        **_: Any,
    ) -> None:
        """Fetch one object into a local file, which is replaced only when complete."""
        path, view = self._path(rpath), self._view
        local = os.fspath(stringify_path(lpath))
        looks = view.sees(Action.HeadObject, path)
        looks = looks or not view.sees(Action.GetObject, path)
        info = view.info(path) if looks else {"type": "file", "size": None}
        if info["type"] == "directory":
            os.makedirs(local, exist_ok=True)
            return
        parent = os.path.dirname(os.path.abspath(local))
        os.makedirs(parent, exist_ok=True)
        callback.set_size(info["size"])
        partial = os.path.join(parent, f".osspresigned-{secrets.token_hex(8)}")
        try:
            with open(partial, "x+b") as file:
                view.fetch(path, file)
                size = file.tell()
            os.replace(partial, local)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise
        callback.relative_update(size)

    _get_file = _twin(get_file)

    def rm_file(self, path: str) -> None:
        """Delete one object.

        Raises:
            PermissionError: nobody signs that, and this process wrote the object.
            FileNotFoundError: nobody signs that, and the object cannot be seen.
        """
        self._view.remove(self._path(path))

    _rm_file = _twin(rm_file)


def _write_mode(mode: str) -> str:
    """Return how an object is stored that is opened with *mode*."""
    kind = mode.replace("b", "", 1).replace("t", "", 1)
    if kind not in ("w", "x"):
        msg = (
            f"mode {mode!r}: an object cannot be changed in place; write a new one "
            "with 'wb' or 'xb'"
        )
        raise ValueError(msg)
    return "create" if kind == "x" else "overwrite"


def _without_protocol(path: Any) -> Any:
    """Strip the protocol only: for ``put`` a trailing slash has a meaning."""
    if isinstance(path, str | os.PathLike):
        text = str(stringify_path(path))
        return text.removeprefix(f"{OSSPresignedFileSystem.protocol}://")
    return [_without_protocol(one) for one in path]
