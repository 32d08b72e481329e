"""Functions ``sync`` and ``sync_down``, and the run, events and result of a sync."""

from __future__ import annotations

import contextlib
import enum
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import Factory, define, evolve, field, frozen

from ...client.operations import OSSCalls
from ...engine.engine import blocking, run, user_code
from ...engine.scope import Scope
from ...errors import ConfigurationError, NotCoveredError, UploadErrors
from ...filesystem.arguments import check_choice, without_protocol
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...model import Action, Receipt, split_path
from ...options.target import ObjectOptions, Target
from ..failures import why
from .directions import Downward, Upward
from .plan import (
    Entry,
    Extra,
    Filter,
    How,
    Item,
    Plan,
    PlanRules,
    Rule,
    Sent,
    Stored,
    plan,
)
from .source import (
    LocalSource,
    RemoteSource,
    SyncSource,
    refuse_overlap,
    source_of,
    target_of,
)
from .state import SyncState, read_state, state_files

if TYPE_CHECKING:
    from ...upload.resume import UploadEvent


class EventKind(enum.StrEnum):
    """Kinds of sync events; :class:`SyncEvent` says when each of them occurs."""

    PLAN = "plan"
    BEGIN = "begin"
    BYTES = "bytes"
    SENT = "sent"
    FETCHED = "fetched"
    DELETED = "deleted"
    FAILED = "failed"
    UNCOVERED = "uncovered"
    LEFT_OUT = "left_out"
    RESUMED = "resumed"
    KEPT = "kept"


@frozen
class SyncEvent:
    """One step of a sync.

    Attributes:
        kind: ``plan`` occurs once, before the first byte. Each file to transfer has
            ``begin`` and then ``sent``, ``fetched``, ``failed`` or ``uncovered``, with
            ``bytes`` in between. A failure that is already in the plan has no
            ``begin``. ``deleted`` occurs for each deleted item, and ``left_out`` for
            each entry that is not a file. With ``resume_dir``, ``resumed`` and ``kept``
            occur as described at *upload*.
        name: path relative to source and destination; empty for ``plan``.
        size: size of the file in bytes; 0 if unknown. For ``plan``, the size of all
            files to transfer. For ``resumed`` and ``kept``, the size of the stored
            parts. For ``bytes``, the number of bytes just moved; negative to subtract a
            failed try.
        count: for ``plan``, the number of files to transfer, including those that
            cannot be transferred; else 1.
        why: reason, as text.
        error: the exception of a failure; None for all other events.
        upload: for ``resumed`` and ``kept``, the parts that are stored; else None.
    """

    kind: EventKind
    name: str = ""
    size: int = 0
    count: int = 1
    why: str = ""
    error: Exception | None = None
    upload: UploadEvent | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the event as a JSON object, without *error* and *upload*."""
        names = ("name", "size", "count", "why")
        return {"event": self.kind.value, **{n: getattr(self, n) for n in names}}


@define(kw_only=True)
class SyncResult:
    """Result of a sync; names are relative to source and destination.

    Attributes:
        plan: the plan of the sync.
        verb: participle for transferred files: ``sent`` or ``fetched``.
        dry_run: True if nothing was transferred or deleted.
        sent: number of files sent, or fetched.
        sent_bytes: total size of these files in bytes.
        deleted: names of deleted objects or files.
        failed: name -> exception, for files that could not be read, uploaded or
            fetched, and for items that could not be deleted.
        uncovered: name -> exception: files for which no signature is available.
        not_tried: number of files whose transfer was planned, but not tried.
        kept: number of objects or files that should have been deleted, but were not,
            because something failed.
        seconds: duration.
        unmatched: objects or files of the destination that the source does not have,
            also without *delete*; empty if the destination cannot be listed.
    """

    plan: Plan
    verb: str = "sent"
    dry_run: bool = False
    sent: int = 0
    sent_bytes: int = 0
    deleted: list[str] = Factory(list)
    failed: dict[str, Exception] = Factory(dict)
    uncovered: dict[str, Exception] = Factory(dict)
    not_tried: int = 0
    kept: int = 0
    seconds: float = 0.0
    unmatched: list[Extra] = Factory(list)

    @property
    def same(self) -> int:
        """Number of files that the destination had already."""
        return self.plan.same

    @property
    def left_out(self) -> dict[str, str]:
        """Name -> kind, of source entries that are not files: links, pipes, devices."""
        return self.plan.left_out

    @property
    def problems(self) -> dict[str, Exception]:
        """Name -> exception, of all files that failed or have no signature."""
        return {**self.failed, **self.uncovered}

    @property
    def is_complete(self) -> bool:
        """True if no transfer and no deletion failed or was left out."""
        return not (self.failed or self.uncovered or self.not_tried or self.kept)

    def check(self) -> None:
        """Raise UploadErrors with all failures; return if the sync is complete."""
        if self.is_complete:
            return
        problems = self.problems
        shown = "; ".join(f"{n}: {why(e)}" for n, e in list(problems.items())[:3])
        done = f"{self.sent} of {self.sent + len(problems) + self.not_tried} files {self.verb}"
        msg = f"the sync is not complete ({done}): {shown}"
        raise UploadErrors(msg, failures=problems)


@define(kw_only=True)
class SyncRun:
    """One run of a sync; ``end`` runs it.

    Its attributes are mostly options of :func:`sync`. *direction* decides between
    upload and download.
    """

    direction: Upward | Downward
    rules: PlanRules = field(factory=PlanRules)
    delete: bool = False
    max_delete: int | None = None
    state: Any = None
    dry_run: bool = False
    on_event: Callable[[SyncEvent], None] | None = None
    confirm: Callable[[Sequence[Extra]], None] | None = None
    held: SyncState | None = None  # None without a state file, and in a dry run
    result: SyncResult = Factory(lambda: SyncResult(plan=Plan()))
    _lock: threading.Lock = Factory(threading.Lock)

    @property
    def root(self) -> str:
        return self.direction.root

    def end(self, on_error: str) -> SyncResult:
        """Run the sync, and return its result.

        With *on_error* ``raise``, an incomplete sync raises UploadErrors at its end;
        with ``return``, it does not.
        """
        started = time.monotonic()
        check_choice("on_error", on_error, ("raise", "return"))
        if self.max_delete is not None and not self.delete:
            raise ConfigurationError("max_delete= needs delete=True")
        result = self.result
        result.verb = self.direction.verb
        before: Mapping[str, Sent] = {}
        with contextlib.ExitStack() as stack:
            if self.state is not None and self.dry_run:
                before = read_state(self.state)
            elif self.state is not None:
                self.held = stack.enter_context(SyncState(self.state))
                before = self.held.rows
            self._make_plan(before)
            self._check_delete()
            self._report_plan()
            extra = result.plan.extra
            if self.dry_run:
                result.dry_run = True
                result.kept = 0 if self._is_clean else len(extra)
            else:
                if extra and self._is_clean and self.confirm is not None:
                    self.confirm(extra)
                self._transfer()
                self._delete_extra()
        result.seconds = time.monotonic() - started
        if on_error == "raise":
            result.check()
        return result

    @property
    def _is_clean(self) -> bool:
        return not (self.result.problems or self.result.not_tried)

    def _make_plan(self, before: Mapping[str, Sent]) -> None:
        side, root, result = self.direction, self.root, self.result
        listed = self._listed()
        rules = evolve(self.rules, listed=listed is not None)
        if listed and rules.how is How.TIME and side.clock:
            offset = self._clock_offset(next(iter(listed)))
            rules = evolve(rules, ahead=side.clock * offset)
        ours = (path for path in before if path.startswith(root))
        sent = {path.removeprefix(root): before[path] for path in ours}
        result.plan = planned = plan(side.entries(), listed or {}, sent, rules)
        proved = side.comparison().resolve(planned)
        if self.held is not None:
            for name, row in proved.items():
                self.held.record(root + name, row)
        result.unmatched = planned.extra
        planned.send = list(self._covered(planned.send))
        side.check(planned)
        planned.extra = planned.extra if self.delete else []
        for name, problem in planned.problems.items():
            result.failed[name] = ConfigurationError(problem, path=root + name)
        result.failed.update(planned.errors)

    def _listed(self) -> dict[str, Stored] | None:
        """Return name -> entry of the destination; None if listing is not granted.

        NotCoveredError if *delete* needs the listing. ConfigurationError if neither
        *state* nor *ignore_times* replaces the listing.
        """
        listed = self.direction.listed()
        if listed is not None:
            return listed
        if self.delete:
            msg = "delete needs a listing of the destination, which is not granted"
            raise NotCoveredError(msg, path=self.root, action=Action.ListObjectsV2)
        if self.state is None and not self.rules.ignore_times:
            msg = (
                "listing the destination is not granted, so its content is unknown: give "
                "state=FILE, which remembers what was sent, or ignore_times=True for all"
            )
            raise ConfigurationError(msg, path=self.root)
        return None

    def _clock_offset(self, name: str) -> float:
        """Return how many seconds this machine's clock is ahead of the store's.

        Any reply shows the store's clock, except a successful GET, such as a listing.
        Before the first such reply, HeadObject is sent. If that fails, the clocks are
        assumed to be equal.
        """
        client = self.direction.client
        if client.clock_offset is None:
            with contextlib.suppress(OSError):
                run(OSSCalls(client, Target(self.root + name)).head)
        return client.clock_offset or 0.0

    def _covered(self, items: list[Item]) -> Iterator[Item]:
        for item in items:
            try:
                self.direction.check_signed(item.entry.name)
            except NotCoveredError as error:
                self.result.uncovered[item.entry.name] = error
            else:
                yield item

    def _check_delete(self) -> None:
        """Raise an error if too many deletions are planned, or if none is granted.

        ConfigurationError if there are more than *max_delete*, or, without this limit,
        if the source has no file. NotCoveredError if deleting is not granted.
        """
        extras, plan, limit = self.direction.extras, self.result.plan, self.max_delete
        if not plan.extra:
            return
        count = len(plan.extra)
        if limit is not None and count > limit:
            msg = f"{count} {extras} would be deleted, the limit is {limit}: nothing was changed"
            raise ConfigurationError(msg, path=self.root)
        if limit is None and not plan.found:
            why = f"the source is empty, and all {count} {extras} would be deleted"
            msg = f"{why}: give max_delete={count} to confirm"
            raise ConfigurationError(msg, path=self.root)
        self.direction.check_delete(plan.extra[0].name)

    def _report_plan(self) -> None:
        planned, problems = self.result.plan, self.result.problems
        count = len(planned.send) + len(problems)
        self._report(EventKind.PLAN, size=planned.send_bytes, count=count)
        for name, kind in planned.left_out.items():
            self._report(EventKind.LEFT_OUT, name, why=kind)
        for name, error in problems.items():
            self._report_failure(name, 0, error)

    def _transfer(self) -> None:
        result = self.result
        entries = (item.entry for item in result.plan.send)
        before = len(result.problems)
        if not self.direction.fail_fast or self._is_clean:
            self.direction.transfer(entries, self)
        tried = result.sent + len(result.problems) - before
        result.not_tried = len(result.plan.send) - tried

    def _delete_extra(self) -> None:
        extra = self.result.plan.extra
        if extra and self._is_clean:
            client = self.direction.client
            scope: Scope[Extra, None] = Scope(
                self._delete_one,
                lambda each: each.name,
                width=client.options.max_small,
            )
            for name, error in run(scope.run_all, extra).items():
                self.result.failed[name] = error
                self._report_failure(name, 0, error)
        self.result.kept = len(extra) - len(self.result.deleted)

    async def _delete_one(self, extra: Extra) -> None:
        await self.direction.delete(extra.name)
        if self.held is not None:
            await blocking(self.held.forget, self.root + extra.name)
        self.result.deleted.append(extra.name)
        await self._emit(EventKind.DELETED, extra.name, extra.size)

    async def begin(self, entry: Entry) -> None:
        await self._emit(EventKind.BEGIN, entry.name, entry.size or 0)

    def mover(self, name: str) -> Callable[[int], None] | None:
        """Return a function that reports moved bytes of the file *name* to ``on_event``.

        It takes no lock, because ``on_event`` may wait. None without ``on_event``.
        """
        on_event = self.on_event
        if on_event is None:
            return None

        def moved(count: int) -> None:
            with user_code():
                on_event(SyncEvent(EventKind.BYTES, name, count))

        return moved

    def on_upload_event(self, entry: Entry, event: UploadEvent) -> None:
        kind, size = EventKind(event.kind), event.bytes_stored
        self._report(kind, entry.name, size, upload=event)

    async def stored(self, entry: Entry, receipt: Receipt | None) -> None:
        """Count and report a transferred file.

        The file is added to the state, unless its owner must still complete the upload.
        """
        kind, size = EventKind.FETCHED, entry.size or 0
        if receipt is not None:
            kind, size = EventKind.SENT, receipt.size
            if self.held is not None and receipt.status != "pending":
                known = entry.mtime_ns, entry.tag, receipt.etag, receipt.crc64
                await blocking(self.held.record, receipt.path, Sent(size, *known))
        self.result.sent += 1
        self.result.sent_bytes += size
        await self._emit(kind, entry.name, size)

    async def failed(self, entry: Entry, error: Exception) -> None:
        uncovered = isinstance(error, NotCoveredError)
        where = self.result.uncovered if uncovered else self.result.failed
        where[entry.name] = error
        if self.on_event is not None:
            await blocking(self._report_failure, entry.name, entry.size or 0, error)

    async def _emit(self, kind: EventKind, name: str, size: int) -> None:
        if self.on_event is not None:
            await blocking(self._report, kind, name, size)

    def _report_failure(self, name: str, size: int, error: Exception) -> None:
        uncovered = isinstance(error, NotCoveredError)
        kind = EventKind.UNCOVERED if uncovered else EventKind.FAILED
        self._report(kind, name, size, why=why(error), error=error)

    def _report(
        self, kind: EventKind, name: str = "", size: int = 0, **facts: Any
    ) -> None:
        with self._lock, user_code():
            if self.on_event is not None:
                self.on_event(SyncEvent(kind, name, size, **facts))


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
    ignore_times: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
    on_event: Callable[[SyncEvent], None] | None = None,
    confirm: Callable[[Sequence[Extra]], None] | None = None,
    on_error: str = "raise",
    **given: Any,
) -> SyncResult:
    """Upload new and changed files of a directory; :func:`sync_down` downloads.

    Both sides are listed, and the plan is made, before anything is sent or deleted.

    Args:
        source: a local directory, or the URL of a directory on any filesystem of
            fsspec.
        destination: ``bucket/prefix``; the content of *source* goes right below it.
        filesystem: filesystem of the destination; None creates one from
            *storage_options*.
        storage_options: options of the destination.
        source_options: storage options of the source.
        filters: rules such as ``"- *.tmp"`` or ``"+ *.csv"``, for both sides; the last
            rule that matches decides.
        compare: which files count as changed. ``time``: another size, or a file time
            after the object's. ``size``: another size. ``checksum``: another CRC-64.
        delete: at the end, delete objects that the source does not have, unless
            something failed.
        max_delete: maximum number of deletions; a run that would delete more is
            refused. None sets no limit, but refuses to delete if the source has no
            file.
        state: file with a record of each file sent; needed if listing is not granted,
            unless *ignore_times* is set.
        ignore_times: send all files, changed or not.
        fail_fast: stop at the first failure; by default all files are tried.
        dry_run: return the plan in the result, and change nothing.
        on_event: called for every step, from several threads; all events but ``bytes``
            come one at a time. The function must not raise.
        confirm: called with the objects to delete, before anything is done; raise an
            error to stop the run.
        on_error: ``raise`` failures at the end, or ``return`` them in the result.
        given: options for every object, such as ``content_type``.

    Raises:
        ConfigurationError: an option is invalid or missing; nothing was done.
        NotCoveredError: *delete* is set, and listing or deleting is not granted;
            nothing was done.
        FileNotFoundError: the source does not exist.
        UploadInProgressError: another process uses *state*.
        UploadErrors: some files failed or have no signature; all others were
            transferred.
    """
    check_choice("compare", compare, tuple(How))
    bucket, prefix = _root_of(destination, "destination")
    fs = filesystem or OSSPresignedFileSystem(**(storage_options or {}))
    ObjectOptions.from_call(fs.client.options, given)
    files = source_of(source, source_options or {})
    refuse_overlap(files, bucket, prefix)
    chosen = Filter.of((*Filter.of(filters).rules, *_against_state(files, state)))
    run = SyncRun(
        direction=Upward(
            filesystem=fs,
            source=files,
            root=f"{bucket}/{prefix}",
            given=given,
            fail_fast=fail_fast,
        ),
        rules=PlanRules(
            how=How(compare), filter=chosen, prefix=prefix, ignore_times=ignore_times
        ),
        delete=delete,
        max_delete=max_delete,
        state=state,
        dry_run=dry_run,
        on_event=on_event,
        confirm=confirm,
    )
    return run.end(on_error)


def sync_down(
    source: str,
    destination: Any,
    *,
    filesystem: OSSPresignedFileSystem | None = None,
    storage_options: Mapping[str, Any] | None = None,
    filters: Iterable[Rule | str] = (),
    compare: str = "time",
    delete: bool = False,
    max_delete: int | None = None,
    ignore_times: bool = False,
    fail_fast: bool = False,
    dry_run: bool = False,
    on_event: Callable[[SyncEvent], None] | None = None,
    confirm: Callable[[Sequence[Extra]], None] | None = None,
    on_error: str = "raise",
) -> SyncResult:
    """Download new and changed objects of a prefix; the reverse of :func:`sync`.

    Both sides are listed, and the plan is made, before anything is fetched or deleted.
    A file is replaced only after the whole object has arrived and its CRC-64 matches.
    No file is written outside of *destination*: a key that would lead outside fails,
    and links to directories are not followed.

    Args:
        source: ``bucket/prefix``; its content goes right below *destination*.
        destination: a local directory, which need not exist yet.
        filesystem: filesystem of the source; None creates one from
            *storage_options*.
        storage_options: options of the source.
        filters: as in :func:`sync`, for both sides.
        compare: which objects count as changed. ``time``: another size, or changed
            after the file was fetched. ``size``: another size. ``checksum``: another
            CRC-64, which reads every file.
        delete: at the end, delete local files that the source does not have, unless
            something failed.
        max_delete: maximum number of deletions; a run that would delete more is
            refused. None sets no limit, but refuses to delete if the source has no
            file.
        ignore_times: fetch all objects, changed or not.
        fail_fast: stop at the first failure; by default all files are tried.
        dry_run: return the plan in the result, and change nothing.
        on_event: as in :func:`sync`.
        confirm: called with the files to delete, before anything is done; raise an
            error to stop the run.
        on_error: ``raise`` failures at the end, or ``return`` them in the result.

    Raises:
        ConfigurationError: an option is invalid, or a file and a directory would have
            the same path; nothing was done.
        NotCoveredError: listing is not granted; nothing was done.
        FileNotFoundError: there is no object below *source*.
        UploadErrors: some files failed or have no signature; all others were
            transferred.
    """
    check_choice("compare", compare, tuple(How))
    bucket, prefix = _root_of(source, "source")
    fs = filesystem or OSSPresignedFileSystem(**(storage_options or {}))
    run = SyncRun(
        direction=Downward(
            filesystem=fs,
            source=RemoteSource(fs, f"{bucket}/{prefix}".rstrip("/")),
            target=target_of(destination),
            fail_fast=fail_fast,
        ),
        rules=PlanRules(
            how=How(compare),
            filter=Filter.of(filters),
            downward=True,
            ignore_times=ignore_times,
        ),
        delete=delete,
        max_delete=max_delete,
        dry_run=dry_run,
        on_event=on_event,
        confirm=confirm,
    )
    return run.end(on_error)


def _against_state(source: SyncSource, state: Any) -> Iterator[Rule]:
    """Yield rules that exclude the state file, its lock and its replacement.

    Yields rules only for files that are in the source.
    """
    if state is None or not isinstance(source, LocalSource):
        return
    front = source.path_of("")
    for path in state_files(state):
        for root in {front, os.path.join(os.path.realpath(front), "")}:
            if path.startswith(root):
                yield Rule.against(path.removeprefix(root))


def _root_of(root: str, what: str) -> tuple[str, str]:
    text = str(root)
    path = without_protocol(text).rstrip("/")
    bucket, key = split_path(path)
    if not bucket or "://" in path or not {".", ".."}.isdisjoint(path.split("/")):
        raise ConfigurationError(f"{text[:80]!r} is not a {what}: write BUCKET/PREFIX")
    return bucket, f"{key}/" if key else ""
