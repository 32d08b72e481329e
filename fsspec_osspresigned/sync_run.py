"""One sync under way: the plan it has made, and what it has done so far."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from attrs import Factory, define, evolve

from . import objects, preflight
from .client import Client
from .errors import ConfigurationError, NotSignedError
from .failure import why
from .model import Action, Operation, Receipt
from .signers.base import grant_for
from .sync_batches import spread
from .sync_plan import Entry, Extra, How, Item, Plan, Rules, Sent, Stored, plan
from .sync_proof import Proving, means_unseen
from .sync_result import SyncEvent, SyncResult, Told
from .sync_sending import Going, Listener
from .sync_source import whole_listing
from .sync_state import SyncState
from .transfers import Transfers
from .workers import Cancellation


def listed(client: Client, bucket: str, prefix: str) -> dict[str, Stored] | None:
    """Return name below *prefix* -> object; None where nobody may list.

    Raises:
        OSSPresignedError: it could not be listed as a whole.
    """
    objects_there = whole_listing(client, bucket, prefix)
    front = len(f"{bucket}/{prefix}")
    found: dict[str, Stored] = {}
    try:
        for info in objects_there:
            date = info["LastModified"]
            modified = None if date is None else date.timestamp()
            name = info["name"][front:]
            found[name] = Stored(info["size"], info["ETag"], modified)
    except PermissionError as error:
        if found or not means_unseen(error):
            raise
        return None
    return found


@define
class SyncRun:
    """One sync.

    Attributes:
        filesystem: of the destination.
        going: where from, where to, and with which options.
        on_event: who is told; None for nobody.
        state: where to write down what was sent; None for nowhere.
        result: what came of it, so far.
    """

    filesystem: Any
    going: Going
    on_event: Callable[[SyncEvent], None] | None = None
    state: SyncState | None = None
    result: SyncResult = Factory(lambda: SyncResult(plan=Plan()))
    _lock: threading.Lock = Factory(threading.Lock)

    @property
    def client(self) -> Client:
        """The engine of the destination."""
        client: Client = self.filesystem.client
        return client

    @property
    def plan(self) -> Plan:
        """What there is to do."""
        return self.result.plan

    @property
    def is_clean(self) -> bool:
        """Whether nothing has gone wrong so far."""
        return not (self.result.problems or self.result.not_tried)

    # -- planning ------------------------------------------------------------------------

    def make_plan(
        self,
        there: dict[str, Stored] | None,
        before: Mapping[str, Sent],
        rules: Rules,
    ) -> None:
        """Compare both sides; reads what only its bytes can tell.

        Args:
            there: name -> object; None if it could not be listed. Emptied on the way.
            before: path -> what earlier runs have sent.
            rules: how to compare.

        Raises:
            OSError: the source could not be listed, or the store does not answer.
        """
        root, source = self.going.root, self.going.source
        # Times of files are by this machine's clock, those of objects by the store's.
        if source.is_local and there and rules.how is How.TIME:
            rules = evolve(rules, ahead=self._offset(next(iter(there))))
        rules = evolve(rules, listed=there is not None)
        sent = {
            path.removeprefix(root): one
            for path, one in before.items()
            if path.startswith(root)
        }
        made = plan(source.entries(), there or {}, sent, rules)
        proved = Proving(self.client, source, root).settle(made)
        if self.state is not None:
            for name, row in proved.items():
                self.state.note(root + name, row)
        self.result.plan = made
        made.send = list(self._covered(made.send))
        for name, problem in made.problems.items():
            self.result.failed[name] = ConfigurationError(problem, path=root + name)
        self.result.failed.update(made.errors)

    def _offset(self, name: str) -> float:
        """Return how many seconds this machine's clock is ahead of the store's.

        It is known after any request but a listing; else an object is looked at, where
        that is signed, and the clocks count as equal where it is not.
        """
        if self.client.clock_offset is None:
            with contextlib.suppress(OSError):
                objects.head(self.client, self.going.root + name)
        return self.client.clock_offset or 0.0

    def _covered(self, items: list[Item]) -> Iterator[Item]:
        """Yield what the signer knows it can sign; a remote one is not asked here."""
        for item in items:
            path = self.going.root + item.entry.name
            try:
                preflight.refuse_expired(grant_for(self.client.signer, path), path)
            except NotSignedError as error:
                self.result.uncovered[item.entry.name] = error
            else:
                yield item

    def check_delete(self, most: int | None, *, wanted: bool) -> None:
        """Refuse to delete what must not be, before anything is done.

        Args:
            most: how many objects may go; None if nobody has said.
            wanted: whether any should; if not, none is extra.

        Raises:
            ConfigurationError: too many would go, or all.
            NotSignedError: DELETE is not signed.
        """
        extra, root = self.plan.extra, self.going.root
        if not wanted:
            extra.clear()
        if not extra:
            return
        if most is not None and len(extra) > most:
            msg = (
                f"{len(extra)} objects would be deleted, {most} may be: nothing is done"
            )
            raise ConfigurationError(msg, path=root)
        if most is None and not self.plan.found:
            msg = (
                f"the source is empty, and all {len(extra)} objects would be deleted: "
                f"say max_delete={len(extra)} if that is meant"
            )
            raise ConfigurationError(msg, path=root)
        bucket, _, key = (root + extra[0].name).partition("/")
        delete = Operation(action=Action.DeleteObject, bucket=bucket, key=key)
        if not self.client.can_sign(delete):
            msg = "delete needs DELETE to be signed, and it is not: nothing is done"
            raise NotSignedError(msg, path=delete.path, action=delete.action)

    def tell_plan(self) -> None:
        """Tell what there is to do, and what is wrong already."""
        made = self.plan
        count = len(made.send) + len(self.result.problems)
        self._tell(SyncEvent(Told.PLAN, size=made.send_bytes, count=count))
        for name, what in made.left_out.items():
            self._tell(SyncEvent(Told.LEFT_OUT, name, why=what))
        for name, error in self.result.problems.items():
            self._tell_failure(name, 0, error)

    def stop(self) -> None:
        """Leave it at the plan."""
        self.result.dry_run = True
        self.result.kept = 0 if self.is_clean else len(self.plan.extra)

    # -- acting --------------------------------------------------------------------------

    def send(self, executor: Any) -> None:
        """Send what is to be sent; nothing runs any more at the end."""
        if self.going.fail_fast and not self.is_clean:
            self.result.not_tried = len(self.plan.send)
            return
        told = Listener(self._begin, self._moved, self._stored, self._failed)
        before = len(self.result.problems)
        entries = (item.entry for item in self.plan.send)
        if executor is None:
            self.going.send(self.client, entries, told)
        else:
            told = evolve(told, stored=self._stored_elsewhere)
            spread(executor, self.filesystem, self.going, entries, told)
        tried = self.result.sent + len(self.result.problems) - before
        self.result.not_tried = len(self.plan.send) - tried

    def delete(self) -> None:
        """Delete what the source does not have, unless something went wrong before."""
        extra = self.plan.extra
        if not extra:
            return
        if self.is_clean:
            width = min(len(extra), self.client.options.max_concurrency)
            transfers = Transfers(
                self.client.files, width, self._delete, lambda one: one.name
            )
            for name, error in transfers.failures_of(extra).items():
                self.result.failed[name] = error
                self._tell_failure(name, 0, error)
        self.result.kept = len(extra) - len(self.result.deleted)

    def _delete(self, extra: Extra, cancel: Cancellation) -> None:
        path = self.going.root + extra.name
        objects.delete(self.client, path, cancel)
        self.client.known.forget(path)
        if self.state is not None:
            self.state.forget(path)
        with self._lock:
            self.result.deleted.append(extra.name)
            self._say(SyncEvent(Told.DELETED, extra.name, extra.size))

    def _begin(self, entry: Entry) -> None:
        self._tell(SyncEvent(Told.BEGIN, entry.name, entry.size or 0))

    def _moved(self, name: str, count: int) -> None:
        self._say(SyncEvent(Told.BYTES, name, count))  # who hears it may wait

    def _stored(self, entry: Entry, receipt: Receipt) -> None:
        if self.state is not None and receipt.status != "pending":
            row = Sent(
                receipt.size, entry.mtime_ns, entry.tag, receipt.etag, receipt.crc64
            )
            self.state.note(receipt.path, row)
        with self._lock:
            self.result.sent += 1
            self.result.sent_bytes += receipt.size
            self._say(SyncEvent(Told.SENT, entry.name, receipt.size))

    def _stored_elsewhere(self, entry: Entry, receipt: Receipt) -> None:
        self.client.known.add(receipt, None)
        self._stored(entry, receipt)

    def _failed(self, entry: Entry, error: Exception) -> None:
        uncovered = isinstance(error, NotSignedError)
        with self._lock:
            where = self.result.uncovered if uncovered else self.result.failed
            where[entry.name] = error
        self._tell_failure(entry.name, entry.size or 0, error)

    def _tell_failure(self, name: str, size: int, error: Exception) -> None:
        uncovered = isinstance(error, NotSignedError)
        kind = Told.UNCOVERED if uncovered else Told.FAILED
        self._tell(SyncEvent(kind, name, size, why=why(error), error=error))

    def _tell(self, event: SyncEvent) -> None:
        with self._lock:
            self._say(event)

    def _say(self, event: SyncEvent) -> None:
        if self.on_event is not None:
            self.on_event(event)
