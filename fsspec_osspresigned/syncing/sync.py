"""Makes a destination what a source is: ``sync``, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from attrs import Factory, define, evolve

from ..client.client import Client
from ..concurrency.workers import Cancellation, Transfers
from ..console.exit import why
from ..errors import ConfigurationError, NotSignedError
from ..filesystem.write import OSSPresignedFileSystem
from ..model import Action, Operation, Receipt, split_path
from ..objects import operations
from ..options.object_options import ObjectOptions
from ..signers.base import grant_for
from ..upload import plan as preflight
from .compare import ContentComparison, means_unseen
from .filter import Filter, Rule
from .plan import Entry, Extra, How, Item, Plan, PlanRules, Sent, Stored, plan
from .result import EventKind, SyncEvent, SyncResult
from .send import Going, Listener, check_portable, spread
from .source import LocalSource, SyncSource, refuse_overlap, source_of, whole_listing
from .state import SyncState, read_state, state_files

# One sync under way: the plan it has made, and what it has done so far.


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
        rules: PlanRules,
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
        proved = ContentComparison(self.client, source, root).resolve(made)
        if self.state is not None:
            for name, row in proved.items():
                self.state.record(root + name, row)
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
                operations.head(self.client, self.going.root + name)
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
        self._tell(SyncEvent(EventKind.PLAN, size=made.send_bytes, count=count))
        for name, what in made.left_out.items():
            self._tell(SyncEvent(EventKind.LEFT_OUT, name, why=what))
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
        operations.delete(self.client, path, cancel)
        self.client.written.forget(path)
        if self.state is not None:
            self.state.forget(path)
        with self._lock:
            self.result.deleted.append(extra.name)
            self._say(SyncEvent(EventKind.DELETED, extra.name, extra.size))

    def _begin(self, entry: Entry) -> None:
        self._tell(SyncEvent(EventKind.BEGIN, entry.name, entry.size or 0))

    def _moved(self, name: str, count: int) -> None:
        self._say(SyncEvent(EventKind.BYTES, name, count))  # who hears it may wait

    def _stored(self, entry: Entry, receipt: Receipt) -> None:
        if self.state is not None and receipt.status != "pending":
            row = Sent(
                receipt.size, entry.mtime_ns, entry.tag, receipt.etag, receipt.crc64
            )
            self.state.record(receipt.path, row)
        with self._lock:
            self.result.sent += 1
            self.result.sent_bytes += receipt.size
            self._say(SyncEvent(EventKind.SENT, entry.name, receipt.size))

    def _stored_elsewhere(self, entry: Entry, receipt: Receipt) -> None:
        self.client.written.remember(receipt, None)
        self._stored(entry, receipt)

    def _failed(self, entry: Entry, error: Exception) -> None:
        uncovered = isinstance(error, NotSignedError)
        with self._lock:
            where = self.result.uncovered if uncovered else self.result.failed
            where[entry.name] = error
        self._tell_failure(entry.name, entry.size or 0, error)

    def _tell_failure(self, name: str, size: int, error: Exception) -> None:
        uncovered = isinstance(error, NotSignedError)
        kind = EventKind.UNCOVERED if uncovered else EventKind.FAILED
        self._tell(SyncEvent(kind, name, size, why=why(error), error=error))

    def _tell(self, event: SyncEvent) -> None:
        with self._lock:
            self._say(event)

    def _say(self, event: SyncEvent) -> None:
        if self.on_event is not None:
            self.on_event(event)


def sync(
    source: Any,
    destination: str,
    *,
    filesystem: OSSPresignedFileSystem | None = None,
    storage_options: Mapping[str, Any] | None = None,
    source_options: Mapping[str, Any] | None = None,
    filters: Iterable[Rule | str] = (),
    compare: str = "time",
    delete: bool = False,
    max_delete: int | None = None,
    state: Any = None,
    always: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
    executor: Any = None,
    on_event: Callable[[SyncEvent], None] | None = None,
    confirm: Callable[[Sequence[Extra]], None] | None = None,
    on_error: str = "raise",
    **given: Any,
) -> SyncResult:
    """Send what is new or changed in a directory, so that the destination equals it.

    Both sides are listed, and the plan is made, before anything is sent or deleted.

    Args:
        source: a local directory, or the URL of one on any filesystem of fsspec.
        destination: ``bucket/prefix``; what is in *source* goes right below it.
        filesystem: of the destination; None makes one of *storage_options*.
        storage_options: options of the destination.
        source_options: storage options of the source.
        filters: rules such as ``"- *.tmp"`` or ``"+ *.csv"``, for both sides; the last
            one that fits decides.
        compare: ``time``: another size, or changed after the object was stored;
            ``size`` alone; or ``checksum``: the CRC-64 of the bytes.
        delete: whether objects go that the source does not have; last, and only if
            everything before went well.
        max_delete: refuse, before anything is done, to delete more objects.
        state: file that remembers what was sent; needed where nobody may list.
        always: send all, whatever is known.
        fail_fast: the first failure stops the rest; else all files are tried.
        dry_run: only plan; the result tells what would be done.
        executor: of ``concurrent.futures``, or a client of dask, to send from several
            processes or machines, which must find the source at the same place.
        on_event: is told every step, from several threads; all but ``bytes`` one call
            at a time. It must not raise.
        confirm: is called with what would be deleted before anything is done; it raises
            to stop.
        on_error: ``raise`` at the end what went wrong, or ``return`` it.
        given: options of every object, such as ``content_type``.

    Raises:
        ConfigurationError: nothing was done, for the reason that it tells.
        NotSignedError: nothing was done: deleting needs what is not signed.
        CheckpointInUseError: another process is at *state*.
        UploadErrors: some files failed, or are not covered; the others are done.
    """
    started = time.monotonic()
    _check_word("on_error", on_error, ("raise", "return"))
    _check_word("compare", compare, tuple(How))
    if max_delete is not None and not delete:
        raise ConfigurationError("max_delete= goes with delete=True")
    bucket, prefix = _place(destination)
    fs = filesystem or OSSPresignedFileSystem(**(storage_options or {}))
    ObjectOptions.of(fs.client.options, given)
    here = source_of(source, source_options or {})
    refuse_overlap(here, bucket, prefix)
    chosen = Filter.of((*Filter.of(filters).rules, *_against_state(here, state)))
    rules = PlanRules(how=How(compare), filter=chosen, prefix=prefix, always=always)
    going = Going(here, f"{bucket}/{prefix}", given, fail_fast)
    if executor is not None:
        check_portable(executor, fs, going)
    run = SyncRun(fs, going, on_event)
    with _memory(state, dry_run=dry_run) as (before, run.state):
        there = listed(fs.client, bucket, prefix)
        if there is None:
            _refuse_blind(going.root, delete, always or state is not None)
        run.make_plan(there, before, rules)
        run.check_delete(max_delete, wanted=delete)
        run.tell_plan()
        if dry_run:
            run.stop()
        else:
            if run.plan.extra and run.is_clean and confirm is not None:
                confirm(run.plan.extra)
            run.send(executor)
            run.delete()
    run.result.seconds = time.monotonic() - started
    if on_error == "raise":
        run.result.check()
    return run.result


def _check_word(name: str, given: str, words: Sequence[str]) -> None:
    if given not in words:
        msg = f"{name} must be one of {', '.join(words)}, not {given!r}"
        raise ValueError(msg)


@contextmanager
def _memory(
    place: Any, *, dry_run: bool
) -> Iterator[tuple[Mapping[str, Sent], SyncState | None]]:
    """Yield what was sent before, and where to write down more, if anywhere."""
    if place is None:
        yield {}, None
    elif dry_run:
        yield read_state(place), None
    else:
        with SyncState(place) as state:
            yield state.rows, state


def _against_state(source: SyncSource, state: Any) -> Iterator[Rule]:
    """Yield rules that leave out the state itself, if it lies in the source."""
    if state is None or not isinstance(source, LocalSource):
        return
    front = source.place("")
    for path in state_files(state):
        for root in {front, os.path.join(os.path.realpath(front), "")}:
            if path.startswith(root):
                yield Rule.against(path.removeprefix(root))


def _place(destination: str) -> tuple[str, str]:
    """Return bucket and prefix; that is empty, or has a slash at its end.

    Raises:
        ConfigurationError: there is no bucket, or it leads nowhere.
    """
    path = str(destination).removeprefix("osspresigned://").rstrip("/")
    bucket, key = split_path(path)
    if not bucket or "://" in path or not {".", ".."}.isdisjoint(path.split("/")):
        msg = f"{str(destination)[:80]!r} is no destination: write BUCKET/PREFIX"
        raise ConfigurationError(msg)
    return bucket, f"{key}/" if key else ""


def _refuse_blind(root: str, delete: bool, knows: bool) -> None:
    """Refuse what cannot be right where nobody may list.

    Raises:
        NotSignedError: to delete.
        ConfigurationError: to send all of it again and again, without a word.
    """
    if delete:
        msg = "delete needs a listing of the destination, and nobody signs that"
        raise NotSignedError(msg, path=root, action=Action.ListObjectsV2)
    if not knows:
        msg = (
            "nobody may list the destination, so what is there is unknown: give "
            "state=FILE, which remembers what was sent, or always=True, which sends all"
        )
        raise ConfigurationError(msg, path=root)
