"""Transaction: several objects published together, at the end of its ``with`` block.

The transaction in progress belongs to the context (:mod:`contextvars`), not to the
filesystem: each thread of the program sees only its own. Coroutines and tasks that begin
in the same context take part in it, also in worker threads of this package.
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Self, TypeAlias

from attrs import evolve

from ..callers import is_thread_of_duckdb
from ..client.client import Client
from ..engine.engine import blocking, call_user, run, to_its_end, waiting
from ..engine.logs import Logger
from ..engine.scope import Scope, in_parallel
from ..errors import (
    ConfigurationError,
    DiscardWarning,
    Outcome,
    ReceiptFailedError,
    UploadDiscardedError,
    UploadErrors,
)
from ..http.body import Body, MemoryBody, Source, SpooledBody, bytes_in
from ..model import CONNECTIONS, Operation, Receipt
from ..options.target import Target
from ..signers.base import MAX_REQUESTS
from ..units import MIB
from .upload import ALONE, TransferContext, Upload

if TYPE_CHECKING:
    from .codecs import ChainedWriter, TextWriter
    from .writer import PresignedWriter

# An object that is published when its transaction ends: a whole object given to a
# method, or a file that is written.
Pending: TypeAlias = "Upload | PresignedWriter | ChainedWriter | TextWriter"

_log = Logger(__name__)

# Maximum bytes in memory for all small objects of one transaction.
MEMORY = 32 * MIB

_begun: ContextVar[tuple[Transaction, ...]] = ContextVar("osspresigned", default=())


class HeldCopies:
    """Copies of small objects: *limit* bytes in memory, the rest in an unnamed file."""

    def __init__(self, limit: int = MEMORY) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self.in_memory = 0
        self._spool: SpooledBody | None = None

    def keep(self, body: Body) -> Source:
        with self._lock:
            spool = None
            if self.in_memory + body.size <= self._limit:
                self.in_memory += body.size
            else:
                spool = self._spool = self._spool or SpooledBody()
        if spool is None:
            return MemoryBody(bytes_in(body))
        return spool.append(body)

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


def current(client: Client) -> Transaction | None:
    """Return this context's transaction on *client*; None if there is none."""
    for transaction in reversed(_begun.get()):
        if transaction.client is client and transaction.under_way:
            return transaction
    return None


def around_statement(client: Client) -> Transaction | None:
    """Return the only possible transaction of a DuckDB statement; None if several match.

    A thread of DuckDB has no context, so any transaction on *client* may be the right
    one.
    """
    seen = _seen_here(client)
    return seen[0] if len(seen) == 1 else None


def refuse_held(
    client: Client, names: Iterable[str], *, recursive: bool = False
) -> None:
    """Raise ConfigurationError if *names* match an unpublished object.

    Moving or deleting it would change the old object of that path. *names* are paths or
    patterns; *recursive* includes everything below them. Only the transaction of this
    context counts; in a thread of DuckDB, any transaction on *client*.
    """
    held = {path.rstrip("/") for one in _seen_here(client) for path in one.held()}
    for name in names if held else ():
        for path in held:
            is_below = path.startswith(f"{name}/") or fnmatchcase(path, f"{name}/*")
            if path == name or fnmatchcase(path, name) or (recursive and is_below):
                text = (
                    "it waits for the end of its transaction, so it cannot be moved or "
                    "deleted; in a COPY of DuckDB, give USE_TMP_FILE false"
                )
                raise ConfigurationError(text, path=path)


def _seen_here(client: Client) -> list[Transaction]:
    own = current(client)
    if own is not None or not is_thread_of_duckdb():
        return [] if own is None else [own]
    with _open_lock:
        begun = list(_open)
    return [one for one in begun if one.client is client and one.under_way]


class Transaction:
    """Collects objects, and publishes them at its end; none of them after an exception.

    If publishing itself fails, some of them may be published (``complete``). Nested
    blocks form one transaction. Everything is published at the end of the outermost
    block. An exception that leaves an inner block discards the objects of that block.

    Attributes:
        files: objects that wait to be published.
        receipts: receipts of published objects, in the order of addition.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.files: list[Pending] = []
        self.receipts: list[Receipt] = []
        self._cancelled: list[str] = []  # paths whose calls were cancelled
        # For each block: the number of files and of cancelled calls before it.
        self._marks: list[tuple[int, int]] = []
        self._copies = HeldCopies()
        # operations that are signed at the end
        self._coming: Iterator[Operation] = iter(())
        self._prefetcher = client.prefetcher(
            lambda: next(self._coming, None),
            first=MAX_REQUESTS,
            low=max(client.options.connections, MAX_REQUESTS),
        )
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def under_way(self) -> bool:
        """True if the transaction has begun in this process and has not ended."""
        return bool(self._marks) and self._pid == os.getpid()

    def start(self) -> Self:
        """Begin the transaction, which publishes the objects of this context at its end."""
        if not self._marks:
            with _open_lock:
                _open.add(self)
            _begun.set((*_under_way(), self))
        self._marks.append((len(self.files), len(self._cancelled)))
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.complete(commit=error is None, reason=error)

    def complete(
        self, commit: bool = True, reason: BaseException | None = None
    ) -> None:
        """End the transaction: publish all objects, or none if *commit* is False.

        *reason* is the exception that ended the block; after an interrupt, discarding
        takes a few seconds at most.

        First all parts are sent. Then the objects are published, several at a time; the
        object that was added last is published after all others. If several objects
        have the same path, the last one wins.

        Raises:
            UploadErrors: several objects failed, or some were published before one
                failed; ``.receipts``, ``.failures`` and ``.discarded`` list them.
            UploadDiscardedError: the only failure was a file that was still open;
                nothing was published.
            Exception: any other single failure, if no other object was published. Its
                ``outcome`` says whether its object is stored.
        """
        if not self.under_way:
            return
        is_inner = len(self._marks) > 1
        files, cancelled = self._end_block(keep=commit and is_inner)
        try:
            if commit and not is_inner:
                run(self._publish, files, cancelled)
            else:
                run(_discard, files, reason)
        except BaseException as error:
            # an interrupt may come before anything was published or discarded
            run(_discard, files, error)
            raise
        finally:
            if not is_inner:
                self._copies.close()
                self._copies = HeldCopies()
                with _open_lock:
                    _open.discard(self)
                _begun.set(_under_way())

    def _end_block(self, *, keep: bool) -> tuple[list[Pending], list[str]]:
        """End the innermost block; remove its objects and cancelled calls, and return them.

        With *keep*, leave them in the transaction, and return empty lists.
        """
        with self._lock:
            files, cancelled = self._marks.pop()
            if keep:
                return [], []
            taken = self.files[files:], self._cancelled[cancelled:]
            del self.files[files:], self._cancelled[cancelled:]
            return taken

    def add(self, file: Pending) -> None:
        """Add an upload that the end of the transaction will publish."""
        with self._lock:
            self.files.append(file)

    def fail(self, path: str) -> None:
        """Let the transaction fail, because the call that wrote *path* was cancelled."""
        with self._lock:
            self._cancelled.append(path)

    async def add_source(
        self, target: Target, source: Source, context: TransferContext = ALONE
    ) -> None:
        """Add the object *target* with the bytes of *source*.

        The parts of a large object are sent now. A small object is copied, and sent at
        the end. So the caller may change *source* afterwards. Raises like
        ``upload_source``.
        """
        context = evolve(context, prefetcher=self._prefetcher)
        begin = partial(Upload.begin, self.client, target, size=source.size)
        upload = await begin(context=context)
        heard = None if upload.plan.multipart else context.progress
        if heard is not None:
            # the bytes of a small object are counted now, not at the end
            upload = await begin(context=evolve(context, progress=None))
        try:
            if upload.plan.multipart:
                await upload.add_source(source)
            else:
                await upload.add(await blocking(self.keep, source))
                await upload.wait_for_parts()  # raises a refusal now, not at the end
            if heard is not None:
                await call_user(heard, source.size)
        except BaseException as error:
            await upload.discard(error)
            raise
        self.add(upload)

    def keep(self, body: Body) -> Source:
        """Return a copy of *body*; the caller may change *body* afterwards."""
        return self._copies.keep(body)

    def held(self) -> set[str]:
        """Return the paths of all unpublished objects."""
        with self._lock:
            return {file.path for file in self.files}

    async def _publish(
        self, files: Sequence[Pending], cancelled: list[str]
    ) -> list[Receipt]:
        """Publish *files*, and return their receipts.

        An interrupt that comes later gets a note about each of them, see ``run``.
        """
        last = {file.path: file for file in files}
        chosen = [file for file in files if last[file.path] is file]
        why = "the call that wrote it was cancelled"
        failures: dict[str, Exception] = {
            path: UploadDiscardedError(why, path=path) for path in cancelled
        }
        reason: BaseException | None = None
        try:
            await _discard([file for file in files if last[file.path] is not file])
            failures |= await self._wait_for_parts(chosen)
            failures = failures or await self._commit(chosen)
        except BaseException as error:
            error.add_note(f"at least {_summary(chosen, {})}")
            reason = error
            raise
        finally:
            self.receipts = [
                file.receipt for file in chosen if file.receipt is not None
            ]
            unpublished = [file for file in chosen if file.receipt is None]
            await to_its_end(_discard(unpublished, reason))
            del reason
        if not failures:
            return self.receipts
        summary = _summary(chosen, failures)
        if len(failures) == 1 and not self.receipts:
            (only,) = failures.values()
            only.add_note(summary)
            raise only
        shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
        raise UploadErrors(
            f"{summary}: {shown}",
            failures=failures,
            receipts=self.receipts,
            discarded=[file.path for file in unpublished if file.path not in failures],
        )

    async def _wait_for_parts(self, files: Iterable[Pending]) -> dict[str, Exception]:
        """Wait until the parts of all objects are sent; return path -> failure."""
        failures: dict[str, Exception] = {}
        for file in files:
            try:
                if isinstance(file, Upload):
                    await file.wait_for_parts()
                else:
                    await waiting(file.wait_for_parts, stop=file.abandon)
            except Exception as error:  # noqa: BLE001 - it is raised together with all others
                failures[file.path] = error
        return failures

    async def _commit(self, chosen: list[Pending]) -> dict[str, Exception]:
        self._coming = (
            file.job.calls.target.operation(
                file.plan.action, content_length=file.job.size
            )
            for file in chosen
            if isinstance(file, Upload) and not file.plan.multipart
        )

        async def work(file: Pending) -> None:
            if isinstance(file, Upload):
                await file.finish()
            else:
                await waiting(file.commit, stop=file.abandon)

        failures: dict[str, Exception] = {}
        # The file that was written last, such as a marker, becomes visible after all
        # others.
        for files in (chosen[:-1], chosen[-1:]):
            scope = Scope(
                work, lambda file: file.path, width=self.client.options.connections
            )
            failures |= await scope.run_all(files)
            if not all(isinstance(e, ReceiptFailedError) for e in failures.values()):
                break
        return failures


def _under_way() -> tuple[Transaction, ...]:  # transactions in this context
    return tuple(transaction for transaction in _begun.get() if transaction.under_way)


async def _discard(
    files: Sequence[Pending], reason: BaseException | None = None
) -> None:
    async def work(file: Pending) -> None:
        try:
            if isinstance(file, Upload):
                await file.discard(reason)
            else:
                if not isinstance(reason, Exception | None):
                    file.abandon()
                await waiting(file.discard, stop=file.abandon)
        except Exception as error:  # noqa: BLE001 - the others must be discarded too
            _log.warning("%s could not be discarded: %s", file.path, error)

    try:
        await in_parallel(work, files, CONNECTIONS)
    except BaseException:
        # This task was cancelled, so the engine discards the remaining files in the
        # background.
        for file in files:
            file.abandon()
        raise


def _summary(files: Sequence[Pending], failures: Mapping[str, Exception]) -> str:
    outcomes = [getattr(error, "outcome", None) for error in failures.values()]
    stored = sum(
        file.receipt is not None and file.path not in failures for file in files
    )
    stored += outcomes.count(Outcome.STORED)
    unsure = outcomes.count(Outcome.UNKNOWN)
    text = f"{stored} of {len(files)} objects of the transaction published"
    return f"{text}, {unsure} unknown" if unsure else text


# Transactions under way in all contexts; the set keeps none of them alive.
_open: weakref.WeakSet[Transaction] = weakref.WeakSet()
_open_lock = threading.Lock()


@atexit.register
def warn_of_open() -> None:
    """Warn of transactions that never ended; ``abort_at_exit`` removes their parts."""
    for transaction in list(_open):
        if transaction.under_way and transaction.files:
            text = f"a transaction of {len(transaction.files)} objects was never ended"
            warnings.warn(f"{text}: nothing was published", DiscardWarning, 2)
