"""The two directions of a sync: uploads to a prefix, downloads to a directory.

``ContentComparison`` checks whether files and objects have the same bytes.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

from ...client.client import Client
from ...client.operations import OSSCalls, means_unseen, operation_on
from ...engine.engine import blocking, run
from ...engine.scope import Scope
from ...errors import ConfigurationError, NotCoveredError, ObjectNotFoundError
from ...filesystem.destinations import Destination, refuse_clashes
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...http.body import SMALL
from ...http.checksums import crc64
from ...model import Action, split_path
from ...objects.download import AtomicFile, Download
from ...options.target import Target
from ...signing.endpoint import check_key
from ...units import MIB
from ...upload.plan import refuse_expired
from .plan import Aside, Entry, Item, Plan, Sent, Stored, Why, is_what_was_sent
from .send import Listener, Sending, transfer_all
from .source import LocalSource, RemoteSource, SyncSource, whole_listing

_is_md5 = re.compile(r"[0-9A-Fa-f]{32}").fullmatch

# The verdict, with the record to keep (SAME), or with the reason why the source is
# unreadable (UNSURE).
Proof: TypeAlias = tuple[Why, Sent | OSError | None]


def _etag_there(item: Item) -> str:
    return item.stored.etag if item.stored else ""


@frozen
class ContentComparison:
    """Comparison of files below *source* with objects below *root*."""

    client: Client
    source: SyncSource
    root: str
    # returns the ETag of an object from a listing
    listed: Callable[[Item], str] = _etag_there

    def resolve(self, plan: Plan) -> dict[str, Sent]:
        """Compare the bytes of the files in ``plan.unsure``, several at once.

        Each file gets its verdict in *plan*; an unreadable file goes to
        ``plan.errors``. Returns name -> record for the sync state, for each equal file.
        Sends HeadObject for each object whose CRC-64 no earlier run has recorded.
        """
        unsure, plan.unsure = plan.unsure, []
        width = self.client.options.connections
        scope: Scope[Item, Proof] = Scope(
            self._prove, lambda item: item.entry.name, width=width
        )
        remembered = {}
        for item, (why, proof) in zip(unsure, run(scope.run, unsure), strict=True):
            if isinstance(proof, OSError):
                plan.errors[item.entry.name] = proof
                continue
            plan.resolve(item, why)
            if proof is not None:
                remembered[item.entry.name] = proof
        return remembered

    async def _prove(self, item: Item) -> Proof:
        entry, etag, crc = item.entry, "", None
        if item.sent is not None and is_what_was_sent(item.stored, item.sent):
            etag, crc = item.sent.etag, item.sent.crc64
        if crc is None:
            try:
                calls = OSSCalls(self.client, Target(self.root + entry.name))
                info = await calls.info()
            except ObjectNotFoundError:
                return Why.NEW, None
            except PermissionError as error:
                if not means_unseen(error):
                    raise
                etag = self.listed(item) or etag
            else:
                etag, crc = str(info["ETag"]), info["crc64"]
                if entry.size not in (None, info["size"]):
                    return Why.SIZE, None
        try:
            return await blocking(self._compare, entry, etag, crc)
        except OSError as error:
            # an error of the source, because the store is not asked here
            return Why.UNSURE, error

    def _compare(self, entry: Entry, etag: str, crc: int | None) -> Proof:
        if crc is None and not _is_md5(etag):
            return Why.CONTENT, None  # the object has neither checksum
        ours, size, digest = 0, 0, hashlib.md5(usedforsecurity=False)
        with self.source.open(entry.name) as file:
            while block := file.read(MIB):
                size += len(block)
                if crc is None:
                    digest.update(block)
                else:
                    ours = crc64(block, ours)
        if digest.hexdigest() != etag.lower() if crc is None else ours != crc:
            return Why.CONTENT, None
        return Why.SAME, Sent(size, entry.mtime_ns, entry.tag, etag, crc)


def _is_large(entry: Entry) -> bool:
    return entry.size is None or entry.size > SMALL


@frozen(kw_only=True)
class Downward:
    """Direction of a sync from a prefix of the store to the local directory *target*.

    A symbolic link in *target* that leads to a directory is never entered.
    """

    filesystem: OSSPresignedFileSystem
    source: RemoteSource
    target: LocalSource
    fail_fast: bool = False
    verb = "fetched"  # participle for a transferred file, in messages
    extras = "files"  # noun for what may be deleted, in messages
    clock = -1
    _real: str = field(init=False)

    @_real.default
    def _real_target(self) -> str:
        return os.path.realpath(self.target.root)

    @property
    def client(self) -> Client:
        return self.filesystem.client

    @property
    def root(self) -> str:
        return self.source.path_of("")

    def entries(self) -> Iterator[Entry | Aside]:
        return self.source.entries()

    def listed(self) -> dict[str, Stored] | None:
        """Return name -> file of the target directory; empty if it does not exist.

        If no object can have the name of a file, the file is not listed, so it is never
        deleted.
        """
        if not os.path.lexists(self.target.root):
            return {}
        prefix = self.root.partition("/")[2]
        return {
            entry.name: Stored(entry.size or 0, "", (entry.mtime_ns or 0) / 1e9)
            for entry in self.target.entries()
            if isinstance(entry, Entry) and check_key(prefix + entry.name) is None
        }

    def comparison(self) -> ContentComparison:
        return ContentComparison(
            self.client, self.target, self.root, lambda item: item.entry.tag
        )

    def check(self, plan: Plan) -> None:
        names = [item.entry.name for item in plan.send]
        pairs = [Destination(self.root + n, self.target.path_of(n)) for n in names]
        refuse_clashes(pairs, local=True, known=True)
        seen: dict[str, str | None] = {}
        for name in names:
            parent = os.path.dirname(name)
            if parent not in seen:
                seen[parent] = self._link_above(name)
        problems = [problem for problem in seen.values() if problem]
        problems += filter(None, map(self._special, names))
        problems += self._unlisted(plan)
        if problems:
            raise ConfigurationError(problems)

    def _unlisted(self, plan: Plan) -> Iterator[str]:
        """Yield a message for each new name at which a file exists nevertheless.

        The file system ignores case or Unicode form, and knows the file by another
        name. If the source no longer has this name, the new file replaces it, so it is
        removed from ``plan.extra``.
        """
        new = [item.entry.name for item in plan.send if item.stored is None]
        replaced = {self._inode(name): name for name in new}
        replaced.pop(None, None)
        extra = {each.name: self._inode(each.name) for each in plan.extra if replaced}
        plan.extra = [e for e in plan.extra if extra.get(e.name) not in replaced]
        for inode in replaced.keys() - extra.values():
            why = "its name differs in case, or it has just appeared"
            yield f"{replaced[inode]!r} would replace a file that was not listed: {why}"

    def _inode(self, name: str) -> tuple[int, int] | None:
        try:
            status = os.stat(self.target.path_of(name))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _link_above(self, name: str) -> str | None:
        straight = os.path.join(self._real, *name.split("/")[:-1])
        real = os.path.realpath(os.path.dirname(self.target.path_of(name)))
        if os.path.normcase(real) == os.path.normcase(straight):
            return None
        return f"{name!r} is below a link to a directory, which is not followed"

    def _special(self, name: str) -> str | None:
        try:
            mode = os.stat(self.target.path_of(name)).st_mode
        except OSError:
            return None
        if stat.S_ISREG(mode):
            return None
        return f"{name!r} would replace a pipe, socket or device"

    def check_signed(self, name: str) -> None:
        """Raise NotCoveredError if it is already known that no download is signed.

        Sends nothing, so the signer may still refuse later.
        """
        operation = operation_on(Action.GetObject, self.root + name)
        self.client.signer.preflight(operation)

    def check_delete(self, name: str) -> None:
        """Do nothing, because deleting local files needs no signature."""

    def transfer(self, entries: Iterable[Entry], listener: Listener) -> None:
        run(
            transfer_all,
            self.client,
            entries,
            functools.partial(self._fetch, listener),
            listener,
            is_large=_is_large,
            fail_fast=self.fail_fast,
        )

    async def _fetch(self, listener: Listener, entry: Entry) -> None:
        """Download one object, and set its file's time to the beginning of the download.

        If the object is replaced during the download, it is newer than the file, and
        the next run fetches it again.
        """
        name, began = entry.name, time.time_ns()
        path, local = self.root + name, self.target.path_of(name)
        file, heard = AtomicFile(local), listener.mover(name)
        try:
            await blocking(self._refuse_blocked, name, path)
            await Download(self.client, path, file, heard=heard).run()
            await blocking(file.publish)
        finally:
            await file.end()
        await blocking(lambda: os.utime(local, ns=(began, began)))

    def _refuse_blocked(self, name: str, path: str) -> None:
        if problem := self._link_above(name) or self._special(name):
            raise ConfigurationError(problem, path=path)

    async def delete(self, name: str) -> None:
        await blocking(self._delete, name)

    def _delete(self, name: str) -> None:
        if problem := self._link_above(name):
            raise ConfigurationError(problem, path=name)
        os.unlink(self.target.path_of(name))


@frozen(kw_only=True)
class Upward:
    """Direction of a sync that uploads; it has the same methods as ``Downward``."""

    filesystem: OSSPresignedFileSystem
    source: SyncSource
    root: str  # bucket and prefix of the keys, with a final slash
    given: Mapping[str, Any] = field(factory=dict)  # options for every object
    fail_fast: bool = False
    verb = "sent"
    extras = "objects"

    @property
    def client(self) -> Client:
        return self.filesystem.client

    @property
    def clock(self) -> int:
        """Factor of the clock offset that is added to the times of the source.

        1: the source has times of this machine, and the destination has times of the
        store. -1: the reverse. 0: the clock of the source is unknown, so nothing is
        corrected.
        """
        return int(self.source.is_local)

    def entries(self) -> Iterator[Entry | Aside]:
        return self.source.entries()

    def listed(self) -> dict[str, Stored] | None:
        """Return name -> object below the prefix; None if listing is not granted."""
        listed: dict[str, Stored] = {}
        try:
            for info in whole_listing(self.client, *split_path(self.root)):
                date = info["LastModified"]
                modified = None if date is None else date.timestamp()
                name = info["name"].removeprefix(self.root)
                listed[name] = Stored(info["size"], info["ETag"], modified)
        except PermissionError as error:
            if listed or not means_unseen(error):
                raise
            return None
        return listed

    def comparison(self) -> ContentComparison:
        return ContentComparison(self.client, self.source, self.root)

    def check(self, plan: Plan) -> None:
        """Do nothing, because a store can hold any set of keys."""

    def check_signed(self, name: str) -> None:
        """Raise NotCoveredError if it is already known that no upload is signed.

        Sends nothing, so the signer may still refuse later.
        """
        path = self.root + name
        refuse_expired(self.client.signer.grant(path), path)

    def check_delete(self, name: str) -> None:
        path = self.root + name
        delete = operation_on(Action.DeleteObject, path)
        if not run(self.client.can_sign, delete):
            msg = "delete needs DeleteObject, which is not granted: nothing was changed"
            raise NotCoveredError(msg, path=path, action=delete.action)

    def transfer(self, entries: Iterable[Entry], listener: Listener) -> None:
        sending = Sending(self.client, self.source, self.root, self.given, listener)
        run(sending.send, entries, self.fail_fast)

    async def delete(self, name: str) -> None:
        path = self.root + name
        await OSSCalls(self.client, Target(path)).delete()
        self.client.written.forget(path)
