"""Makes a destination what a source is: ``sync``, and what it refuses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from .errors import ConfigurationError, NotSignedError
from .filesystem import OSSPresignedFileSystem
from .model import Action, split_path
from .object_options import ObjectOptions
from .sync_batches import check_portable
from .sync_filter import Filter, Rule
from .sync_plan import Extra, How, Rules, Sent
from .sync_result import SyncEvent, SyncResult
from .sync_run import SyncRun, listed
from .sync_sending import Going
from .sync_source import LocalSource, SyncSource, refuse_overlap, source_of
from .sync_state import SyncState, read_state, state_files


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
    rules = Rules(how=How(compare), filter=chosen, prefix=prefix, always=always)
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
