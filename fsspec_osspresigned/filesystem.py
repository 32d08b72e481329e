"""The verbs of fsspec, each said in the words of the engine, once.

A verb is written as a plain method that runs in the caller's thread, so that Ctrl-C
ends it and a running event loop does not matter; its coroutine, for zarr and rsync, is
the same method in a worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
import os
import stat
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from glob import has_magic
from typing import Any, NoReturn, ParamSpec, TypeVar

import fsspec
from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.compression import compr
from fsspec.core import get_compression
from fsspec.implementations.local import (
    LocalFileSystem,
    make_path_posix,
    trailing_sep,
)
from fsspec.utils import other_paths, stringify_path

from . import objects
from .assembly import client_for
from .body import FileBody, MemoryBody
from .client import Client
from .errors import (
    BlindAnswerWarning,
    NotSignedError,
    ObjectExistsError,
)
from .model import Action, Operation, Receipt, split_path
from .object_options import ObjectOptions
from .options import Options, portable
from .progress import bytes_counter
from .publish import Target
from .reader import PresignedReader
from .transfers import Transfers
from .upload import Upload, upload_source
from .workers import Cancellation
from .writer import ChainedWriter, PresignedWriter, TextWriter

P = ParamSpec("P")
T = TypeVar("T")

_TYPES = mimetypes.MimeTypes(filenames=())  # the same on every machine
_COPY_BLOCK = 1024 * 1024


def _twin(verb: Callable[P, T], pool: str = "files") -> Callable[P, Any]:
    """Return the coroutine of a verb: the verb in a worker of the client."""

    async def coroutine(*args: P.args, **kwargs: P.kwargs) -> T:
        filesystem: Any = args[0]
        workers = getattr(filesystem.client, pool)
        return await asyncio.wrap_future(workers.submit(verb, *args, **kwargs))

    coroutine.__name__ = f"_{verb.__name__}"
    coroutine.__doc__ = f"Run ``{verb.__name__}`` in a worker."
    return coroutine


class OSSPresignedFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec is untyped
    """Objects of Alibaba Cloud OSS, reached through presigned URLs.

    Paths are ``bucket/key``. The storage options are those of
    :class:`fsspec_osspresigned.options.Options`; exactly one of ``url``, ``url_map``
    and ``signer`` says where signatures come from (a map may stand before a signer).

    Raises:
        ConfigurationError: with every problem of the options.
    """

    protocol = "osspresigned"
    root_marker = ""
    cachable = True

    def __init__(self, **storage_options: Any) -> None:
        """Check the options and read what they refer to; nothing is sent."""
        self._options = Options.from_storage_options(storage_options)
        foreign = {
            name: storage_options[name]
            for name in ("asynchronous", "loop", "batch_size", "use_listings_cache")
            if name in storage_options
        }
        super().__init__(**foreign)
        _ = self.client

    # -- instances ----------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The engine of this process; a forked child gets one of its own."""
        pid = os.getpid()
        held: tuple[int, Client] | None = self.__dict__.get("_held_client")
        if held is None or held[0] != pid:
            held = (pid, client_for(self._options, _read_url))
            self.__dict__["_held_client"] = held
        return held[1]

    @property
    def loop(self) -> Any:
        """The event loop of this process; fsspec would refuse after a fork."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        return self._loop

    @property
    def fsid(self) -> str:
        """A name that equal options share."""
        return f"osspresigned-{self._fs_token}"

    @property
    def storage_options(self) -> dict[str, Any]:
        """The options that make this filesystem again anywhere on this machine."""
        return self._storage_options

    @storage_options.setter
    def storage_options(self, given: Mapping[str, Any]) -> None:
        self._storage_options = portable(given)

    def __reduce__(self) -> Any:
        """Pickle by options, unless they would spell out a secret."""
        self._options.check_portable()
        return super().__reduce__()

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return the options, unless they would spell out a secret."""
        self._options.check_portable()
        return dict(super().to_dict(include_password=include_password))

    def to_json(self, *, include_password: bool = True) -> str:
        """Return the options, unless they would spell out a secret."""
        self._options.check_portable()
        return str(super().to_json(include_password=include_password))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        text = str(stringify_path(path))
        return text.removeprefix(f"{cls.protocol}://").rstrip("/")

    # -- writing ------------------------------------------------------------------------

    def _target(self, path: str, given: dict[str, Any], *, exclusive: bool) -> Target:
        """Return what to store where; *given* are the options of this call."""
        wanted = ObjectOptions.of(self._options, given, path=path)
        guessed, coding = _TYPES.guess_type(path.rpartition("/")[2])
        if coding is not None:
            guessed = "application/gzip" if coding == "gzip" else None
        return wanted.target(path, guessed=guessed, exclusive=exclusive)

    def _refuse_existing(self, target: Target) -> None:
        """Raise early if an exclusive object is there, where HEAD is signed.

        The server's own check at the end decides; this one spares the bytes.
        """
        if not target.exclusive:
            return
        try:
            objects.head(self.client, target.path)
        except (FileNotFoundError, PermissionError):
            return
        msg = "the object is already there"
        raise ObjectExistsError(msg, path=target.path)

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
        exclusive = _is_create(mode)
        target = self._target(self._strip_protocol(path), kwargs, exclusive=exclusive)
        self._refuse_existing(target)
        return upload_source(self.client, target, MemoryBody.of(value))

    _pipe_file = _twin(pipe_file)

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
        cancel = kwargs.pop("cancel", None)
        lock = kwargs.pop("lock", None) or threading.Lock()
        local = os.fspath(stringify_path(lpath))
        path = self._strip_protocol(rpath)
        kind = os.stat(local).st_mode
        if stat.S_ISDIR(kind):
            self.makedirs(path, exist_ok=True)
            return None
        target = self._target(path, kwargs, exclusive=_is_create(mode))
        self._refuse_existing(target)
        if not stat.S_ISREG(kind):
            return self._put_stream(local, target, callback, lock)
        body = FileBody.of(local)
        progress = bytes_counter(callback, body.size, lock)
        return upload_source(
            self.client, target, body, progress=progress, cancel=cancel
        )

    _put_file = _twin(put_file)

    def _put_stream(
        self, local: str, target: Target, callback: Callback, lock: threading.Lock
    ) -> Receipt | None:
        with open(local, "rb") as source, self._writer(target) as sink:
            while block := source.read(_COPY_BLOCK):
                sink.write(block)
                with lock:
                    callback.relative_update(len(block))
        return sink.receipt

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> list[Receipt]:
        """Store local files, several at once, and return their receipts.

        The layout is fsspec's where HEAD and listing are signed; else slashes alone
        decide: a destination with a trailing slash is a directory. The first failure
        stops the rest; nothing runs any more when this returns or raises.

        Args:
            lpath: a file, a directory (with *recursive*), a pattern, or a list.
            rpath: ``bucket/key``, or a list as long.
            recursive: whether directories are walked.
            callback: told the files; its branches are told the bytes.
            batch_size: files at once; None for ``max_concurrency``.
            maxdepth: levels of directories; None for all.
            kwargs: options of every object.

        Raises:
            UploadErrors: several files failed.
        """
        pairs = self._pairs(lpath, rpath, recursive=recursive, maxdepth=maxdepth)
        files = []
        for local, remote in pairs:
            if os.path.isdir(local):
                self.makedirs(remote, exist_ok=True)
            else:
                files.append((local, remote))
        lock = threading.Lock()
        callback.set_size(len(files))

        def work(pair: tuple[str, str], cancel: Cancellation) -> Receipt | None:
            with lock:
                child = callback.branched(*pair)
            with child:
                done = self.put_file(
                    *pair, callback=child, cancel=cancel, lock=lock, **kwargs
                )
            with lock:
                callback.relative_update(1)
            return done

        width = self._width(batch_size, len(files))
        run = Transfers(self.client.files, width, work, lambda pair: str(pair[1]))
        return [receipt for receipt in run.run(files) if receipt is not None]

    _put = _twin(put, "trees")

    def _pairs(
        self, lpath: Any, rpath: Any, *, recursive: bool, maxdepth: int | None
    ) -> Iterator[tuple[str, str]]:
        if isinstance(lpath, list) and isinstance(rpath, list):
            if len(lpath) != len(rpath):
                msg = f"{len(lpath)} sources for {len(rpath)} destinations"
                raise ValueError(msg)
            yield from zip(lpath, self._strip_protocol(rpath), strict=True)
            return
        one = not isinstance(lpath, list)
        local = LocalFileSystem()
        source = make_path_posix(stringify_path(lpath)) if one else lpath
        found = local.expand_path(source, recursive=recursive, maxdepth=maxdepth)
        if one and (not recursive or maxdepth is not None):
            found = [p for p in found if not (trailing_sep(p) or local.isdir(p))]
        if not found:
            return
        into = isinstance(rpath, str) and (
            trailing_sep(rpath) or self._is_visible_directory(rpath)
        )
        magic = one and has_magic(source)
        exists = one and (
            (magic and len(found) == 1)
            or (not magic and into and not trailing_sep(source))
        )
        stripped = self._strip_protocol(rpath)
        yield from zip(
            found, other_paths(found, stripped, exists=exists, flatten=not one),
            strict=True,
        )

    def _is_visible_directory(self, path: str) -> bool:
        """Return whether the store shows a directory; False where it cannot look."""
        bucket, key = split_path(self._strip_protocol(path))
        try:
            found = objects.listing(self.client, bucket, f"{key}/" if key else "")
            return next(found, None) is not None
        except NotSignedError:
            return False

    def pipe(self, path: Any, value: Any = None, **kwargs: Any) -> list[Receipt]:
        """Store one value, or a mapping of paths to values, several at once."""
        batch_size = kwargs.pop("batch_size", None)
        pairs = {path: value} if isinstance(path, str) else dict(path)

        def work(pair: tuple[str, Any], cancel: Cancellation) -> Receipt:
            del cancel  # a value in memory is short
            return self.pipe_file(*pair, **kwargs)

        width = self._width(batch_size, len(pairs))
        run = Transfers(self.client.files, width, work, lambda pair: str(pair[0]))
        return run.run(list(pairs.items()))

    _pipe = _twin(pipe, "trees")

    def _width(self, batch_size: int | None, jobs: int) -> int:
        most = self._options.max_concurrency
        wanted = most if batch_size in (None, -1) else int(batch_size or 1)
        return max(1, min(wanted, most, jobs))

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Store an empty object; *truncate* False never replaces one.

        Raises:
            FileExistsError: not *truncate*, and the object is there.
        """
        self.pipe_file(path, b"", mode="overwrite" if truncate else "create", **kwargs)

    _touch = _twin(touch)

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Remember a directory: OSS has none, so nothing is sent."""
        del create_parents, kwargs
        self.client.known.make_directory(self._strip_protocol(path))

    _mkdir = _twin(mkdir)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Remember a directory: OSS has none, so nothing is sent."""
        del exist_ok
        self.mkdir(path)

    _makedirs = _twin(makedirs)

    def rmdir(self, path: str) -> None:
        """Do nothing: OSS has no directories."""

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
        stripped = self._strip_protocol(path)
        names = ("encoding", "errors", "newline")
        text = {name: kwargs.pop(name) for name in names if name in kwargs}
        autocommit = kwargs.pop("autocommit", not self._intrans)
        binary = mode.replace("t", "").replace("b", "") + "b"
        raw = self._open(stripped, binary, autocommit=autocommit, **kwargs)
        file: Any = raw
        if compression is not None:
            codec = compr[get_compression(stripped, compression)]
            file = ChainedWriter(codec(raw, mode="w"), raw)
        if "b" not in mode:
            file = TextWriter(file, **text)
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
        if mode == "rb":
            return self._reader(path, block_size, cache_options, kwargs)
        if mode not in ("wb", "xb"):
            msg = (
                f"mode {mode!r}: an object cannot be changed in place; write a new one "
                "with 'wb' or 'xb'"
            )
            raise ValueError(msg)
        target = self._target(path, kwargs, exclusive=mode == "xb")
        self._refuse_existing(target)
        return self._writer(target, autocommit=autocommit)

    def _writer(self, target: Target, *, autocommit: bool = True) -> PresignedWriter:
        return PresignedWriter(
            Upload(self.client, target),
            path=target.path,
            autocommit=autocommit,
            publish_always=self._options.on_exception == "publish",
        )

    def _reader(
        self,
        path: str,
        block_size: int | None,
        cache_options: dict[str, Any] | None,
        given: dict[str, Any],
    ) -> Any:
        cache = {"cache_type": given.get("cache_type", "readahead")}
        info = self.info(path)
        if self._sees(Action.GetObject, path):
            return PresignedReader(
                self,
                self.client,
                path,
                block_size=block_size or "default",
                cache_options=cache_options,
                size=info["size"],
                **cache,
            )
        import io  # noqa: PLC0415 - rare

        return io.BytesIO(self.cat_file(path))

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> NoReturn:
        """Refuse: files here are blocking; use ``_pipe_file`` and ``_cat_file``."""
        del kwargs
        msg = (
            f"{path} cannot be opened with mode {mode!r} as an asynchronous file: use "
            "fs.open in a thread, or await fs._pipe_file / fs._cat_file"
        )
        raise NotImplementedError(msg)

    # -- looking ------------------------------------------------------------------------

    def _sees(self, action: Action, path: str) -> bool:
        bucket, key = split_path(path)
        return self.client.can_sign(Operation(action=action, bucket=bucket, key=key))

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return name, size, type and what else is known of an object or directory.

        Where nobody signs HEAD, what this process wrote is answered from memory, and
        everything else is "missing", with a warning, or an error (``unknown=``).

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        del kwargs
        path = self._strip_protocol(path)
        directory = {"name": path, "size": 0, "type": "directory"}
        bucket, key = split_path(path)
        if not key and (not path or bucket != path or not self._options.url):
            return directory
        try:
            return objects.head(self.client, path)
        except NotSignedError:
            pass
        except FileNotFoundError:
            try:
                next(objects.listing(self.client, bucket, f"{key}/"))
            except StopIteration:
                pass
            except NotSignedError:
                if self.client.known.is_directory(path):
                    return directory
            else:
                return directory
            raise
        if own := self.client.known.object(path):
            return own.info()
        if self.client.known.is_directory(path):
            return directory
        return self._blind(path)

    _info = _twin(info)

    def _blind(self, path: str) -> NoReturn:
        """Answer about what nobody can see.

        Raises:
            FileNotFoundError: always, after one warning per bucket; or
            PermissionError: with ``unknown="error"``.
        """
        if self._options.unknown == "error":
            msg = "nobody signs looking at objects, so whether it is there is unknown"
            raise NotSignedError(msg, path=path, action=Action.HeadObject)
        root = split_path(path)[0]
        if self.client.known.warn_once(root):
            text = (
                f"what is in {root!r} cannot be seen with what is signed; objects that "
                "this process did not write count as missing (unknown='error' refuses)"
            )
            warnings.warn(text, BlindAnswerWarning, stacklevel=3)
        raise FileNotFoundError(2, "not there, or not to be seen", path)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        """Return what lies directly in a directory.

        Raises:
            FileNotFoundError: nothing is there, or it cannot be seen.
        """
        del kwargs
        path = self._strip_protocol(path)
        bucket, key = split_path(path)
        found: list[dict[str, Any]] = []
        try:
            prefix = f"{key}/" if key else ""
            found = [
                item
                for item in objects.listing(self.client, bucket, prefix)
                if item["name"] != f"{path}/"
            ]
            if not found and key:
                found = [objects.head(self.client, path)]
        except NotSignedError:
            found = list(self.client.known.below(path))
            if not found:
                own = self.client.known.object(path)
                if own is not None:
                    found = [own.info()]
                elif not self.client.known.is_directory(path):
                    self._blind(path)
        return found if detail else [item["name"] for item in found]

    _ls = _twin(ls)

    def created(self, path: str) -> Any:
        """Return when an object was stored."""
        info = self.info(path)
        return info.get("created") or info.get("LastModified")

    def modified(self, path: str) -> Any:
        """Return when an object was stored: objects are never changed in place."""
        return self.created(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Do nothing: no listing is cached."""

    # -- reading ------------------------------------------------------------------------

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return an object, or its bytes *start* to *end* (exclusive).

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: this process wrote it, but nobody signs GET and its body
                was too large to be kept.
        """
        path = self._strip_protocol(path)
        try:
            return objects.read(self.client, path, start, end)
        except NotSignedError as error:
            body = self.client.known.body(path)
            if body is not None:
                return body[start:end]
            if self.client.known.object(path) is not None:
                msg = "it was written here, but reading is not signed"
                raise NotSignedError(
                    msg, path=path, action=Action.GetObject
                ) from error
        return self._blind(path)

    _cat_file = _twin(cat_file)

    def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        **kwargs: Any,
    ) -> None:
        """Fetch one object into a local file, which is replaced only when complete."""
        del kwargs
        path = self._strip_protocol(rpath)
        local = os.fspath(stringify_path(lpath))
        if os.path.isdir(local):
            return
        info = self.info(path)
        if info["type"] == "directory":
            os.makedirs(local, exist_ok=True)
            return
        parent = os.path.dirname(os.path.abspath(local))
        os.makedirs(parent, exist_ok=True)
        callback.set_size(info["size"])
        handle, name = tempfile.mkstemp(dir=parent, prefix=".osspresigned-")
        try:
            with os.fdopen(handle, "w+b") as file:
                if self._sees(Action.GetObject, path):
                    objects.download(self.client, path, file)
                else:
                    file.write(self.cat_file(path))
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, local)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        callback.relative_update(info["size"])

    _get_file = _twin(get_file)

    # -- removing -----------------------------------------------------------------------

    def rm_file(self, path: str) -> None:
        """Delete one object.

        Raises:
            PermissionError: nobody signs that, and this process wrote the object.
            FileNotFoundError: nobody signs that, and the object cannot be seen.
        """
        path = self._strip_protocol(path)
        try:
            objects.delete(self.client, path)
        except NotSignedError:
            known = self.client.known
            if known.object(path) is not None or known.is_directory(path):
                raise
            self._blind(path)
        self.client.known.forget(path)

    _rm_file = _twin(rm_file)


def _is_create(mode: str) -> bool:
    if mode not in ("overwrite", "create"):
        msg = f"mode must be 'overwrite' or 'create', not {mode!r}"
        raise ValueError(msg)
    return mode == "create"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_url(place: str) -> bytes:
    """Read a URL map through whatever filesystem fsspec has for it."""
    with fsspec.open(place, "rb") as file:
        return bytes(file.read())
