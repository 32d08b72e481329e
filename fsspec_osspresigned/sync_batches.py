"""Files of a sync in batches, for other processes and machines."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias

from attrs import frozen

from .errors import ConfigurationError
from .model import MIB, Receipt
from .sync_plan import Entry
from .sync_sending import Going, Listener

_FILES = 64
_BYTES = 128 * MIB
_OUTSTANDING = 128  # batches that an executor has at a time


@frozen
class Batch:
    """Some files for another process or machine: no secret, no bytes.

    Attributes:
        filesystem: of the destination, which travels by its options.
        going: what the files have in common.
        entries: the files.
    """

    filesystem: Any
    going: Going
    entries: tuple[Entry, ...]


Outcome: TypeAlias = tuple[Entry, Receipt | Exception]


def run_batch(batch: Batch) -> list[Outcome]:
    """Send a batch, and return what became of the files that were tried."""
    found: list[Outcome] = []

    def done(entry: Entry, outcome: Receipt | Exception) -> None:
        found.append((entry, outcome))

    told = Listener(_nothing, _nothing, done, done)
    batch.going.send(batch.filesystem.client, batch.entries, told)
    return found


def _nothing(*_: Any) -> None:
    """Tell nobody."""


def spread(
    executor: Any,
    filesystem: Any,
    going: Going,
    entries: Iterable[Entry],
    told: Listener,
) -> None:
    """Send *entries* in batches through *executor*; nothing runs there at the end.

    Args:
        executor: of ``concurrent.futures``, or a client of dask.
        filesystem: of the destination.
        going: what the files have in common.
        entries: the files.
        told: is told here, when a batch is back; bytes are not counted.
    """
    if hasattr(executor, "get_executor"):  # of dask; equal work is done again there
        executor = executor.get_executor(pure=False)
    coming = _batches(filesystem, going, entries)
    running: dict[Future[list[Outcome]], Batch] = {}
    try:
        while True:
            for batch in itertools.islice(coming, _OUTSTANDING - len(running)):
                running[_submit(executor, batch, told)] = batch
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                if not _took(future, running.pop(future), told):
                    coming = iter(())
                    running = _without_queued(running)
                    break  # the others are done, and come next
    except BaseException:
        wait(_without_queued(running))
        raise


def _without_queued(
    running: dict[Future[list[Outcome]], Batch],
) -> dict[Future[list[Outcome]], Batch]:
    """Cancel what has not begun, and return the rest: that must be waited for."""
    return {future: batch for future, batch in running.items() if not future.cancel()}


def _submit(executor: Any, batch: Batch, told: Listener) -> Future[list[Outcome]]:
    for entry in batch.entries:
        told.begin(entry)
    try:
        future: Future[list[Outcome]] = executor.submit(run_batch, batch)
    except Exception as error:  # noqa: BLE001 - a pool whose processes have died
        future = Future()
        future.set_exception(error)
    return future


def _took(future: Future[list[Outcome]], batch: Batch, told: Listener) -> bool:
    """Take in a batch; return whether it makes sense to go on."""
    if future.cancelled():
        return False
    error = future.exception()
    if isinstance(error, Exception):
        for entry in batch.entries:
            told.failed(entry, error)
        return not batch.going.fail_fast
    found = future.result()
    for entry, outcome in found:
        if isinstance(outcome, Exception):
            told.failed(entry, outcome)
        else:
            told.stored(entry, outcome)
    # It stops before its end at the first failure, or where all is refused.
    return len(found) == len(batch.entries) and not (
        batch.going.fail_fast and any(isinstance(one, Exception) for _, one in found)
    )


def _batches(
    filesystem: Any, going: Going, entries: Iterable[Entry]
) -> Iterator[Batch]:
    """Yield *entries* in batches of few files and bytes; a large one goes alone."""
    held: list[Entry] = []
    size = 0
    for entry in entries:
        more = entry.size or 0
        if held and (len(held) == _FILES or size + more > _BYTES):
            yield Batch(filesystem, going, tuple(held))
            held, size = [], 0
        held.append(entry)
        size += more
    if held:
        yield Batch(filesystem, going, tuple(held))


def check_portable(executor: Any, filesystem: Any, going: Going) -> None:
    """Refuse what cannot, or must not, travel to where *executor* works.

    Raises:
        ConfigurationError: naming it.
    """
    if isinstance(executor, ThreadPoolExecutor):
        return
    going.source.check_portable()
    try:
        pickle.dumps((filesystem, going))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        msg = f"executor= needs what can travel to another process: {error}"
        raise ConfigurationError(msg) from None
