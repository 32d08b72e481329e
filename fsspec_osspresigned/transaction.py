"""Several objects that are published together, at the end of ``with fs.transaction``.

Which transaction is under way is a matter of the context (:mod:`contextvars`), not of
the filesystem: threads that share one see only their own. What runs in the same context
joins: coroutines and tasks, and workers to which we hand its work.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .body import Body, Source
from .client import Client
from .errors import UploadErrors
from .model import Receipt
from .publish import Target
from .signers.base import MAX_REQUESTS
from .transfers import Transfers
from .workers import Cancellation

if TYPE_CHECKING:
    from .deferred import Holding, Pending

_log = logging.getLogger(__name__)

_begun: ContextVar[tuple[Transaction, ...]] = ContextVar("osspresigned", default=())


def current(client: Client) -> Transaction | None:
    """Return the transaction on *client* that this context has begun; None if none."""
    for one in reversed(_begun.get()):
        if one.client is client and one.under_way:
            return one
    return None


class Transaction:
    """Gathers objects, and publishes all of them at its end, or none.

    Begun again while it is under way, it is one transaction still: everything is
    published at the outermost end, and an exception that leaves an inner block
    discards what that block has added.

    Attributes:
        client: signs and sends.
        files: what waits to be published.
        receipts: of what was published, in the order in which it was added.
    """

    def __init__(self, client: Client) -> None:
        """Begin nothing yet."""
        self.client = client
        self.files: list[Pending] = []
        self.receipts: list[Receipt] = []
        self._marks: list[int] = []  # of each block: what was there before
        self._holding: Holding | None = None  # from the first copy on
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def under_way(self) -> bool:
        """Whether it was begun, in this process, and has not ended."""
        return bool(self._marks) and self._pid == os.getpid()

    def start(self) -> None:
        """Begin: what this context writes from now on waits for the end."""
        if not self._marks:
            _open.add(self)
            _begun.set((*_begun.get(), self))
        self._marks.append(len(self.files))

    def __enter__(self) -> Self:
        """Begin."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        self.complete(commit=error is None)

    def complete(self, commit: bool = True) -> None:
        """End: publish everything, or with *commit* False nothing.

        First it is made sure that all of it can be published; then it is, several
        objects at once, and the one that was added last after all the others. Of
        several for one path the last counts.

        Raises:
            UploadErrors: some were published and some were not: ``.receipts`` and
                ``.failures`` and ``.discarded`` say which.
            Exception: what failed, where nothing was published.
        """
        if not self.under_way:
            return
        with self._lock:
            mark = self._marks.pop()
            outermost = not self._marks
            first = 0 if outermost else mark
            files = self.files[first:]
            if outermost or not commit:
                del self.files[first:]
        if not outermost:
            if not commit:
                _discard(files)
            return
        try:
            if commit:
                self._publish(files)
            else:
                _discard(files)
        finally:
            holding, self._holding = self._holding, None
            if holding is not None:
                holding.close()
            _open.discard(self)
            _begun.set(tuple(one for one in _begun.get() if one.under_way))

    # -- taking ---------------------------------------------------------------------------

    def add(self, one: Pending) -> None:
        """Take an object that is being written."""
        with self._lock:
            self.files.append(one)

    def take(
        self,
        target: Target,
        source: Source,
        *,
        progress: Callable[[int], None] | None = None,
        cancel: Cancellation | None = None,
    ) -> None:
        """Take an object as a whole: see :func:`~fsspec_osspresigned.deferred.defer`."""
        from .deferred import defer  # noqa: PLC0415 - transactions are seldom

        self.add(
            defer(
                self.client,
                target,
                source,
                self._held(),
                progress=progress,
                cancel=cancel,
            )
        )

    def keep(self, body: Body) -> Body:
        """Return a body of the same bytes that needs *body* no more."""
        return self._held().keep(body)

    def _held(self) -> Holding:
        """Return what has the copies of this transaction."""
        from .deferred import Holding  # noqa: PLC0415 - transactions are seldom

        with self._lock:
            if self._holding is None:
                self._holding = Holding()
            return self._holding

    def holds(self, path: str) -> bool:
        """Return whether an object for *path* waits."""
        with self._lock:
            return any(one.path == path for one in self.files)

    # -- publishing -----------------------------------------------------------------------

    def _publish(self, files: Sequence[Pending]) -> None:
        last = {one.path: one for one in files}
        chosen = [one for one in files if last[one.path] is one]
        try:
            _discard(one for one in files if last[one.path] is not one)
            failures = _settle(chosen)
            if not failures:
                failures = self._commit(chosen)
        except BaseException as error:
            error.add_note(_summary(chosen))
            raise
        finally:
            self.receipts = [one.receipt for one in chosen if one.receipt is not None]
            left = [one for one in chosen if one.receipt is None]
            _discard(left)
        if not failures:
            return
        if len(failures) == 1 and not self.receipts:
            (only,) = failures.values()
            only.add_note(_summary(chosen))
            raise only
        shown = "; ".join(f"{p}: {e}" for p, e in list(failures.items())[:3])
        raise UploadErrors(
            f"{_summary(chosen)}: {shown}",
            failures=failures,
            receipts=self.receipts,
            discarded=[one.path for one in left if one.path not in failures],
        )

    def _commit(self, chosen: list[Pending]) -> dict[str, Exception]:
        """Publish; return what failed: after a failure no other is begun."""
        from .deferred import HeldObject  # noqa: PLC0415 - transactions are seldom

        coming = (
            one.target.put_operation(one.body.size)
            for one in chosen
            if isinstance(one, HeldObject)
        )
        ahead = self.client.ahead(
            lambda: next(coming, None),
            first=MAX_REQUESTS,
            low=self.client.options.max_concurrency,
        )

        def work(one: Pending, cancel: Cancellation) -> None:
            if isinstance(one, HeldObject):
                one.ahead, one.cancel = ahead, cancel
            one.commit()

        # Whoever reads a marker that was written last must find all the rest.
        for some in (chosen[:-1], chosen[-1:]):
            width = min(len(some), self.client.options.max_concurrency)
            run = Transfers(self.client.files, width, work, lambda one: one.path)
            failures = run.failures_of(some)
            if failures:
                return failures
        return {}


def _settle(files: Iterable[Pending]) -> dict[str, Exception]:
    failures: dict[str, Exception] = {}
    for one in files:
        try:
            one.settle()
        except Exception as error:  # noqa: BLE001 - told with all others
            failures[one.path] = error
    return failures


def _discard(files: Iterable[Pending]) -> None:
    """Discard each, whatever comes of the others."""
    for one in files:
        try:
            one.discard()
        except Exception as error:  # noqa: BLE001 - the others must be discarded too
            _log.warning("%s could not be discarded: %s", one.path, error)


def _summary(files: Sequence[Pending]) -> str:
    stored = sum(one.receipt is not None for one in files)
    return f"{stored or 'none'} of {len(files)} objects of the transaction published"


# Only to say at exit what nobody has ended; it keeps nothing alive.
_open: weakref.WeakSet[Transaction] = weakref.WeakSet()


@atexit.register
def _tell_open() -> None:
    """Warn of what was never published; parts are removed where all uploads are."""
    for one in list(_open):
        if one.under_way and one.files:
            text = f"a transaction of {len(one.files)} objects was never ended"
            warnings.warn(f"{text}: nothing was published", ResourceWarning, 2)
