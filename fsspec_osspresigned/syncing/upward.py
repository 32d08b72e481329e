"""Uploads of a sync, from a directory to a prefix of the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from attrs import frozen

from ..client.client import Client
from ..engine.engine import run
from ..errors import NotSignedError
from ..filesystem.filesystem import OSSPresignedFileSystem
from ..model import Action, split_path
from ..objects import calls
from ..upload.plan import refuse_expired
from .compare_content import ContentComparison
from .plan import Aside, Entry, Plan, Stored
from .send import Listener, SyncRoute, batches_of, spread
from .source import whole_listing


@frozen(kw_only=True)
class Upward:
    """Upload direction of a sync, from the source of *route* to the store.

    *executor* runs the uploads in other processes; None uploads in this process.
    ``Downward`` has the same members. *verb* is the participle for a transferred file,
    *extras* the noun for deleted items.
    """

    filesystem: OSSPresignedFileSystem
    route: SyncRoute
    executor: Any = None
    verb = "sent"
    extras = "objects"

    @property
    def client(self) -> Client:
        """Client of the store."""
        return self.filesystem.client

    @property
    def root(self) -> str:
        """Bucket and prefix of the destination, with a slash at the end."""
        return self.route.root

    @property
    def fail_fast(self) -> bool:
        """Whether the first failure ends the run."""
        return self.route.fail_fast

    @property
    def clock(self) -> int:
        """Sign of the correction of source times by the clock offset.

        1: source times are by this machine's clock, destination times by the store's.
        -1: the reverse. 0: a remote source with an unknown clock.
        """
        return int(self.route.source.is_local)

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield files of the source, and an Aside for each entry that is not a file."""
        return self.route.source.entries()

    def listed(self) -> dict[str, Stored] | None:
        """Return name -> object of the destination; None if listing is not granted."""
        found: dict[str, Stored] = {}
        try:
            for info in whole_listing(self.client, *split_path(self.root)):
                date = info["LastModified"]
                modified = None if date is None else date.timestamp()
                name = info["name"].removeprefix(self.root)
                found[name] = Stored(info["size"], info["ETag"], modified)
        except PermissionError as error:
            if found or not calls.means_unseen(error):
                raise
            return None
        return found

    def comparison(self) -> ContentComparison:
        """Return the object that compares contents of files and objects."""
        return ContentComparison(self.client, self.route.source, self.root)

    def check(self, plan: Plan) -> None:
        """Do nothing, because a store can hold any set of keys."""

    def check_signed(self, name: str) -> None:
        """Raise NotSignedError if the upload of *name* is certain to be refused.

        No request is sent for this check.
        """
        path = self.root + name
        refuse_expired(self.client.signer.grant(path), path)

    def check_delete(self, name: str) -> None:
        """Raise NotSignedError if deleting *name* is not granted."""
        path = self.root + name
        delete = calls.operation_on(Action.DeleteObject, path)
        if not run(self.client.can_sign, delete):
            msg = "delete needs DeleteObject, which is not granted: nothing was changed"
            raise NotSignedError(msg, path=path, action=delete.action)

    def transfer(self, entries: Iterable[Entry], listener: Listener) -> None:
        """Upload *entries*; return after all uploads have ended."""
        if self.executor is None:
            self.route.send(self.client, entries, listener)
        else:
            batches = batches_of(self.filesystem, self.route, entries)
            spread(self.executor, batches, listener)

    async def delete(self, name: str) -> None:
        """Delete the object *name*."""
        path = self.root + name
        await calls.delete(self.client, path)
        self.client.written.forget(path)
