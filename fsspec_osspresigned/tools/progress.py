"""Progress of a transfer of many files: a bar on a terminal, lines, or JSON events."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attrs import define, field
from fsspec.callbacks import Callback
from fsspec.utils import common_prefix
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from ..errors import Outcome, UploadDiscardedError
from ..model import Receipt
from ..units import short_bytes, shown_local, shown_text
from .failures import ExitCode, Failure, code_of
from .language import translated_list

if TYPE_CHECKING:
    from ..upload.resume import UploadEvent

_BURST = 0.25  # after a pause, this many seconds' worth of bytes may go at once
_NAP = 0.1  # seconds after which a wait checks whether the limit was removed
_EVENT_EVERY = 1.0  # seconds between two progress events
_BAR_AFTER = 0.2  # seconds before a bar is drawn
_WIDE = 72  # minimum columns for a bar and the names of files
# If this many files in a row get no answer, the remaining files are not tried, because
# each has used up the time of all retries.
MAX_SILENT = 16
# Verb of a command that transfers bytes -> the preposition before the other end.
MOVING = {"uploaded": "from", "fetched": "to"}
_ENDS = {**MOVING, "copied": "to", "moved": "to"}


def _nothing(*_: object, **__: object) -> None:
    pass


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{short_bytes(task.speed)}/s" if task.speed else "")


def _columns(*, in_bytes: bool, wide: bool) -> list[ProgressColumn]:
    columns: list[ProgressColumn] = [TaskProgressColumn()]
    if in_bytes:
        columns += [
            DownloadColumn(binary_units=True),
            TimeRemainingColumn(compact=True),
            _RateColumn(),
        ]
    if not wide:
        return columns
    rest = Column(ratio=1, no_wrap=True)
    files = TextColumn("{task.fields[files]}", markup=False)
    name = TextColumn("{task.description}", markup=False, table_column=rest)
    return [BarColumn(None, table_column=Column(ratio=1)), *columns, files, name]


class TransferProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Callback of ``put`` and ``get``: counts bytes, keeps failures, limits the rate.

    Use it in a ``with`` block, which ends the bar.

    Args:
        verb: participle for a transferred file, such as ``uploaded``. For verbs that
            transfer no bytes, such as ``deleted``, the bar counts files.
        bar: draw a bar on standard error, if that is a terminal.
        say: is called with a line for each finished file; None prints nothing.
        event: is called with the name and the members of each event; None calls nothing.
        files: number of files.
        size: size of all files in bytes; None adds up the sizes of files as they start.
        rate: limit of the rate.
        fetching: True for downloads.
        skips: a file that fails with this class of error does not count as a failure.
            None counts every error.
        skip_word: word for such files in the event and in the summary.
        places: True keeps the common directory of stored objects.
    """

    def __init__(
        self,
        verb: str = "uploaded",
        *,
        bar: bool = False,
        say: Callable[[str], object] | None = None,
        event: Callable[..., object] | None = None,
        files: int = 0,
        size: int | None = None,
        rate: RateLimit | None = None,
        fetching: bool = False,
        skips: type[Exception] | None = None,
        skip_word: str = "skipped",
        places: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.files, self.files_done, self.files_failed = files, 0, 0
        # bytes include those of an earlier run
        self.bytes, self.bytes_done = size or 0, 0
        self.bytes_resumed = 0  # bytes that an earlier run stored
        self.failures: dict[str, Failure] = {}  # bucket/key -> failure
        self.interrupted = False
        # True if the remaining files are not tried: no server replies, or all files are
        # refused
        self.given_up = False
        self._silent = 0  # number of files in a row that got no answer
        self._skips, self._skip_word, self._skipped = skips or (), skip_word, 0
        self._places, self._common = places, ""  # common directory of all stored paths
        # paths of running transfers, the oldest first
        self.in_flight: dict[str, None] = {}
        self._knows_size = size is not None
        self.verb = verb
        self._say: Callable[..., object] = say if say is not None else _nothing
        self._event: Callable[..., object] = event if event is not None else _nothing
        self._rate, self._fetching = rate, fetching
        self._lock = threading.Lock()
        self._clock, self._started = clock, clock()
        self._told = self._started  # time of the last event
        console = Console(stderr=True)
        self._bar = Progress(
            *_columns(in_bytes=verb in MOVING, wide=console.width >= _WIDE),
            console=console,
            transient=True,
            redirect_stdout=False,
            get_time=clock,
            disable=not (bar and console.is_interactive),
            expand=True,
        )
        self._bar.add_task("", total=None, files="")
        (self._task,) = self._bar.tasks

    def close(self) -> None:
        """Remove the bar; later updates draw no new one."""
        if self._bar.live.is_started:
            self._bar.stop()
        self._bar.disable = True

    @property
    def moved(self) -> int:
        """Bytes that this run has transferred."""
        return max(0, self.bytes_done - self.bytes_resumed)

    @property
    def seconds(self) -> float:
        return self._clock() - self._started

    @property
    def also(self) -> list[str]:
        """Further counts for the summary, such as ``2 skipped``."""
        return [f"{self._skipped} {self._skip_word}"] if self._skipped else []

    @property
    def place(self) -> str:
        """Path of the stored object, or common directory of several.

        Empty without *places*.
        """
        several = self._common and self.files_done > 1
        return f"{self._common}/" if several else self._common

    def _stored(self, path: str) -> None:
        self.files_done += 1
        if self._places:
            self._common = common_prefix([self._common or path, path])

    def interrupt(self) -> None:
        """Note an interruption, and end the rate limit.

        From then on, discarded uploads do not count as failures. Takes no lock, so a
        signal handler may call it.
        """
        self.interrupted = True
        if self._rate is not None:
            self._rate.lift()

    def branched(self, path_1: str, path_2: str, **_: Any) -> Callback:
        path, local = (path_1, path_2) if self._fetching else (path_2, path_1)
        if self.given_up:
            raise UploadDiscardedError("not tried: no server has replied", path=path)
        self.begin(path)
        return _FileProgress(self, path, local, is_download=self.verb == "fetched")

    def begin(self, path: str) -> None:
        with self._lock:
            self.in_flight[path] = None

    def end_one(self, path: str, local: str, size: int | None) -> None:
        """Count a file as successful; *size* is in bytes, None if unknown."""
        with self._lock:
            self._silent = 0
            self._stored(path)
            is_named = local not in ("", "-")
            end = f" {_ENDS[self.verb]} {shown_local(local)}" if is_named else ""
            moved = f", {short_bytes(size)}" if size else ""
            self._say(f"{shown_text(path)}: {self.verb}{end}{moved}")
            self._show()  # keeps the file's name in the bar until the next file begins
            self.in_flight.pop(path, None)

    def stored(self, local: str, receipt: Receipt) -> None:
        with self._lock:
            self._event("stored", local=local, **receipt.as_dict())

    def fail(self, path: str, local: str, error: BaseException) -> None:
        """Record the failure of a file, once for each path.

        An error of the class *skips* leaves the file out of the count instead. After an
        interruption, a discarded upload is not recorded.
        """
        with self._lock:
            self.in_flight.pop(path, None)
            if self.interrupted and isinstance(error, UploadDiscardedError):
                return
            if isinstance(error, self._skips):
                self._skipped += 1
                self._silent = 0
                self.files -= 1
                with contextlib.suppress(OSError):
                    self.bytes -= os.path.getsize(local)
                self._say(f"{shown_text(path)}: {self._skip_word}")
                self._event(self._skip_word, path=path, local=local)
            elif path not in self.failures:
                failure = self.failures[path] = Failure(path, local, error)
                self.files_failed += 1
                if failure.outcome is Outcome.STORED:
                    self._stored(path)
                silent = code_of(error) is ExitCode.NETWORK
                self._silent = self._silent + 1 if silent else 0
                self.given_up = self.given_up or self._silent >= MAX_SILENT
                self._event("failed", **failure.as_dict())

    def expect(self, size: int) -> None:
        if not self._knows_size:
            with self._lock:
                self.bytes += size

    def on_upload_event(self, event: UploadEvent) -> None:
        with self._lock:
            if event.kind == "resumed":
                self.bytes_resumed += event.bytes_stored
            self._event(**event.as_dict())

    def move(self, count: int) -> None:
        """Add *count* transferred bytes; a negative *count* subtracts a failed try."""
        with self._lock:
            before = self.moved
            self.bytes_done += count
            moved = self.moved - before
            self._show()
        if self._rate is not None and moved > 0:
            self._rate.take(moved)

    def _show(self) -> None:
        done, total = self.moved, self.bytes - self.bytes_resumed
        if self.verb not in MOVING:
            done, total = self.files_done, self.files
        # Passing a new total to update() would reset the rate.
        self._task.total, self._task.finished_time = total or None, None
        files = [f"{self.files_done}/{self.files} files"] if self.files else []
        if self.files and self.files_failed:
            files.append(f"{self.files_failed} failed")
        self._bar.update(
            self._task.id,
            completed=done,
            files=translated_list(files),
            description=self._under_way(),
        )
        if self.interrupted:
            return
        if self.seconds >= _BAR_AFTER and not self._bar.live.is_started:
            self._bar.start()
        if self._clock() - self._told >= _EVENT_EVERY:
            self._told, left = self._clock(), self._task.time_remaining
            self._event(
                "progress",
                files_done=self.files_done,
                files_failed=self.files_failed,
                files=self.files,
                bytes_done=self.bytes_done,
                bytes=self.bytes,
                rate=round(self._task.speed or 0),
                seconds_left=left,
            )

    def _under_way(self) -> str:
        """Return the name of the oldest running file, and the number of others."""
        name = shown_text(next(iter(self.in_flight), "").rstrip("/").rpartition("/")[2])
        return f"{name} +{len(self.in_flight) - 1}" if len(self.in_flight) > 1 else name


class _FileProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Progress callback of one file; a download without a size was a directory."""

    def __init__(
        self, root: TransferProgress, path: str, local: str, *, is_download: bool
    ) -> None:
        super().__init__()
        self._root, self._is_download = root, is_download
        self._names = path, local

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None and self._is_download and self.size is None:
            error = IsADirectoryError(21, "a prefix: add --recursive", self._names[0])
        if error is None:
            self._root.end_one(*self._names, self.size)
        elif isinstance(error, Exception):
            self._root.fail(*self._names, error)

    def set_size(self, size: int | None) -> None:
        before = self.size or 0
        super().set_size(size)
        self._root.expect((size or 0) - before)

    def relative_update(self, inc: int = 1) -> None:
        super().relative_update(inc)
        self._root.move(inc)

    def on_upload_event(self, event: UploadEvent) -> None:
        self._root.on_upload_event(event)


@define
class RateLimit:
    """Limit of bytes per second over all threads.

    A thread that exceeds the limit waits until the average is within the limit again.
    So blocks may have any size.
    """

    per_second: float  # bytes per second
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    _lifted: bool = field(default=False, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    # time when all bytes so far are within the limit
    _paid: float = field(init=False, default=-math.inf)

    def take(self, size: int) -> None:
        with self._lock:
            start = max(self._paid, self.clock() - _BURST)
            end = self._paid = start + size / self.per_second
        while not self._lifted and (left := end - self.clock()) > 0:
            self.sleep(min(left, _NAP))

    def lift(self) -> None:
        """Remove the rate limit, and end all waits for it.

        Takes no lock, so a signal handler may call it.
        """
        self._lifted = True
