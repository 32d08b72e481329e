"""Class OSSPresignedFileSystem: the methods of fsspec for ``osspresigned://``.

Filesystems with equal options share one client in a process.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import (
    IO,
    TYPE_CHECKING,
    Any,
    BinaryIO,
    TextIO,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)

from fsspec.asyn import AsyncFileSystem, get_loop, reset_lock
from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.spec import AbstractFileSystem
from fsspec.utils import isfilelike, stringify_path

from .. import callers
from ..client.client import Client
from ..client.operations import OSSCalls
from ..compat import at_fork
from ..engine.engine import awaited, run, verb, waiting, with_coroutines
from ..model import Receipt
from ..objects.lookup import Lookup
from ..options.options import Options, hashable, surroundings
from ..options.target import ObjectOptions, Target
from ..options.trust import trust
from ..signers import chosen
from ..upload import transaction
from ..upload.transaction import Transaction
from . import read, trees
from .arguments import (
    PROTOCOL,
    BulkOptions,
    as_text,
    check_depth,
    object_path,
    without_protocol,
)
from .callbacks import SharedCallback
from .client_factory import client_for, configured_options
from .destinations import Destination, local_path, refuse_clashes
from .put import PutCall, progress_callback, write_mode
from .receipts import ReceiptList

if TYPE_CHECKING:
    from typing import Unpack

    from ..options.storage_options import StorageOptions
    from ..signers.base import Permissions
    from .opened import (
        BytesWriter,
        ReadBytes,
        ReadText,
        TextWriter,
        WriteBytes,
        WriteText,
    )

# Older releases of fsspec keep the loop of the parent in a forked child, without its
# thread. Newer ones do this themselves.
at_fork(after_in_child=reset_lock)

MAX_INSTANCES = 256

F = TypeVar("F", bound="OSSPresignedFileSystem")

_KEY = "instance key"  # not an option: because of the blank, no caller can pass it


class _KeyedByValue(type(AsyncFileSystem)):  # type: ignore[misc]  # fsspec is untyped
    """Metaclass: fsspec's instance cache compares options by value, and is bounded.

    fsspec itself compares the ``repr`` of options, which may be equal for different
    objects. Environment variables that a client depends on are compared, too. The cache
    is cleared when it has more than ``MAX_INSTANCES`` instances.
    """

    def __call__(cls: type[F], **storage_options: Any) -> F:
        options = configured_options(cls, storage_options)
        names = (name for name in options if name != "skip_instance_cache")
        values = ((name, hashable(options[name]), _id(options[name])) for name in names)
        key = (surroundings(), *values)
        token = f"{hash(key) % 2**64:016x}"
        if len(cls._cache) > MAX_INSTANCES:
            cls.clear_instance_cache()
        fs: Any = super().__call__(**{**options, _KEY: token})  # type: ignore[misc]
        fs.storage_options.pop(_KEY, None)
        fs.token = token
        return cast("F", fs)


def _id(value: Any) -> int | None:
    """Return the ID of a signer or a callable, because two of them may have equal hashes.

    Return None for other values.
    """
    if not (callable(value) or hasattr(value, "sign")):
        return None
    # each access to a bound method creates a new object
    return id(getattr(value, "__self__", value))


AnyCallback: TypeAlias = Callback | Mapping[str, Any] | None


@with_coroutines
class OSSPresignedFileSystem(AsyncFileSystem, metaclass=_KeyedByValue):  # type: ignore[misc]  # fsspec is untyped
    """Filesystem of objects in Alibaba Cloud OSS, accessed through presigned URLs.

    Paths are ``bucket/key``. The storage options are those of
    :class:`~fsspec_osspresigned.options.options.Options`. Exactly one of
    ``presigned_url``, ``url_map``, ``grant``, ``signer`` and ``upload_server`` gives the source
    of signatures; only a map and a grant may be combined with a signer.

    Equal options return the same instance. If fsspec is older than 2026.9, or with
    ``asynchronous``, each thread has its own instance, and all share one client. A
    forked child opens its own connections.

    Raises:
        ConfigurationError: options are invalid; the message lists all problems.
    """

    protocol = PROTOCOL
    transaction_type = Transaction
    token: str  # the metaclass sets it
    # fsspec compares and hashes this attribute
    _fs_token = property(lambda self: self.token)

    def __init__(self, **storage_options: Unpack[StorageOptions]) -> None:
        given: dict[str, Any] = {**storage_options}
        given.pop(_KEY, None)
        self._options = Options.from_storage_options(given)
        names = ("batch_size", "use_listings_cache")
        known = {n: given[n] for n in names if n in given}
        # With asynchronous=False, fsspec starts a thread for its loop, which few verbs
        # need.
        super().__init__(asynchronous=True, **known)
        self.asynchronous = bool(given.get("asynchronous"))
        self._given_loop = (os.getpid(), given.get("loop"))
        self._clients: dict[int, Client] = {}
        self._size_guess = read.SizeGuess()
        _ = self.client

    @property
    def client(self) -> Client:
        """The client of this process; equal options share it."""
        pid = os.getpid()
        if pid not in self._clients:
            before, client = self._clients, client_for(self._options)
            self._clients = {pid: client}
            for parent in before.values():
                # this process is a fork of the one that created them
                client.written.add_unverified(parent.written.unverified())
        return self._clients[pid]

    @property
    def loop(self) -> Any:
        if self.asynchronous:
            return None
        pid, loop = self._given_loop
        return (loop if pid == os.getpid() else None) or get_loop()

    def __repr__(self) -> str:
        sources = chosen(lambda name: getattr(self._options, name, None))
        return f"<{type(self).__name__}, signatures from {' and '.join(sources)}>"

    @property
    def fsid(self) -> str:
        """An ID of this filesystem that is the same for equal options."""
        return f"osspresigned-{self.token}"

    def __reduce__(self) -> Any:
        """Pickle the class, the options and the unverified prefixes.

        Raises TypeError if the options contain a secret. Loading a pickle is as safe as
        running code, so its options are trusted. A prefix is unverified if the index
        answered for it, because the store could not be asked. Workers that write there
        must not replace objects that are missing in the index.
        """
        self._options.check_portable()
        unverified = self.client.written.unverified()
        return _unpickled, (type(self), dict(self.storage_options), unverified)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Return the options as a dictionary; TypeError if they contain a secret."""
        self._options.check_portable()
        return dict(super().to_dict(include_password=include_password))

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        # fsspec's own code calls this method. A subclass that changes paths overrides
        # ``_path``, too.
        if isinstance(path, list):
            return [cls._strip_protocol(item) for item in path]
        return without_protocol(path).rstrip("/")

    def _path(self, path: Any, *, keep_slash: bool = False) -> str:
        return object_path(self.client, path, keep_slash=keep_slash)

    def _destination(self, source: str, target: str) -> Destination:
        path = self._path(source, keep_slash=True)
        return Destination(path, self._path(target) + "/" * path.endswith("/"))

    def _refuse_held(self, paths: Any, *, recursive: bool = False) -> None:
        """Raise ConfigurationError if the transaction has an object of *paths*."""
        names = [paths] if isinstance(paths, str | os.PathLike) else paths
        transaction.refuse_held(
            self.client, map(self._path, names), recursive=recursive
        )

    @verb
    async def permissions(self) -> Permissions:
        """Return the permissions of the token for ``signer="https://..."``; asks each time.

        Raises:
            ConfigurationError: signatures come from another source.
            SignerError: the service is unreachable, refuses the token, or has no such call.
        """
        return await awaited(waiting, self.client.signer.permissions)

    @property
    def transaction(self) -> Transaction:
        """The transaction of this context, or a new one if there is none.

        ``with fs.transaction`` publishes everything that the block wrote when the block
        ends. After an exception in the block, nothing is published. Writes of the
        program's other threads are not part of the transaction. Filesystems with equal
        options share it.
        """
        return transaction.current(self.client) or Transaction(self.client)

    def start_transaction(self) -> Transaction:
        """Begin a transaction in this context; see ``end_transaction``."""
        begun = self.transaction
        begun.start()
        return begun

    def end_transaction(self) -> None:
        """Publish everything that this context wrote since ``start_transaction``.

        Raises RuntimeError if none was started, and otherwise like
        ``Transaction.complete``.
        """
        current = transaction.current(self.client)
        if current is None:
            raise RuntimeError("no transaction was begun here")
        current.complete()

    # -- writing ------------------------------------------------------------------------
    # A verb is written once, as a coroutine function: its own code runs in the thread of
    # the caller, what it awaits on the engine's loop.

    def _call(self, given: Mapping[str, Any], mode: str = "overwrite") -> PutCall:
        client = self.client
        return PutCall.from_options(client, given, mode, transaction.current(client))

    @verb
    async def pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> Receipt | None:
        """Upload *value* and return the receipt; None in a transaction.

        *value* is any buffer of bytes and must not change during the call. *mode*
        ``create`` never replaces an object. *kwargs* are options of the object, such as
        ``content_type``. A trailing slash of *path* is kept: such an object represents
        a directory.
        """
        call, path = self._call(kwargs, mode), self._path(path, keep_slash=True)
        return await call.on_engine([path], call.pipe_file, path, value)

    @verb
    async def pipe(
        self, path: Any, value: Any = None, mode: str = "overwrite", **kwargs: Any
    ) -> ReceiptList:
        """Upload one value, or a mapping of paths to values, several at a time.

        ``batch_size``, ``on_error`` and the returned receipts are as in :meth:`put`.

        Raises:
            ConfigurationError: two paths mean the same object; nothing was sent.
            UploadErrors: several uploads failed. If only one failed, its own error is
                raised.
        """
        bulk = BulkOptions.take_from(kwargs)
        values = {path: value} if isinstance(path, str) else path
        paths = [self._path(name, keep_slash=True) for name in values]
        refuse_clashes(list(map(Destination, values, paths)))
        pairs = list(zip(paths, values.values(), strict=True))
        call = self._call(kwargs, mode)
        return await call.on_engine(paths, call.pipe, pairs, bulk)

    @verb
    async def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: AnyCallback = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> Receipt | None:
        """Upload one local file as the object *rpath*, and return the receipt.

        Return None in a transaction, and for a directory. A directory is only recorded
        in memory, with a warning. A file without a size, such as a pipe, is uploaded as
        a stream. A trailing slash of *rpath* is ignored.

        *callback* is an fsspec callback, which counts the bytes sent, or an OSS callback
        (a mapping or a text). *mode* and *kwargs* are as in :meth:`pipe_file`.

        Raises:
            SourceChangedError: the file changed during the upload; nothing was
                published.
        """
        progress = progress_callback(callback, kwargs)
        call, path = self._call(kwargs, mode), self._path(rpath)
        local = os.fspath(stringify_path(lpath))
        return await call.on_engine([path], call.put_file, local, path, progress)

    @verb
    async def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: AnyCallback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> ReceiptList:
        """Upload local files, several at a time, and return their receipts in order.

        If listing is granted, destinations follow fsspec's rules. Otherwise a
        destination is a directory only if it has a trailing slash. *recursive* includes
        directories, *maxdepth* levels deep. *callback* counts the bytes of all files; a
        callback with ``branched`` counts the files, and its branches count the bytes.
        *mode* ``create`` never replaces an object. All uploads have ended when this
        returns or raises.

        *kwargs* are options of every object, ``batch_size`` (files at a time, by
        default up to 128, of which 16 are large) and ``on_error``: ``raise`` stops at
        the first failure, ``return`` returns exceptions in place of receipts, ``omit``
        omits them. After 16 equal refusals (401, 403) in a row, no further file is
        sent, and the refusals are always raised. A transaction returns no receipts.

        Raises:
            ConfigurationError: two files would be the same object; nothing was sent.
            UploadErrors: several files failed. If only one failed, its own error is
                raised.
        """
        bulk = BulkOptions.take_from(kwargs)
        progress, call = progress_callback(callback, kwargs), self._call(kwargs, mode)
        # A generator of the program must not run in a thread of the engine.
        local = lpath if isinstance(lpath, str | os.PathLike) else list(lpath)
        target = as_text(rpath)
        call.check_cache(target)

        async def put() -> ReceiptList:
            tree = await waiting(
                trees.local_tree, self.client, local, target, recursive, maxdepth
            )
            return await call.put(tree, progress, bulk)

        targets = [target] if isinstance(target, str) else target
        return await call.on_engine(map(self._path, targets), put)

    @verb
    async def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Upload an empty object; without *truncate*, FileExistsError if it exists."""
        mode = "overwrite" if truncate else "create"
        await self._pipe_file(path, b"", mode=mode, **kwargs)

    @verb
    async def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:  # noqa: ARG002 - a parameter of fsspec
        """Record a directory in memory; OSS has no directories, so nothing is sent."""
        self.client.written.remember_directory(self._path(path), asked=True)

    @verb
    async def makedirs(self, path: str, exist_ok: bool = False, **_: Any) -> None:  # noqa: ARG002 - a parameter of fsspec
        """Record a directory in memory, like :meth:`mkdir`.

        ``fsspec.open`` calls this before it opens a file. If its mode changes or
        appends to an object, ValueError is raised here.
        """
        if mode := callers.mode_of_open_files():
            write_mode(mode)
        await self._mkdir(path)

    @verb
    async def rmdir(self, path: str) -> None:
        """Drop the record of a directory; FileExistsError if it contains objects."""
        path = self._path(path)

        async def is_empty() -> bool:
            async for item in self._lookup.walk(path, maxdepth=1, withdirs=True):
                if item["name"] != path:
                    return False
            return True

        if not await awaited(is_empty):
            raise FileExistsError(17, "not empty: rm(recursive=True) deletes all", path)
        self.client.written.forget_directory(path)

    @overload
    def open(
        self, path: str, mode: ReadBytes = "rb", *args: Any, **kwargs: Any
    ) -> BinaryIO: ...
    @overload
    def open(self, path: str, mode: ReadText, *args: Any, **kwargs: Any) -> TextIO: ...
    @overload
    def open(
        self, path: str, mode: WriteBytes, *args: Any, **kwargs: Any
    ) -> BytesWriter: ...
    @overload
    def open(
        self, path: str, mode: WriteText, *args: Any, **kwargs: Any
    ) -> TextWriter: ...
    @overload
    def open(self, path: str, mode: str, *args: Any, **kwargs: Any) -> IO[Any]: ...
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

        Closing a written file publishes the whole object. If an exception leaves the
        ``with`` block, nothing is published, even with text or compression.

        Modes are ``rb``, ``wb``, ``xb`` (never replaces), ``r``, ``w`` and ``x``;
        others raise ValueError. *compression* is a name that fsspec supports, or
        ``infer``. *block_size* and *cache_options* configure the read cache. With
        ``autocommit=False``, only ``commit`` publishes. Other options are those of an
        object, such as ``content_type``, or of a text file, such as ``encoding``.
        """
        if mode.replace("b", "").replace("t", "") == "r":
            sizes = {"block_size": block_size, "cache_options": cache_options}
            return super().open(path, mode, compression=compression, **sizes, **kwargs)
        names = () if "b" in mode else ("encoding", "errors", "newline")
        text = {name: kwargs.pop(name) for name in names if name in kwargs}
        autocommit = kwargs.pop("autocommit", None)
        call = self._call(kwargs, write_mode(mode))
        path = self._path(path, keep_slash=True)
        call = call.of_opener(path)
        return call.open(
            path,
            binary="b" in mode,
            codec=compression,
            text=text,
            autocommit=call.transaction is None if autocommit is None else autocommit,
        )

    def _open(
        self, path: str, mode: str = "rb", autocommit: bool = True, **kwargs: Any
    ) -> Any:
        if mode == "rb":
            return read.open_reader(self, self._path(path), **kwargs)
        return self.open(path, mode, autocommit=autocommit, **kwargs)

    async def set_session(self) -> None:
        """Do nothing; other fsspec filesystems open their connections here."""

    # -- queries -------------------------------------------------------------------------

    @property
    def _lookup(self) -> Lookup:
        return Lookup(self.client)

    @verb
    async def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name, size, type and further properties of an object or directory.

        If HEAD and GET are not granted, only objects written by this process are known.
        Other objects are reported as missing, with a warning. With
        ``if_unverifiable="error"``, they raise PermissionError instead.
        """
        return await awaited(self._lookup.info, self._path(path))

    @verb
    async def exists(self, path: str, **_: Any) -> bool:
        """Return whether an object or directory exists.

        The answer needs the permissions of :meth:`info`.
        """
        with contextlib.suppress(FileNotFoundError):
            return bool(await self._info(path))
        return False

    @verb
    async def isfile(self, path: str) -> bool:
        """Return whether *path* is an object; PermissionError as in :meth:`info`."""
        name = self._path(path)
        callers.note_look(name)
        return await awaited(self._lookup.is_kind, name, "file")

    @verb
    async def isdir(self, path: str) -> bool:
        """Return whether *path* is a directory, even if an object has the same name.

        In that case, ``isfile`` is True as well, as with s3fs. PermissionError as in
        :meth:`info`.
        """
        return await awaited(self._lookup.is_directory, self._path(path))

    @verb
    async def ls(
        self, path: str, detail: bool = True, *, markers: bool = False, **_: Any
    ) -> list[Any]:
        """Return the direct children of a directory, or the object *path* itself.

        Returns dictionaries like :meth:`info`; with *detail* False, names. *markers*
        includes the object that represents the directory itself, whose name ends in a
        slash.

        Without ListObjectsV2, only objects written by this process are listed, with a
        warning. With ``if_unverifiable="error"``, PermissionError is raised instead.
        """
        items = await awaited(self._lookup.ls, self._path(path), markers=markers)
        return items if detail else [item["name"] for item in items]

    @verb
    async def find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Return the names of all objects under *path*; with *detail*, name -> ``info``.

        This includes objects that represent directories; their names end in a slash.
        With ``prefix=``, only names that begin with it, relative to *path*, are listed.
        """
        check_depth(maxdepth)
        walk = self._lookup.walk(
            self._path(path),
            maxdepth=maxdepth,
            withdirs=withdirs,
            prefix=kwargs.get("prefix") or "",
            markers=True,
            warns=True,
        )
        return await awaited(trees.find, walk, detail)

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the names that match a pattern.

        The directory before the first special character is listed. If no slash follows
        in the pattern, only its children are listed, otherwise all objects below it.
        """
        return AbstractFileSystem.glob(self, path, maxdepth=maxdepth, **kwargs)

    def walk(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Yield path, directories and files of each directory, as fsspec does.

        An object that represents a directory is yielded as a file with an empty name.
        By default, a missing directory is left out, and any other failure is raised.
        fsspec applies ``on_error=`` to *path*, but not to the directories below it.
        """
        return super().walk(path, maxdepth=maxdepth, **{**_WALK, **kwargs})

    def _walk(
        self, path: str, maxdepth: int | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        entries: AsyncIterator[Any] = super()._walk(
            path, maxdepth=maxdepth, **{**_WALK, **kwargs}
        )
        return entries

    @verb
    async def du(self, path: str, total: bool = True, **kwargs: Any) -> Any:
        """Return the number of bytes under *path*; with *total* False, name -> number.

        All sizes come from one listing.
        """
        items = await self._find(path, **{**kwargs, "detail": True})
        sizes = {name: item["size"] for name, item in items.items()}
        return sum(sizes.values()) if total else sizes

    def _object_info(self, path: str) -> dict[str, Any]:
        info: dict[str, Any] = self.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(21, "a directory, not an object", path)
        return info

    def created(self, path: str) -> datetime:
        """Return the time at which an object was stored.

        Raises NotImplementedError if the store does not report it.
        """
        moment = self._object_info(path).get("LastModified")
        if not isinstance(moment, datetime):
            raise NotImplementedError(
                f"the store does not report when {path} was stored"
            )
        return moment

    def modified(self, path: str) -> datetime:
        """Return the time at which an object was stored, as :meth:`created` does."""
        return self.created(path)

    def checksum(self, path: str) -> int:
        """Return a number that changes when the bytes of an object change."""
        return int(self.ukey(path)[:16], 16)

    def ukey(self, path: str) -> str:
        """Return a key for fsspec's caches that changes with the bytes of an object."""
        info = self._object_info(path)
        facts = (info["size"], info.get("ETag") or info.get("crc64"))
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def metadata(self, path: str, **_: Any) -> dict[str, str]:
        """Return the user metadata of an object, with names in lower case.

        Raises:
            NotCoveredError: HEAD is not granted.
        """
        front = "x-oss-meta-"
        calls = OSSCalls(self.client, Target(self._path(path, keep_slash=True)))
        headers = run(calls.head).items()
        return {n.removeprefix(front): v for n, v in headers if n.startswith(front)}

    def getxattr(self, path: str, attr: str, **_: Any) -> str | None:
        """Return one item of :meth:`metadata`; None if it does not exist.

        The case of *attr* is ignored, and an underscore equals a hyphen.
        """
        return self.metadata(path).get(attr.lower().replace("_", "-"))

    def sign(
        self, path: str, expiration: int = 100, method: str = "GET", **kwargs: Any
    ) -> str:
        """Return a presigned URL of an object, which is a secret until it expires.

        *method* is ``GET``, ``HEAD``, ``PUT`` (with ``size=`` for a signer service) or
        ``DELETE``. *expiration* is in seconds; the signer may shorten it.
        """
        size, name = kwargs.get("size"), as_text(path)
        return run(trees.presigned_url, self.client, name, expiration, method, size)

    def url(self, path: str) -> str:
        """Return the name or URL that an upload server (``upload_server=``) gave an object.

        This is the receipt's ``location``. Raises FileNotFoundError unless this process
        uploaded the object through such a server.
        """
        receipt = self.client.written.receipt(self._path(path))
        if receipt is None or receipt.location is None:
            text = (
                "no upload server has named an object of this process; "
                "fs.sign(path) returns a presigned URL"
            )
            raise FileNotFoundError(errno.ENOENT, text, path)
        return receipt.location

    def invalidate_cache(self, path: str | None = None) -> None:
        """Do nothing: no listing is cached."""

    # -- reading -------------------------------------------------------------------------

    @verb
    async def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """Return an object, or its bytes *start* to *end* (exclusive).

        Negative numbers count from the end of the object.
        """
        guess, path = self._size_guess, self._path(path, keep_slash=True)
        return await awaited(guess.read, self._lookup, path, start, end)

    @verb
    async def cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any
    ) -> Any:
        """Return the bytes of one object, or path -> bytes of several objects.

        Several objects are downloaded at the same time. *on_error* is as in :meth:`put`.
        """
        kwargs["on_error"] = on_error
        bulk, name = BulkOptions.take_from(kwargs), as_text(path)

        async def cat() -> Any:
            match = await trees.expand(self, name, recursive)
            return await read.cat(self.client, match, bulk, **kwargs)

        return await awaited(cat)

    @verb
    async def cat_ranges(
        self, paths: Any, starts: Any, ends: Any, max_gap: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Return the bytes of many ranges; each path has a range, from start to end.

        *starts* and *ends* are lists, or one value for all paths. ``on_error`` is
        ``return`` by default: exceptions are returned in place of bytes. A *max_gap*
        raises NotImplementedError, as in other fsspec filesystems.
        """
        if max_gap is not None:
            raise NotImplementedError("max_gap: merge_offset_ranges of fsspec.utils")
        bulk = BulkOptions.take_from(kwargs, ("return", "raise"))
        # A generator of the program must not run in the engine's thread.
        starts = list(starts) if isinstance(starts, Iterable) else starts
        ends = list(ends) if isinstance(ends, Iterable) else ends
        return await awaited(
            read.cat_ranges, self.client, as_text(paths), starts, ends, bulk
        )

    @verb
    async def get_file(
        self,
        rpath: str,
        lpath: Any,
        callback: Callback = DEFAULT_CALLBACK,
        **kwargs: Any,
    ) -> None:
        """Download one object into a file, which is replaced only when complete.

        *lpath* may also be an open file, a pipe or a device, which gets the bytes as
        they arrive. If *rpath* is a directory, *lpath* is created as one. A large
        object is read in ranges of one version. The CRC-64 of the received bytes is
        compared with the store's.
        """
        path = self._path(rpath)
        local = lpath if isfilelike(lpath) else os.fspath(stringify_path(lpath))
        await awaited(read.get_file, self, path, local, callback, kwargs)

    @verb
    async def get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Callback = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Download objects, several at a time, with fsspec's layout.

        If a name leads outside *lpath*, or two objects would become the same file,
        nothing is written.
        """
        bulk = BulkOptions.take_from(kwargs)
        ObjectOptions.from_call(self._options, kwargs, path=str(rpath))
        source = as_text(rpath)
        named = None if isinstance(lpath, list | tuple) else local_path(lpath)
        local = [*map(local_path, lpath)] if named is None else named
        destinations = await awaited(
            trees.layout, self, source, local, recursive, maxdepth, local=True
        )
        shared = SharedCallback(callback)
        await awaited(read.get, self, destinations, shared, bulk, named)

    # -- copies and deletions ------------------------------------------------------------

    @verb
    async def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy one object inside the store; verify the copy if HEAD is granted."""
        call = PutCall.from_options(self.client, kwargs)
        await awaited(trees.copy_one, call, self._destination(path1, path2))

    @verb
    async def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy objects inside the store, several at a time, with fsspec's layout.

        ``on_error="ignore"``, the default with *recursive*, skips missing objects.
        """
        kwargs["on_error"] = on_error or ("ignore" if recursive else "raise")
        bulk = BulkOptions.take_from(kwargs, ("raise", "ignore"))
        call = PutCall.from_options(self.client, kwargs)
        source, target = as_text(path1), as_text(path2)
        destinations = await awaited(
            trees.layout, self, source, target, recursive, maxdepth
        )
        await awaited(trees.copy, call, destinations, bulk)

    async def _copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        on_error: str | None = None,  # the order of fsspec's parameters
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        copy: Any = OSSPresignedFileSystem.copy
        await copy.coroutine(
            self, path1, path2, recursive, maxdepth, on_error, **kwargs
        )

    @verb
    async def mv_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Move one object: copy it, verify the copy, delete the source."""
        self._refuse_held(path1)
        destinations = [self._destination(path1, path2)]
        call = PutCall.from_options(self.client, kwargs)
        await awaited(trees.move, call, destinations, BulkOptions())

    @verb
    async def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy all objects, verify each copy with HEAD, and then delete the sources.

        A failure can leave an extra copy, but never loses an object. Moving an object
        to its own path does nothing. Moving a tree into itself raises
        ConfigurationError.
        """
        if isinstance(path1, str) and isinstance(path2, str):
            ends = self._path(path1), self._path(path2)
            if trees.goes_nowhere(*ends, recursive):
                return
        bulk = BulkOptions.take_from(kwargs, ("raise",))
        call = PutCall.from_options(self.client, kwargs)
        source, target = as_text(path1), as_text(path2)
        self._refuse_held(source, recursive=recursive)
        destinations = await awaited(
            trees.layout, self, source, target, recursive, maxdepth
        )
        await awaited(trees.move, call, destinations, bulk)

    @verb
    async def rm(
        self, path: Any, recursive: bool = False, maxdepth: Any = None, **kwargs: Any
    ) -> None:
        """Delete objects, one request each.

        A missing object is no error. A directory without *recursive* is no error
        either: no object has its name, so nothing is deleted.
        """
        bulk, name = BulkOptions.take_from(kwargs), as_text(path)
        self._refuse_held(name, recursive=recursive)

        async def rm() -> None:
            match = await trees.expand(self, name, recursive, maxdepth, markers=True)
            await trees.remove(self.client, match, bulk)

        await awaited(rm)

    @verb
    async def rm_file(self, path: str) -> None:
        """Delete one object with one request; a missing object is no error."""
        self._refuse_held(path)
        await awaited(self._lookup.remove, self._path(path, keep_slash=True))


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


# fsspec's own default of on_error shows a directory that cannot be listed as empty.
_WALK = {"markers": True, "on_error": _raise_unless_missing}


def _unpickled(
    kind: type[OSSPresignedFileSystem],
    options: dict[str, Any],
    unverified: Mapping[str, int],
) -> Any:
    trust(options)
    fs = kind(**options)
    fs.client.written.add_unverified(unverified)
    return fs
