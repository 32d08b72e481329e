"""The verbs of fsspec that copy, move and remove what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from ..concurrency.workers import ON_ERROR, Cancellation
from ..errors import ConfigurationError
from .base import twin
from .put import Sending
from .read import ReadingFileSystem

if TYPE_CHECKING:
    from .trees import Going


class MovingFileSystem(ReadingFileSystem):
    """What is done to objects inside the store."""

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy one object inside the store, where that is signed.

        Where HEAD is signed too, the copy is of one version and compared with it, and
        more than 1 GiB goes in parts.

        Args:
            path1: ``bucket/key``.
            path2: where to.
            kwargs: options of the copy; a Content-Type or metadata replace all of the
                source's.

        Raises:
            FileNotFoundError: *path1* is not there, or cannot be seen.
            PermissionError: copying is not signed.
            SourceChangedError: *path1* was replaced meanwhile.
            IntegrityError: the copy is not what *path1* was.
        """
        from .trees import Going  # noqa: PLC0415 - only for what is copied

        going = Going(self._path(path1), self._path(path2))
        self._copy_one(going, Sending(self.client, kwargs))

    _cp_file = twin(cp_file)

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy objects inside the store, several at once, with fsspec's layout.

        The first failure stops the rest; nothing runs any more when this returns or
        raises.

        Args:
            path1: an object, a directory (with *recursive*), a pattern, or several.
            path2: where to, or a list as long as *path1*.
            recursive: whether directories are walked.
            maxdepth: levels of directories; None for all.
            on_error: ``ignore`` passes over what is no longer there, the default with
                *recursive*; or ``raise``.
            batch_size: objects at once; None for ``max_concurrency``.
            kwargs: options of every copy.

        Raises:
            ConfigurationError: two objects would become one; nothing was copied.
            UploadErrors: several could not be copied.
        """
        ignores = on_error == "ignore" or (on_error is None and recursive)
        if on_error not in (None, "raise", "ignore"):
            msg = f"on_error must be raise or ignore, not {on_error!r}"
            raise ValueError(msg)
        sending = Sending(self.client, kwargs)
        going = self._moves(path1, path2, recursive=recursive, maxdepth=maxdepth)

        def work(one: Going, cancel: Cancellation) -> None:
            try:
                self._copy_one(one, sending, cancel)
            except FileNotFoundError:
                if not ignores and not self._view.holds(one.path):
                    raise

        self._at_once(going, work, lambda one: one.path, batch_size)

    _copy = twin(copy, "trees")

    def mv_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Move one object; raises as :meth:`mv`."""
        from .trees import Going  # noqa: PLC0415 - only for what is moved

        going = Going(self._path(path1), self._path(path2))
        self._move([going], Sending(self.client, kwargs), None)

    _mv_file = twin(mv_file)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move objects: copy all of them, look at each copy, then delete the sources.

        A source is deleted only if HEAD shows that its copy has its size and CRC-64,
        and that it was not replaced meanwhile; so a failure leaves a copy too many, and
        never one too few.

        Args:
            path1: an object, a directory (with *recursive*), a pattern, or several.
            path2: where to, or a list as long as *path1*.
            recursive: whether directories are walked.
            maxdepth: levels of directories; None for all.
            batch_size: objects at once; None for ``max_concurrency``.
            kwargs: options of every copy.

        Raises:
            NotSignedError: HEAD is not signed; nothing was copied or deleted.
            ConfigurationError: an object would replace one that is moved, too.
            IntegrityError: a copy is not proved; no source was deleted.
            UploadErrors: several could not be moved.
        """
        going = self._moves(path1, path2, recursive=recursive, maxdepth=maxdepth)
        self._move(going, Sending(self.client, kwargs), batch_size)

    _mv = twin(mv, "trees")

    def rm(
        self,
        path: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        on_error: str = "raise",
        **_: Any,
    ) -> None:
        """Delete objects, one signed request each, several at once.

        The first failure stops the rest; nothing runs any more when this returns or
        raises. OSS does not tell whether an object was there.

        Args:
            path: an object, a directory (with *recursive*), a pattern, or several.
            recursive: whether directories are walked, also the empty objects that
                stand for them in the console.
            maxdepth: levels of directories; None for all.
            batch_size: objects at once; None for ``max_concurrency``.
            on_error: ``raise``, or go on: ``omit``, ``return``.

        Raises:
            FileNotFoundError: with *recursive*, nothing is there.
            PermissionError: nobody signs that.
            UploadErrors: several could not be deleted.
        """
        if on_error not in ON_ERROR:
            msg = f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}"
            raise ValueError(msg)
        meant = self._expanded(
            path, recursive=recursive, maxdepth=maxdepth, markers=True
        )

        def work(name: str, cancel: Cancellation) -> None:
            self._view.remove(name, cancel)

        self._at_once(meant.files, work, str, batch_size, on_error=on_error)
        for name in meant.directories:
            self.client.written.forget_directory(name)

    _rm = twin(rm, "trees")

    def rm_file(self, path: str) -> None:
        """Delete one object.

        Raises:
            PermissionError: nobody signs that, and this process wrote the object.
            FileNotFoundError: nobody signs that, and the object cannot be seen.
        """
        self._view.remove(self._path(path))

    _rm_file = twin(rm_file)

    def _moves(
        self, path1: Any, path2: Any, *, recursive: bool, maxdepth: int | None
    ) -> list[Going]:
        """Return which object ``copy`` puts where, if none would be lost."""
        from . import trees  # noqa: PLC0415 - only for trees

        for path in [path2] if isinstance(path2, str) else path2:
            self.client.written.trust_store(self._path(path))
        if not isinstance(path1, str) and isinstance(path2, list | tuple):
            sides = [[self._path(path) for path in side] for side in (path1, path2)]
            going = trees.paired(*sides)
        else:
            meant = self._expanded(path1, recursive=recursive, maxdepth=maxdepth)
            if isinstance(path1, str) and (not recursive or maxdepth is not None):
                meant = meant.only_files()
            target = str(path2).removeprefix(f"{self.protocol}://")
            going = [
                evolve(one, target=self._path(one.target))
                for one in meant.destinations(
                    target, is_directory=self._view.shows_directory
                )
                if not one.is_directory
            ]
        trees.refuse_clashes(going)
        return going

    def _copy_one(
        self, one: Going, sending: Sending, cancel: Cancellation | None = None
    ) -> None:
        from ..objects.copy import Copying  # noqa: PLC0415 - only for what is copied

        target = sending.target(one.target)
        copying = Copying(self.client, one.path, target, cancel)
        self._view.change(one.path, copying.run)
        self.client.written.remember_copy(one.path, one.target)

    def _move(
        self, going: list[Going], sending: Sending, batch_size: int | None
    ) -> None:
        from ..objects.copy import (  # noqa: PLC0415 - see _copy_one
            Copying,
            Source,
            prove,
        )
        from ..objects.ranges import changed  # noqa: PLC0415 - likewise

        sources = {one.path for one in going}
        problems = [
            f"{one.path!r} would replace {one.target!r}, which is moved, too"
            for one in going
            if one.target in sources
        ]
        if problems:
            raise ConfigurationError(problems)
        proved: dict[str, Source] = {}

        def copy(one: Going, cancel: Cancellation) -> None:
            def act() -> None:
                source = Source.of(self.client, one.path)
                target = sending.target(one.target)
                Copying(self.client, one.path, target, cancel, source).run()
                prove(self.client, source, one.target)
                proved[one.path] = source

            self._view.change(one.path, act)
            self.client.written.remember_copy(one.path, one.target)

        def delete(path: str, cancel: Cancellation) -> None:
            now = Source.of(self.client, path)
            if not proved[path].is_same(now):
                raise changed(path)
            self._view.remove(path, cancel)

        self._at_once(going, copy, lambda one: one.path, batch_size)
        self._at_once(sorted(proved), delete, str, batch_size)
