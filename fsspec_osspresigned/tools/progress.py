"""Progress of a transfer of many files, and the summary of a command.

Progress is a bar, log lines or JSON events. The summary has the number of files, and the
failures.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import re
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from attrs import Factory, define, field, frozen
from fsspec.callbacks import Callback

from ..errors import Outcome, UploadDiscardedError
from ..model import Receipt
from ..units import MIB, short_bytes, shown_local, shown_text
from .terminal import (
    ExitCode,
    Failure,
    Output,
    code_of,
    code_of_all,
    last_columns,
    told,
    wrapped,
)

if TYPE_CHECKING:
    from ..upload.resume import UploadEvent

_BURST = 0.25  # seconds' worth of bytes that may go at once after a pause
_NAP = 0.1  # seconds after which a wait looks whether the limit was lifted
_WINDOW = 15.0  # seconds that the measured rate looks back
_SPACING = 0.25  # seconds between two samples of it
_MIN_BAR, _MAX_BAR = 8, 40  # characters
_MIN_NAME, _MAX_NAME = 12, 30  # columns
# After so many files without an answer, one after the other, the rest is not tried:
# each of them has waited for its retries.
MAX_SILENT = 16
# Verbs, and the word before the other end of the transfer.
_ENDS = {"stored": "from", "fetched": "to", "copied": "to", "moved": "to"}
LIVE_EVERY = 0.1  # seconds between two drawings of the bar
_LINES_EVERY = 10.0  # seconds between two lines of a file or a pipe


@define
class Meter:
    """Counters of a transfer; the caller must hold a lock."""

    clock: Callable[[], float] = time.monotonic
    files: int = 0  # all, as far as known
    size: int = 0  # bytes of all files, as far as known
    files_done: int = 0
    files_failed: int = 0
    done: int = 0  # bytes that this run transferred, or that an earlier run stored
    resumed: int = 0  # bytes that an earlier run stored, as far as known
    running: dict[str, None] = field(factory=dict)  # paths under way, oldest first
    started: float = field(
        init=False, default=Factory(lambda self: self.clock(), takes_self=True)
    )
    _samples: deque[tuple[float, int]] = field(factory=deque, init=False)

    def move(self, count: int) -> None:
        """Add *count* transferred bytes; a negative *count* subtracts a failed try."""
        self.done += count
        now, samples = self.clock(), self._samples
        if not samples or now - samples[-1][0] >= _SPACING:
            samples.append((now, self.moved))
        while now - samples[0][0] > _WINDOW:
            samples.popleft()

    @property
    def moved(self) -> int:
        return max(0, self.done - self.resumed)

    @property
    def seconds(self) -> float:
        return self.clock() - self.started

    @property
    def rate(self) -> float:
        """Recent transfer rate in bytes per second; 0 before the first byte."""
        since, before = self._samples[0] if self._samples else (self.started, 0)
        if self.clock() - since < _SPACING:
            since, before = self.started, 0
        return max(0.0, (self.moved - before) / max(self.clock() - since, 1e-3))

    @property
    def left(self) -> float | None:
        """Estimated seconds until the transfer ends; None if unknown."""
        rate = self.rate
        return max(0, self.size - self.done) / rate if rate and self.size else None

    @property
    def share(self) -> float:
        """Completed fraction of bytes, 0 to 1; of files if the size in bytes is 0."""
        if self.size:
            return min(1.0, self.done / self.size)
        return self.files_done / self.files if self.files else 0.0

    @property
    def _failed(self) -> str:
        return f", {self.files_failed} failed" if self.files_failed else ""

    def line(self, width: int) -> str:
        """Return the state as one line: a bar, numbers, and the oldest running file.

        What does not fit into *width* characters is left out.
        """
        done, size = short_bytes(self.done), short_bytes(self.size)
        number, _, unit = done.partition(" ")
        text = ""
        for wanted in (
            f"{self.share:4.0%}" if self.size or self.files else "",
            f"{number if size.endswith(f' {unit}') else done}/{size}"
            if self.size
            else done,
            "" if self.left is None else short_seconds(self.left),
            f"{short_bytes(self.rate)}/s",
            f"{self.files_done}/{self.files} files{self._failed}" if self.files else "",
        ):
            longer = f"{text}  {wanted}" if text else wanted
            if wanted and len(longer) <= width:
                text = longer
        space = width - len(text) - 3
        # Half of it for names, so that the bar keeps its length when they change.
        name_room = min(space // 2, _MAX_NAME) if self.running else 0
        name_room = name_room if name_room >= _MIN_NAME else 0
        room = min(space - name_room, _MAX_BAR)
        if room >= _MIN_BAR:
            text = f"[{'#' * round(room * self.share):<{room}}] {text}"
        return text + (self._oldest(name_room) if name_room else "")

    def _oldest(self, room: int) -> str:
        """Return the name of the oldest running file, and the number of other ones.

        The text has at most *room* columns.
        """
        others = f" +{len(self.running) - 1}" if len(self.running) > 1 else ""
        name = shown_text(next(iter(self.running)).rstrip("/").rpartition("/")[2])
        return f"  {last_columns(name, room - len(others) - 2)}{others}"

    def sentence(self) -> str:
        ends = "" if self.left is None else f", {short_seconds(self.left)} left"
        files = f"{self.files_done} of {self.files} files, " if self.files else ""
        size = f" of {short_bytes(self.size)}" if self.size else ""
        rate = f"{short_bytes(self.rate)}/s"
        return f"{files}{short_bytes(self.done)}{size}, {rate}{ends}{self._failed}"

    def text(self, output: Output, label: str = "") -> str:
        """Return *label* and the state: as a bar for a terminal, else as a sentence."""
        if output.live:
            return label + self.line(output.width - len(label))
        return label + self.sentence()

    def show(self, output: Output, label: str = "") -> None:
        (output.draw if output.live else output.line)(self.text(output, label))


def short_seconds(seconds: float) -> str:
    """Return a duration as ``0:05`` or ``2:03:04``."""
    minutes, rest = divmod(round(min(seconds, 359_999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Display:
    """Base class of progress output, which shows nothing.

    Only one thread at a time calls the methods.
    """

    every = float("inf")  # seconds between two calls of `moved`

    def moved(self, meter: Meter) -> None:
        """Show the counters of *meter*, which have changed."""

    def stored(self, local: str, receipt: Receipt) -> None:
        """Show that the file *local* was stored, with its *receipt*."""

    def uploading(self, event: UploadEvent) -> None:
        """Show that an upload was resumed, or can be resumed later."""

    def ended(self, path: str, local: str, size: int | None) -> None:
        """Show that a file succeeded; *size* in bytes is None if it was never known."""

    def failed(self, failure: Failure) -> None:
        """Show that a file failed, and why."""

    def skipped(self, path: str, local: str) -> None:
        """Show that a file was skipped, because its object exists."""


class Lines(Display):
    """Progress as text: a bar on a terminal, elsewhere a line at intervals.

    With a *verb*, such as ``stored``, each finished or skipped file has a line, too.
    """

    def __init__(self, output: Output, verb: str | None = None) -> None:
        self._output, self._verb = output, verb
        self.every = LIVE_EVERY if output.live else _LINES_EVERY

    def moved(self, meter: Meter) -> None:
        meter.show(self._output)

    def ended(self, path: str, local: str, size: int | None) -> None:
        if self._verb is None:
            return
        text = f"{shown_text(path)}: {self._verb}"
        if local not in ("", "-"):
            text += f" {_ENDS[self._verb]} {shown_local(local)}"
        self._output.line(f"{text}, {short_bytes(size)}" if size else text)

    def skipped(self, path: str, local: str) -> None:
        del local
        if self._verb is not None:
            self._output.line(f"{shown_text(path)}: skipped, it exists")


class Events(Display):
    """Progress as JSON events, one object per line."""

    every = 1.0

    def __init__(self, output: Output) -> None:
        self._output = output

    def say(self, event: str, **members: Any) -> None:
        self._output.line(json.dumps({"event": event, **members}))

    def moved(self, meter: Meter) -> None:
        self.say(
            "progress",
            files_done=meter.files_done,
            files_failed=meter.files_failed,
            files=meter.files,
            bytes_done=meter.done,
            bytes=meter.size,
            rate=round(meter.rate),
            seconds_left=None if meter.left is None else round(meter.left, 1),
        )

    def stored(self, local: str, receipt: Receipt) -> None:
        self.say("stored", local=local, **receipt.as_dict())

    def uploading(self, event: UploadEvent) -> None:
        self.say(**event.as_dict())

    def failed(self, failure: Failure) -> None:
        self.say("failed", **failure.as_dict())

    def skipped(self, path: str, local: str) -> None:
        self.say("skipped", path=path, local=local)


class BytesProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """A progress bar of bytes, for one file or for all files of ``put`` and ``get``.

    A terminal and a notebook show a bar. A file or a pipe gets a line every 10 seconds,
    and one at the end. Use it in a ``with`` block, or call ``close``, which ends the line
    of the bar.

    Args:
        stream: text stream for the bar; None uses standard error.
        label: text before the bar.
        every: seconds between two updates.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        label: str = "",
        every: float = LIVE_EVERY,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._output = Output(stream or sys.stderr)
        self._label = label
        self._every = every if self._output.live else max(every, _LINES_EVERY)
        self._meter = Meter(time.monotonic)
        self._shown = -math.inf if self._output.live else self._meter.started

    @property
    def total(self) -> int:
        """The total size in bytes; 0 while it is unknown."""
        return self.size or 0

    @property
    def done(self) -> int:
        """The number of bytes transferred."""
        return int(self.value)

    def call(self, hook_name: str | None = None, **kwargs: Any) -> None:
        """Redraw the bar after *every* seconds, and when all bytes are transferred."""
        super().call(hook_name, **kwargs)
        meter, output = self._meter, self._output
        meter.size = self.total
        if count := self.done - meter.done:
            meter.move(count)
        now = meter.clock()
        is_whole = output.live and self.done == self.total
        if self.done and (is_whole or now - self._shown >= self._every):
            self._shown = now
            meter.show(output, self._label)

    def close(self) -> None:
        """Draw the final state of the bar, and end the line."""
        self._output.line(self._meter.text(self._output, self._label))


class TransferProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Callback of ``put`` and ``get``: counts bytes, keeps failures, limits the rate.

    *files* is the number of files; None takes it from fsspec. *size* is their size in
    bytes; None adds up the sizes of the files as they start. *fetching* is True for
    downloads. *recursive* False makes a directory a failure. An error whose class is in
    *skips* makes its file a skipped one.
    """

    def __init__(
        self,
        display: Display,
        *,
        files: int | None = None,
        size: int | None = None,
        rate: RateLimit | None = None,
        fetching: bool = False,
        recursive: bool = True,
        skips: tuple[type[Exception], ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._skips, self._skipped = skips, 0
        self.meter = Meter(clock, files=files or 0, size=size or 0)
        self.failures: dict[str, Failure] = {}  # by bucket/key
        self.interrupted = False
        self.given_up = False  # no server replies, or all is refused: the rest is left
        self._silent = 0  # files in a row that no server has answered
        self._display = display
        self._knows_files, self._knows_size = files is not None, size is not None
        self._rate, self._fetching, self._recursive = rate, fetching, recursive
        self._lock = threading.Lock()
        self._clock, self._shown = clock, clock()

    @property
    def also(self) -> list[str]:
        """Further counts for the summary, such as ``2 skipped``."""
        return [f"{self._skipped} skipped"] if self._skipped else []

    def interrupt(self) -> None:
        """Note an interruption: end the rate limit, and stop drawing the bar.

        From then on, discarded uploads do not count as failures. Takes no lock, so a
        signal handler may call it.
        """
        self.interrupted = True
        if self._rate is not None:
            self._rate.lift()

    def set_size(self, size: int | None) -> None:
        super().set_size(size)
        if not self._knows_files:
            self.meter.files = size or 0

    def branched(self, path_1: str, path_2: str, **_: Any) -> Callback:
        path, local = (path_1, path_2) if self._fetching else (path_2, path_1)
        if self.given_up:
            raise UploadDiscardedError("not tried: no server has replied", path=path)
        self.begin(path)
        return _FileProgress(self, path, local, may_be_directory=self._fetching)

    def begin(self, path: str) -> None:
        with self._lock:
            self.meter.running[path] = None

    def end_one(
        self, path: str = "", local: str = "", *, is_file: bool, size: int | None = None
    ) -> None:
        """Count a file as successful; subtract a directory from the number of files.

        Without *recursive*, a directory counts as a failure.
        """
        if not (is_file or self._recursive):
            error = IsADirectoryError(21, "a prefix: add --recursive", path)
            self.fail(path, local, error)
            return
        with self._lock:
            self._silent = 0
            if is_file:
                self.meter.files_done += 1
                self._display.ended(path, local, size)
            else:
                self.meter.files -= 1
            self._show()  # with its name: the next file has not begun
            self.meter.running.pop(path, None)

    def stored(self, local: str, receipt: Receipt) -> None:
        with self._lock:
            self._display.stored(local, receipt)

    def fail(self, path: str, local: str, error: BaseException) -> None:
        """Record the failure of a file, once for each path.

        An error in *skips* counts the file as skipped instead. After an interruption, a
        discarded upload is not recorded.
        """
        if self.interrupted and isinstance(error, UploadDiscardedError):
            return
        with self._lock:
            self.meter.running.pop(path, None)
            if isinstance(error, self._skips):
                self._skipped += 1
                self._silent = 0
                self.meter.files -= 1
                with contextlib.suppress(OSError):
                    self.meter.size -= os.path.getsize(local)
                self._display.skipped(path, local)
            elif path not in self.failures:
                failure = self.failures[path] = Failure(path, local, error)
                self.meter.files_failed += 1
                self.meter.files_done += failure.outcome is Outcome.STORED
                silent = code_of(error) is ExitCode.NETWORK
                self._silent = self._silent + 1 if silent else 0
                self.given_up = self.given_up or self._silent >= MAX_SILENT
                self._display.failed(failure)

    def expect(self, size: int) -> None:
        if not self._knows_size:
            with self._lock:
                self.meter.size += size

    def on_upload_event(self, event: UploadEvent) -> None:
        with self._lock:
            if event.kind == "resumed":
                self.meter.resumed += event.bytes_stored
            self._display.uploading(event)

    def move(self, count: int) -> None:
        with self._lock:
            before = self.meter.moved
            self.meter.move(count)
            moved = self.meter.moved - before
            self._show()
        if self._rate is not None and moved > 0:
            self._rate.take(moved)

    def _show(self) -> None:
        now = self._clock()
        if now - self._shown >= self._display.every and not self.interrupted:
            self._shown = now
            self._display.moved(self.meter)


class _FileProgress(Callback):  # type: ignore[misc]  # fsspec is untyped
    """Progress callback of one file.

    In a download, it is for a directory if it never gets a size.
    """

    def __init__(
        self, root: TransferProgress, path: str, local: str, *, may_be_directory: bool
    ) -> None:
        super().__init__()
        self._root = root
        self._names = path, local
        self._may_be_directory = may_be_directory

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if error is None:
            is_file = self.size is not None or not self._may_be_directory
            self._root.end_one(*self._names, is_file=is_file, size=self.size)
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

    def absolute_update(self, value: int) -> None:
        self.relative_update(value - self.value)


@define
class RateLimit:
    """Limit of bytes per second over all threads.

    A thread that exceeds the limit waits until its excess is worked off, so blocks of
    any size keep the rate.
    """

    per_second: float  # bytes
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = time.sleep
    _lifted: bool = field(default=False, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _paid: float = field(init=False, default=-math.inf)  # when all was worked off

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


# The only difference between messages that are equal otherwise.
_REQUEST = re.compile(
    r" \[request id [^]]*\]|, request id [^]]*(?=\])|, after \d+ tries\Z"
)
_DOCTOR = "to find the cause, run: osspresigned doctor BUCKET/KEY (or --url-file FILE)"
_MAX_PATHS = 10  # shown of equal failures


@frozen(kw_only=True)
class Summary:
    verb: str  # "stored", "fetched", "deleted", "copied" or "moved"
    done: int
    files: int  # all, with those that were not tried
    failures: Collection[Failure]
    size: int | None = None  # bytes transferred; None if the command transfers none
    seconds: float = 0.0
    resumed: bool = False  # an earlier run transferred the rest of the bytes
    interrupted: bool = False
    terminated: bool = False  # SIGTERM ends the process
    given_up: bool = False  # the command stopped early
    also: Sequence[str] = ()  # more counts for the last line, such as "2 same"

    @property
    def untried(self) -> int:
        lacking = [f for f in self.failures if f.outcome is not Outcome.STORED]
        return max(0, self.files - self.done - len(lacking))

    @property
    def code(self) -> ExitCode:
        if self.terminated:
            return ExitCode.TERMINATED
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return code_of_all([f.error for f in self.failures], went_well=self.done)

    def lines(self, room: int | None = None) -> Iterator[str]:
        """Yield lines of text; files with the same failure are listed under one reason.

        The last line omits or wraps what exceeds *room* columns; None is no limit.
        """
        for reason, failures in self._reasons().items():
            paths = [failure.name for failure in failures]
            if len(paths) == 1:
                yield f"{paths[0]}: {self._reason(failures[0])}"
                continue
            yield f"{len(paths)} {reason}"
            yield from (f"  {path}" for path in paths[:_MAX_PATHS])
            if len(paths) > _MAX_PATHS:
                yield f"  and {len(paths) - _MAX_PATHS} more (--json names all)"
        if self.code is ExitCode.NETWORK:
            yield _DOCTOR
        yield self._last(room)

    def _reasons(self) -> dict[str, list[Failure]]:
        reasons: dict[str, list[Failure]] = {}
        misplaced = _misplaced(self.failures)
        for failure in self.failures:
            reason = _without_path(_REQUEST.sub("", self._reason(failure)), failure)
            if misplaced and misplaced[0] in _directories(failure):
                reason = misplaced[1]
            reasons.setdefault(reason, []).append(failure)
        return reasons

    def _reason(self, failure: Failure) -> str:
        word = f"not {self.verb}"
        if failure.outcome is Outcome.STORED:  # its reason begins with that word
            return told(failure.error)
        if failure.outcome is Outcome.UNKNOWN and self.verb == "stored":
            word = "unknown whether stored"
        return f"{word}: {told(failure.error)}"

    def _last(self, room: int | None) -> str:
        begin = "interrupted: " if self.interrupted else ""
        of = "" if self.done == self.files else f" of {self.files}"
        begin += f"{self.verb} {self.done}{of} {'file' if self.files == 1 else 'files'}"
        failed = [f for f in self.failures if f.outcome is not Outcome.STORED]
        end = f"; {len(failed)} failed" if failed else ""
        if incomplete := len(self.failures) - len(failed):
            end += f"; {incomplete} of them not as requested"
        if self.untried:
            end += f"; {'stopped early, ' if self.given_up else ''}{self.untried} left"
        if self.also:
            end += f"; {', '.join(self.also)}"
        moved = [""]
        if self.size is not None and (self.size or self.done):
            took = f"{max(self.seconds, 0.1):.1f} s"
            if self.seconds >= 60:  # noqa: PLR2004 - a minute
                took = short_seconds(self.seconds)
            sent = " sent" if self.verb == "stored" and (of or self.resumed) else ""
            pieces = [f", {short_bytes(self.size)}{sent}", f" in {took}"]
            if self.size >= MIB:  # the rate of so little would be noise
                rate = short_bytes(self.size / max(self.seconds, 1e-3))
                pieces.append(f" ({rate}/s)")
            moved = ["".join(pieces[:count]) for count in range(len(pieces), 0, -1)]
        texts = [f"{begin}{transferred}{end}" for transferred in moved]
        if room is None:
            return texts[0]
        fitting = (text for text in texts if len(text) <= room)
        return next(fitting, "\n".join(wrapped(texts[-1], room)))

    def as_dict(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "failed": len(self.failures),
            "untried": self.untried,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "exit_code": int(self.code),
        }


def _without_path(reason: str, failure: Failure) -> str:
    """Return *reason* with placeholders for the path, and without similar paths.

    So the same failure of several files has one text.
    """
    path, nearest = failure.path, ", ".join(_nearest(failure))
    reason = (
        reason.replace(f"; nearest: {shown_text(nearest)}", "") if nearest else reason
    )
    for name, place in ((path, "BUCKET/KEY"), (path.partition("/")[2], "KEY")):
        reason = reason.replace(shown_text(repr(name)), place) if name else reason
    return reason.replace(shown_text(path), "BUCKET/KEY") if path else reason


def _misplaced(failures: Collection[Failure]) -> tuple[tuple[str, str], str] | None:
    """Return a pair of directories and a message, if they explain most failures.

    The first directory is the destination of the files; in the second, the URL map has
    files of the same names. Returns None if no pair explains more than half of the
    failures for which the map has similar paths.
    """
    lacking = [failure for failure in failures if _nearest(failure)]
    counts = Counter(pair for failure in lacking for pair in {*_directories(failure)})
    highest = max(counts.values(), default=0)
    if highest <= 1 or highest * 2 <= len(lacking):
        return None
    shared = min(pair for pair, count in counts.items() if count == highest)
    here, there = (f"{shown_text(directory)}/" for directory in shared)
    return shared, (
        f"not stored: the URL map has these below {there}, not below {here}: change DEST "
        "(put DIR keeps the name of DIR, put DIR/ and sync leave it out)"
    )


def _nearest(failure: Failure) -> Sequence[str]:
    nearest: Sequence[str] = getattr(failure.error, "nearest", ())
    return nearest


def _directories(failure: Failure) -> Iterator[tuple[str, str]]:
    """Yield pairs of directories: of the file, and of a similar path in the URL map.

    The end that both paths have in common is cut off.
    """
    own = failure.path.split("/")
    for path in _nearest(failure):
        other = path.split("/")
        pairs = zip(reversed(own), reversed(other), strict=False)
        equal = len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
        if equal:
            yield "/".join(own[:-equal]), "/".join(other[:-equal])
