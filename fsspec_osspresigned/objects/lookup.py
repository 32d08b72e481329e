"""Lookup: information about objects, from the store or from this process's index.

With write-only permission, only objects written by this process are known. ``exists``
and lists report other objects as missing, with one warning per bucket. All other
methods raise ObjectNotVisibleError, or another PermissionError with
``if_unverifiable="error"``. A 403 reply of the store has the same effect as a refusal
of the signer.

An answer of the index makes the path unverified. A tool acts on the answer, so a later
write there must not replace an object that is missing in the index. Therefore the
upload forbids overwriting, if the signer permits this (``PutCall.target``).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import NoReturn

from attrs import frozen

from ..client.client import Client
from ..client.local_index import Answer, Info, directory_info
from ..client.operations import OSSCalls, listing, means_unseen, operation_on
from ..engine.warn import warn_user
from ..errors import (
    AccessDeniedError,
    ExistenceNotVerifiedWarning,
    NotCoveredError,
    ObjectNotVisibleError,
)
from ..model import Action, split_path
from ..options.target import Target
from . import reading
from .download import Download
from .ranges import Version


@frozen
class Lookup:
    """Finds out which objects exist, for one client, by HeadObject or listing.

    Paths are ``bucket/key`` without a trailing slash. An object that cannot be checked
    raises ObjectNotVisibleError, or another PermissionError with
    ``if_unverifiable="error"``.
    """

    client: Client

    async def can_sign(self, action: Action, path: str) -> bool:
        operation = operation_on(action, path)
        return bool(operation.key) and await self.client.can_sign(operation)

    async def info(self, path: str, *, notes: bool = True) -> Info:
        """Return the ``info`` of an object or directory.

        *notes* False leaves *path* verified.
        """
        bucket, key = split_path(path)
        if not key and not self.client.written.receipt(path):
            if bucket:  # a missing bucket is an error
                with contextlib.suppress(PermissionError):
                    await self._lists(path)
            return directory_info(path)
        try:
            return await reading.stat(self.client, path)
        except PermissionError as error:
            return self._remembered(path, _unseen(error), notes=notes)
        except FileNotFoundError:
            if not await self.holds(path, notes=notes):
                raise
            return directory_info(path)

    async def is_kind(self, path: str, kind: str) -> bool:
        """Return whether *path* exists and is of *kind*, ``file`` or ``directory``.

        It leaves *path* verified, because DuckDB asks this before it overwrites a file.
        """
        try:
            return bool((await self.info(path, notes=False))["type"] == kind)
        except FileNotFoundError:
            return False

    async def is_directory(self, path: str) -> bool:
        """Return whether *path* is a directory, even if an object has the same name."""
        if await self.is_kind(path, "directory"):
            return True
        return await self.is_kind(path, "file") and await self.holds(path)

    async def shows_object(self, path: str) -> bool:
        """Return whether an object of exactly this name exists.

        If HEAD and GET are not granted, a listing answers, or the index.

        Raises:
            PermissionError: none of them knows (:meth:`unverifiable`).
        """
        try:
            await reading.stat(self.client, path)
        except FileNotFoundError:
            return False
        except PermissionError as error:
            reason = _unseen(error)
            try:
                return await self._is_listed(path)
            except PermissionError:
                return bool(self._remembered(path, reason)["type"] == "file")
        return True

    async def shows_directory(self, path: str) -> bool:
        """Return whether *path* is a bucket, or the store lists objects below it.

        Also False if listing is not granted, because the index is not used.
        """
        bucket, key = split_path(path)
        if not key:
            return bool(bucket)
        try:
            return await self._lists(path)
        except (FileNotFoundError, PermissionError):
            return False

    async def is_object_too(self, path: str) -> bool:
        """Return whether an object has the same name as the directory *path*.

        The store is asked for a listing; the index answers if that is not granted.
        """
        if not split_path(path)[1]:
            return False
        try:
            return await self._is_listed(path)
        except PermissionError:
            return self.client.written.receipt(path) is not None

    async def _is_listed(self, path: str) -> bool:
        bucket, key = split_path(path)
        # an existing object is the first key that begins with its name
        first: Info = await anext(listing(self.client, bucket, key), {})
        return (first.get("name"), first.get("type")) == (path, "file")

    async def holds(self, path: str, *, notes: bool = False) -> bool:
        """Return whether *path* is a bucket, has objects below it, or was just created.

        If listing is not granted, the index answers. If it has no record, *notes* makes
        everything below *path* unverified.
        """
        is_bucket = not split_path(path)[1]
        try:
            seen = await self._lists(path)
        except FileNotFoundError:  # the bucket is missing
            return False
        except PermissionError:
            known = is_bucket or self.client.written.is_directory(path)
            if notes and not known:
                self.client.written.mark_unverified(f"{path}/")
            return known
        return seen or is_bucket or self.client.written.is_new_directory(path)

    async def ls(self, path: str, *, markers: bool = False) -> list[Info]:
        """Return the sorted ``info`` of the children of *path*, or of the object itself.

        *markers* includes the object that represents the directory itself, whose name
        ends in a slash.
        """
        listed, reason = await self._entries(path)
        written = self.client.written
        if reason is not None:
            listed = _below(f"{path}/" if path else "", 1, listed)
        skipped = (path,) if markers else (path, f"{path}/")
        infos = [item async for item in listed if item["name"] not in skipped]
        is_made = written.is_directory if reason else written.is_new_directory
        has_key = bool(split_path(path)[1]) or reason is not None
        if not infos and has_key and not is_made(path):
            itself = self._remembered(path, reason) if reason else await self.info(path)
            infos = [itself] if itself["type"] == "file" else []
        # A directory and an object may have the same name.
        return sorted(infos, key=lambda item: (item["name"], item["type"]))

    async def walk(
        self,
        path: str,
        *,
        maxdepth: int | None,
        withdirs: bool,
        prefix: str = "",
        markers: bool = False,
        warns: bool = False,
    ) -> AsyncIterator[Info]:
        """Yield everything below *path*, or *path* itself if it is an object.

        *withdirs* includes directories, *markers* objects whose names end in a slash.
        Names relative to *path* must begin with *prefix*; without *prefix*, *path*
        itself is included. *warns* issues a warning if the index answers because
        listing is not granted.
        """
        written = self.client.written
        delimiter = "/" if maxdepth == 1 else ""
        listed, reason = await self._entries(
            path, prefix, delimiter=delimiter, warns=warns
        )
        first = await anext(listed, None)
        is_made = written.is_directory if reason else written.is_new_directory
        if first is None and not is_made(path):
            if not prefix and (alone := await self._alone(path, reason, warns=warns)):
                yield alone
            return
        if withdirs and path and not prefix:
            yield directory_info(path)
        if first is None:
            return
        root = f"{path}/" if path else ""
        async for item in _below(root, maxdepth, _chained([first], listed)):
            is_dir = item["type"] == "directory"
            if withdirs if is_dir else markers or not item["name"].endswith("/"):
                yield item

    async def _entries(
        self, path: str, prefix: str = "", *, delimiter: str = "/", warns: bool = True
    ) -> tuple[AsyncIterator[Info], PermissionError | None]:
        """Return the entries of a listing, and None.

        If listing is not granted, return the records of the index below *path*, and the
        refusal. Everything below *path* becomes unverified. If the index has a record
        of *path*, *warns* issues a warning. With ``if_unverifiable="error"``, the
        refusal is raised instead.
        """
        try:
            return await self._listed(path, prefix, delimiter=delimiter), None
        except PermissionError as error:
            reason = _unseen(error)
        written = self.client.written
        if prefix or written.is_directory(path):
            self._list_unverified(path, reason, warns=warns)
        else:
            written.mark_unverified(f"{path}/")
        return _chained(written.descendants(path, prefix)), reason

    async def read(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        version: Version | None = None,
        *,
        in_thread: bool = False,
    ) -> bytes:
        """Return bytes of an object like ``reading.read``.

        If GetObject is not granted, the body that this process has kept is used.
        *in_thread* means that a worker thread reads, because the object may be large.
        """
        try:
            return await reading.read(
                self.client, path, start, end, version, in_thread=in_thread
            )
        except PermissionError as error:
            return (await self._kept(path, _unseen(error)))[start:end]

    async def fill(self, download: Download, refused: PermissionError) -> int:
        """Complete *download*, which was *refused*, with a body that this process kept."""
        if download.file.begun:
            raise refused  # the kept bytes must not be mixed with bytes of the store
        body = await self._kept(download.path, _unseen(refused))
        await download.fill(body)
        return len(body)

    async def _kept(self, path: str, reason: PermissionError) -> bytes:
        """Return the body of an object of this process that was kept in memory.

        Raises:
            NotCoveredError: the object exists, but its body was not kept; *reason* is
                the cause.
            FileNotFoundError: *path* is a recorded directory, or missing.
            OSError: the error of :meth:`unverifiable`, if nothing shows the object.
        """
        body = self.client.written.body(path)
        if body is not None:
            return body
        try:
            info = await reading.stat(self.client, path)
        except PermissionError as error:
            _unseen(error)
            info = self._remembered(path, reason)
        if info["type"] == "directory":
            raise FileNotFoundError(2, "a directory, not an object", path)
        if self.client.written.receipt(path) is None:
            raise reason
        msg = (
            "this process wrote it, but reading it is not granted, and only small "
            "bodies that were in memory are kept"
        )
        refused = NotCoveredError(msg, path=path, action=Action.GetObject)
        raise refused from reason

    async def remove(self, path: str) -> None:
        """Delete one object and its record; a bucket is never deleted."""
        if split_path(path)[1]:
            with self.changing(path):
                await OSSCalls(self.client, Target(path)).delete()
        else:
            await self.info(path)  # a missing bucket is an error
        self.client.written.forget(path)

    @contextlib.contextmanager
    def changing(self, path: str) -> Iterator[None]:
        """Raise the error of :meth:`unverifiable` for a NotCoveredError of the block.

        If this process wrote *path*, or may have written it, the NotCoveredError stays,
        because the object must not be reported as missing.
        """
        try:
            yield
        except NotCoveredError as error:
            if self.client.written.info(path) is not Answer.MISSING:
                raise
            self.unverifiable(path, error)

    def unverifiable(
        self, path: str, reason: PermissionError, *, notes: bool = True
    ) -> NoReturn:
        """Raise the error for an object that cannot be checked because of *reason*.

        ObjectNotVisibleError is raised after one warning per bucket. The refusal alone
        (``_refuse``) is raised with ``if_unverifiable="error"``, or if this process may
        have stored the object. *path* becomes unverified, unless *notes* is False.
        """
        written = self.client.written
        if notes:
            written.mark_unverified(path)
        is_unknown = written.info(path) is Answer.UNKNOWN
        if is_unknown or self.client.options.if_unverifiable == "error":
            _refuse(path, reason)
        root = split_path(path)[0]
        if written.warn_once(root):
            denied = isinstance(reason, AccessDeniedError)
            why = f" ({reason.strerror})" if denied else ""
            text = (
                f"{_action(reason)} is not granted in {root!r}{why}: objects that this "
                "process did not write are reported as missing (if_unverifiable='error' "
                "raises an error instead)"
            )
            warn_user(text, ExistenceNotVerifiedWarning)
        raise _refusal(path, reason, ObjectNotVisibleError) from reason

    async def check_visible(self, path: str) -> None:
        """Raise the error of :meth:`unverifiable` if listing *path* is not granted."""
        try:
            await self._lists(path)
        except FileNotFoundError:  # the bucket is missing
            pass
        except PermissionError as error:
            self.unverifiable(path, _unseen(error))

    def _list_unverified(
        self, path: str, reason: PermissionError, *, warns: bool = True
    ) -> None:
        """Make everything below *path* unverified, and warn once per bucket.

        With ``if_unverifiable="error"``, raise PermissionError instead of the warning.
        *warns* False does not warn. *reason* is the refusal of the listing.
        """
        self.client.written.mark_unverified(f"{path}/")
        if self.client.options.if_unverifiable == "error":
            _refuse(path, reason)
        root = split_path(path)[0]
        if warns and self.client.written.warn_once(f"list of {root}"):
            text = (
                f"listing {root!r} is not granted (ListObjectsV2): only objects that this "
                "process wrote are listed"
            )
            warn_user(text, ExistenceNotVerifiedWarning)

    async def _listed(
        self, path: str, prefix: str = "", *, delimiter: str = "/"
    ) -> AsyncIterator[Info]:
        """Return the entries of a listing, whose first page is requested here.

        Therefore PermissionError is raised here, not during the iteration.
        """
        bucket, key = split_path(path)
        within = f"{key}/{prefix}" if key else prefix
        entries = listing(self.client, bucket, within, delimiter=delimiter)
        first = await anext(entries, None)
        return _chained([first] if first else [], entries)

    async def _lists(self, path: str) -> bool:
        return await anext(await self._listed(path), None) is not None

    def _remembered(
        self, path: str, reason: PermissionError, *, notes: bool = True
    ) -> Info:
        info = self.client.written.info(path)
        if isinstance(info, Answer):
            return self.unverifiable(path, reason, notes=notes)
        return info

    async def _alone(
        self, path: str, reason: PermissionError | None, *, warns: bool
    ) -> Info | None:
        """Return the ``info`` of the object *path*; None if there is none.

        Also None for a directory and for a bucket. *reason* is the refusal of a listing
        of *path*; None if it was granted. If *reason* is given and the store reports
        *path* as missing, everything below *path* becomes unverified; *warns* then
        issues a warning.

        Raises PermissionError with ``if_unverifiable="error"``, if this process may
        have stored *path*, or after a refusal that is no missing permission.
        """
        if not split_path(path)[1] and not self.client.written.receipt(path):
            return None
        with contextlib.suppress(FileNotFoundError):
            try:
                return await reading.stat(self.client, path)
            except PermissionError as error:
                info = self._remembered(path, reason or _unseen(error))
                return info if info["type"] == "file" else None
            except FileNotFoundError:
                if reason is not None:
                    self._list_unverified(path, reason, warns=warns)
        return None


_UNKNOWN = {
    Action.HeadObject: ": it is unknown whether the object exists",
    Action.ListObjectsV2: ": it is unknown what exists there",
}


def _refuse(path: str, reason: PermissionError) -> NoReturn:
    """Raise PermissionError, because only the store knows whether *path* exists.

    If the store replied 403, *reason* is raised, otherwise a NotCoveredError that names
    the missing permission.
    """
    if isinstance(reason, AccessDeniedError):
        raise reason
    raise _refusal(path, reason) from reason


def _refusal(
    path: str, reason: PermissionError, kind: type[NotCoveredError] = NotCoveredError
) -> NotCoveredError:
    action = _action(reason)
    why = f"{action} is not granted"
    if isinstance(reason, NotCoveredError) and reason.code is not None:
        why = reason.message  # a signer service may say what the token permits
    return kind(f"{why}{_UNKNOWN.get(action, '')}", path=path, action=action)


def _action(reason: PermissionError) -> Action:
    return getattr(reason, "action", None) or Action.HeadObject


def _unseen(error: PermissionError) -> PermissionError:
    """Return *error* if it means that reading is not granted; raise it otherwise."""
    if not means_unseen(error):
        raise error
    return error


async def _chained(
    first: Iterable[Info], others: AsyncIterator[Info] | None = None
) -> AsyncIterator[Info]:
    for entry in first:
        yield entry
    if others is not None:
        async for entry in others:
            yield entry


async def _below(
    root: str, maxdepth: int | None, listed: AsyncIterator[Info]
) -> AsyncIterator[Info]:
    """Yield the objects at most *maxdepth* levels below *root*, and their directories.

    *maxdepth* None sets no limit. Each directory is yielded once.
    """
    seen: set[str] = set()
    async for item in listed:
        name = item["name"]
        if not name.startswith(root):
            continue  # a name that begins with a slash has no directory of its own
        parts = name.removeprefix(root).split("/")
        is_dir = item["type"] == "directory"
        above = (parts if is_dir else parts[:-1])[:maxdepth]
        for end in range(len(above), 0, -1):
            directory = root + "/".join(above[:end])
            if directory in seen:
                break  # all directories above were yielded, too
            seen.add(directory)
            if not directory.endswith("/"):
                yield directory_info(directory)
        if not is_dir and (maxdepth is None or len(parts) <= maxdepth):
            yield item
