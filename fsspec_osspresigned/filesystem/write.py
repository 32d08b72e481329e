"""The verbs of fsspec that write, and ``open``, each said in the words of the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from fsspec.callbacks import DEFAULT_CALLBACK, Callback
from fsspec.utils import stringify_path

from ..concurrency.workers import ON_ERROR
from ..model import Receipt
from ..upload import transaction
from ..upload.transaction import Transaction
from .base import twin
from .move import MovingFileSystem
from .put import Sending

if TYPE_CHECKING:
    from ..client.receipts import ReceiptList


class OSSPresignedFileSystem(MovingFileSystem):
    """Objects of Alibaba Cloud OSS, reached through presigned URLs.

    Paths are ``bucket/key``. The storage options are those of
    :class:`fsspec_osspresigned.options.Options`; exactly one of ``url``, ``url_map``
    and ``signer`` says where signatures come from (a map may stand before a signer).

    Raises:
        ConfigurationError: with every problem of the options.
    """

    # -- transactions -------------------------------------------------------------------

    transaction_type = Transaction

    @property
    def transaction(self) -> Transaction:
        """What publishes all that is written inside ``with fs.transaction``, or nothing.

        It belongs to the context: other threads do not see it, and publish at once. All
        filesystems with the same options share it.
        """
        return self._current or Transaction(self.client)

    def start_transaction(self) -> Transaction:
        """Begin a transaction in this context; see ``end_transaction``."""
        found = self.transaction
        found.start()
        return found

    def end_transaction(self) -> None:
        """Publish what this context has written since ``start_transaction``.

        Raises:
            RuntimeError: this context has begun none; another thread may have.
            UploadErrors: some of it could not be published.
        """
        found = self._current
        if found is None:
            msg = "no transaction was begun here: begin and end it in one thread"
            raise RuntimeError(msg)
        found.complete()

    @property
    def _current(self) -> Transaction | None:
        return transaction.current(self.client)

    @property
    def _intrans(self) -> bool:
        """What fsspec's own verbs ask; it sets it, too, when an instance is made."""
        return self._current is not None

    @_intrans.setter
    def _intrans(self, _: bool) -> None: ...

    @property
    def _transaction(self) -> Transaction | None:
        return self._current

    @_transaction.setter
    def _transaction(self, _: object) -> None: ...

    def _sending(self, given: Mapping[str, Any], mode: str = "overwrite") -> Sending:
        return Sending(self.client, given, mode, self._current)

    # -- writing ------------------------------------------------------------------------

    def pipe_file(
        self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any
    ) -> Receipt | None:
        """Store *value* and return the receipt; None in a transaction.

        Args:
            path: ``bucket/key``.
            value: any buffer of bytes; must not change meanwhile.
            mode: ``create`` refuses to replace an object.
            kwargs: options of the object, such as ``content_type``.
        """
        return self._sending(kwargs, mode).value(self._path(path), value)

    _pipe_file = twin(pipe_file)

    def pipe(
        self,
        path: Any,
        value: Any = None,
        batch_size: int | None = None,
        mode: str = "overwrite",
        on_error: str = "raise",
        **kwargs: Any,
    ) -> ReceiptList:
        """Store one value, or a mapping of paths to values, several at once.

        Nothing runs any more when this ends; *on_error* and what is returned are those
        of :meth:`put`.

        Raises:
            UploadErrors: several values failed.
        """
        _check_on_error(on_error)
        given = {path: value} if isinstance(path, str) else path
        pairs = ((self._path(one), data) for one, data in given.items())
        return self._sending(kwargs, mode).values(pairs, batch_size, on_error)

    _pipe = twin(pipe, "trees")

    def put_file(
        self,
        lpath: Any,
        rpath: str,
        callback: Callback | Mapping[str, Any] | None = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> Receipt | None:
        """Store one local file and return the receipt.

        Return None for a directory, which is remembered, and in a transaction.

        Args:
            lpath: the file; one without a size (a pipe) is stored as a stream.
            rpath: ``bucket/key``.
            callback: told the bytes; a mapping is the option of that name instead.
            mode: ``create`` refuses to replace an object.
            kwargs: options of the object, such as ``content_type``.

        Raises:
            SourceChangedError: the file changed meanwhile; nothing was published.
        """
        told = _told(callback, kwargs)
        return self._sending(kwargs, mode).file(lpath, self._path(rpath), told)

    _put_file = twin(put_file)

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Callback | Mapping[str, Any] | None = DEFAULT_CALLBACK,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        mode: str = "overwrite",
        on_error: str = "raise",
        **kwargs: Any,
    ) -> ReceiptList:
        """Store local files, several at once, and return their receipts.

        The layout is fsspec's where listing is signed; else slashes alone decide: a
        destination with a trailing slash is a directory. Nothing runs any more when this
        returns or raises. Receipts come in the order of the files; none in a transaction.

        Args:
            lpath: a file, a directory (with *recursive*), a pattern, or several.
            rpath: ``bucket/key``, or a list as long.
            recursive: whether directories are walked.
            callback: told the files; its branches are told the bytes. A mapping is the
                option of that name instead.
            batch_size: files at once; None for ``max_concurrency``.
            maxdepth: levels of directories; None for all.
            mode: ``create`` refuses to replace an object.
            on_error: ``raise``: the first failure stops the rest; ``return``: all files
                are tried, and exceptions stand in the place of receipts; ``omit``: they
                are left out. 16 equal refusals (401, 403) in a row stop in any case.
            kwargs: options of every object.

        Raises:
            UploadErrors: several files failed, or each was refused.
        """
        from .trees import LocalTree  # noqa: PLC0415 - only for trees

        _check_on_error(on_error)
        told = _told(callback, kwargs)
        sending = self._sending(kwargs, mode)
        for path in [rpath] if isinstance(rpath, str | os.PathLike) else rpath:
            self.client.written.trust_store(self._path(path))
        tree = LocalTree(
            lpath,
            _without_protocol(rpath),
            recursive=recursive,
            maxdepth=maxdepth,
            is_directory=self._view.shows_directory,
            named=self._path,
        )
        return sending.files(tree, told, batch_size, on_error)

    _put = twin(put, "trees")

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Store an empty object; *truncate* False never replaces one.

        Raises:
            FileExistsError: not *truncate*, and the object is there.
        """
        self.pipe_file(path, b"", mode="overwrite" if truncate else "create", **kwargs)

    _touch = twin(touch)

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Remember a directory: OSS has none, so nothing is sent."""
        del create_parents, kwargs
        self.client.written.remember_directory(self._path(path), asked=True)

    _mkdir = twin(mkdir)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Remember a directory: OSS has none, so nothing is sent."""
        del exist_ok
        self.mkdir(path)

    _makedirs = twin(makedirs)

    def rmdir(self, path: str) -> None:
        """Forget a directory that was made: OSS has none, so nothing is sent."""
        self.client.written.forget_directory(self._path(path))

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
            kwargs: options of the object; ``encoding``, ``errors``, ``newline``;
                ``autocommit=False`` leaves publishing to ``commit``.

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
        return self._sending(kwargs, _write_mode(mode)).open(
            self._path(path),
            binary="b" in mode,
            codec=compression,
            text=text,
            autocommit=autocommit,
        )

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
        return self._sending(kwargs, _write_mode(mode)).open(
            path, binary=True, codec=None, text={}, autocommit=autocommit
        )

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> NoReturn:
        """Refuse: files here are blocking; use ``_pipe_file`` and ``_cat_file``."""
        del kwargs
        msg = (
            f"{path} cannot be opened with mode {mode!r} as an asynchronous file: use "
            "fs.open in a thread, or await fs._pipe_file / fs._cat_file"
        )
        raise NotImplementedError(msg)


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


def _check_on_error(on_error: str) -> None:
    if on_error not in ON_ERROR:
        msg = f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}"
        raise ValueError(msg)


def _told(callback: Any, options: dict[str, Any]) -> Callback:
    """Return who is told the progress; a callback of OSS goes into *options*."""
    if isinstance(callback, Mapping | str):
        options["callback"] = callback
        return DEFAULT_CALLBACK
    return DEFAULT_CALLBACK if callback is None else callback


def _without_protocol(path: Any) -> Any:
    """Strip the protocol only: for ``put`` a trailing slash has a meaning."""
    if isinstance(path, str | os.PathLike):
        text = str(stringify_path(path))
        return text.removeprefix(f"{OSSPresignedFileSystem.protocol}://")
    return [_without_protocol(one) for one in path]
