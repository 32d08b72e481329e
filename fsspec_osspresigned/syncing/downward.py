"""Downloads of a sync, from a prefix of the store into a local directory."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import stat
import time
from collections.abc import Iterable, Iterator

from attrs import field, frozen

from ..client.client import Client
from ..engine.engine import blocking, run
from ..engine.scope import Scope
from ..errors import ConfigurationError
from ..filesystem.destinations import Destination, refuse_clashes
from ..filesystem.filesystem import OSSPresignedFileSystem
from ..http.body import SMALL
from ..model import Action
from ..objects import calls
from ..objects.download import AtomicFile, Download
from ..signing.endpoint import check_key
from .compare_content import ContentComparison
from .plan import Aside, Entry, Plan, Stored
from .send import Listener
from .source import LocalSource, RemoteSource


@frozen(kw_only=True)
class Downward:
    """Direction of a sync from a prefix of the store to the local directory *target*.

    A symbolic link in *target* that leads to a directory is never entered.
    """

    filesystem: OSSPresignedFileSystem
    source: RemoteSource
    target: LocalSource
    fail_fast: bool = False
    verb = "fetched"
    extras = "files"
    clock = -1
    _real: str = field(init=False)

    @_real.default
    def _real_target(self) -> str:
        return os.path.realpath(self.target.root)

    @property
    def client(self) -> Client:
        """Client of the store."""
        return self.filesystem.client

    @property
    def root(self) -> str:
        """Bucket and prefix of the source, with a slash at the end."""
        return self.source.place("")

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield the objects of the prefix; NotSignedError if listing is not granted."""
        return self.source.entries()

    def listed(self) -> dict[str, Stored] | None:
        """Return name -> file of the target directory, which may be missing.

        A file whose name no object can have is not listed, and so never deleted.
        """
        if not os.path.lexists(self.target.root):
            return {}
        prefix = self.root.partition("/")[2]
        return {
            one.name: Stored(one.size or 0, "", (one.mtime_ns or 0) / 1e9)
            for one in self.target.entries()
            if isinstance(one, Entry) and check_key(prefix + one.name) is None
        }

    def comparison(self) -> ContentComparison:
        """Return the object that compares contents of files and objects."""
        return ContentComparison(
            self.client, self.target, self.root, lambda item: item.entry.tag
        )

    def check(self, plan: Plan) -> None:
        """Raise ConfigurationError if a local file or link blocks an object."""
        names = [item.entry.name for item in plan.send]
        pairs = [Destination(self.root + n, self.target.place(n)) for n in names]
        refuse_clashes(pairs, local=True, known=True)
        seen: dict[str, str | None] = {}
        for name in names:
            parent = os.path.dirname(name)
            if parent not in seen:
                seen[parent] = self._link_above(name)
        problems = [problem for problem in seen.values() if problem]
        problems += filter(None, map(self._special, names))
        if problems:
            raise ConfigurationError(problems)

    def _link_above(self, name: str) -> str | None:
        """Return a message if *name* is below a link to a directory; None otherwise."""
        parent = os.path.dirname(name)
        straight = (
            os.path.join(self._real, *parent.split("/")) if parent else self._real
        )
        real = os.path.realpath(os.path.dirname(self.target.place(name)))
        if os.path.normcase(real) == os.path.normcase(straight):
            return None
        return f"{name!r} is below a link to a directory, which is not followed"

    def _special(self, name: str) -> str | None:
        """Return a message if *name* is a pipe or a device; None otherwise."""
        try:
            mode = os.stat(self.target.place(name)).st_mode
        except OSError:
            return None
        if stat.S_ISREG(mode):
            return None
        return f"{name!r} would replace a pipe, socket or device"

    def check_signed(self, name: str) -> None:
        """Raise NotSignedError if the download of *name* is certain to be refused.

        No request is sent for this check.
        """
        operation = calls.operation_on(Action.GetObject, self.root + name)
        self.client.signer.preflight(operation)

    def check_delete(self, name: str) -> None:
        """Do nothing, because deleting local files needs no signature."""

    def transfer(self, entries: Iterable[Entry], listener: Listener) -> None:
        """Download *entries*; return after all downloads have ended."""
        options = self.client.options
        large = asyncio.Semaphore(options.connections)

        async def work(entry: Entry) -> None:
            is_large = entry.size is None or entry.size > SMALL
            async with large if is_large else contextlib.nullcontext():
                await listener.begin(entry)
                try:
                    await self._fetch(entry.name, listener, is_large=is_large)
                except Exception as error:
                    await listener.failed(entry, error)
                    raise
                await listener.fetched(entry)

        scope: Scope[Entry, None] = Scope(
            work,
            lambda entry: entry.name,
            width=options.most_small,
            on_error="raise" if self.fail_fast else "omit",
        )
        run(scope.failures_of, entries)

    async def _fetch(self, name: str, listener: Listener, *, is_large: bool) -> None:
        """Download one object; its file's modification time is when the download began.

        If the object is replaced during the download, the object is newer than the
        file, and the next run fetches the object again.
        """
        path, place = self.root + name, self.target.place(name)
        began = time.time_ns()
        file, moved = AtomicFile(place), functools.partial(listener.moved, name)
        heard = moved if listener.hears_bytes else None
        try:
            await blocking(self._refuse_blocked, name, path)
            await Download(
                self.client, path, file, heard=heard, in_thread=is_large
            ).run()
            await blocking(file.publish)
        finally:
            await file.end()
        await blocking(lambda: os.utime(place, ns=(began, began)))

    def _refuse_blocked(self, name: str, path: str) -> None:
        if problem := self._link_above(name) or self._special(name):
            raise ConfigurationError(problem, path=path)

    async def delete(self, name: str) -> None:
        """Delete the local file *name*, or the link of that name."""
        await blocking(self._delete, name)

    def _delete(self, name: str) -> None:
        if problem := self._link_above(name):
            raise ConfigurationError(problem, path=name)
        os.unlink(self.target.place(name))
