"""Summary of a command: failures grouped by reason, and a last line with counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..errors import ObjectExistsError, Outcome, StoreUnavailableError
from ..units import MIB, short_bytes, shown_seconds, shown_text
from .failures import ExitCode, Failure, code_of_all, told
from .language import translated, translated_list, translated_whole
from .progress import MOVING, TransferProgress

# Request IDs are the only difference between otherwise equal messages.
_REQUEST = re.compile(
    r" \[request id [^]]*\]|, request id [^]]*(?=\])|, after \d+ tries\Z"
)
_DOCTOR = "to find the cause, run: osspresigned doctor BUCKET/KEY (or --url-file FILE)"
_IGNORE = "put --ignore-existing skips files whose object exists"
_MAX_PATHS = 10  # paths shown for each group of equal failures


@frozen
class Summary:
    progress: TransferProgress
    also: Sequence[str] = ()  # more counts for the last line, such as "2 same"
    terminated: bool = False  # True if SIGTERM ends the process

    @property
    def failures(self) -> Collection[Failure]:
        return self.progress.failures.values()

    @property
    def untried(self) -> int:
        lacking = [f for f in self.failures if f.outcome is not Outcome.STORED]
        begun = self.progress.files_done + len(lacking) + len(self.progress.in_flight)
        return max(0, self.progress.files - begun)

    @property
    def code(self) -> ExitCode:
        if self.terminated:
            return ExitCode.TERMINATED
        if self.progress.interrupted:
            return ExitCode.INTERRUPTED
        errors = [failure.error for failure in self.failures]
        return code_of_all(errors, went_well=self.progress.files_done)

    def lines(self) -> Iterator[str]:
        """Yield lines of text; files with the same failure are listed under one reason."""
        for reason, failures in self._reasons().items():
            if len(failures) == 1:
                yield f"{failures[0].name}: {translated(self._reason(failures[0]))}"
                continue
            yield translated(f"{len(failures)} {reason}")
            for failure in failures[:_MAX_PATHS]:
                yield f"  {failure.name}{translated(_hint(_nearest(failure)[:1]))}"
            if len(failures) > _MAX_PATHS:
                more = f"and {len(failures) - _MAX_PATHS} more (--json names all)"
                yield f"  {translated(more)}"
        errors = [failure.error for failure in self.failures]
        overloaded = all(isinstance(error, StoreUnavailableError) for error in errors)
        if self.code is ExitCode.NETWORK and not overloaded:
            yield translated(_DOCTOR)
        exists = any(isinstance(error, ObjectExistsError) for error in errors)
        if self.progress.verb == "uploaded" and exists:
            yield translated(_IGNORE)
        yield self._last()

    def _reasons(self) -> dict[str, list[Failure]]:
        reasons: dict[str, list[Failure]] = {}
        for failure in self.failures:
            reason = _without_path(_REQUEST.sub("", self._reason(failure)), failure)
            reasons.setdefault(reason, []).append(failure)
        return reasons

    def _reason(self, failure: Failure) -> str:
        if failure.outcome is Outcome.STORED:
            # the reason already begins with that word
            return told(failure.error)
        is_unknown = failure.outcome is Outcome.UNKNOWN
        word = f"{'unknown whether' if is_unknown else 'not'} {self.progress.verb}"
        return f"{word}: {told(failure.error)}"

    def _last(self) -> str:
        progress = self.progress
        done, files = progress.files_done, progress.files
        of = "" if done == files else f" of {files}"
        text = f"{progress.verb} {done}{of} {'file' if files == 1 else 'files'}"
        begin = translated("interrupted: ") if progress.interrupted else ""
        begin += translated_list([text, *self._moved(of)])
        ends = []
        failed = [f for f in self.failures if f.outcome is not Outcome.STORED]
        if failed:
            ends.append(f"{len(failed)} failed")
        if incomplete := len(self.failures) - len(failed):
            ends.append(f"{incomplete} of them not as requested")
        if progress.in_flight:
            ends.append(f"{len(progress.in_flight)} in flight: outcome unknown")
        if self.untried:
            early = "stopped early, " if progress.given_up else ""
            ends.append(f"{early}{self.untried} left")
        if also := [*self.also, *progress.also]:
            ends.append(translated_list(also))
        return translated_list([begin, *ends], "; ")

    def _moved(self, of: str) -> Iterator[str]:
        """Yield texts about transferred bytes, rate and target."""
        progress = self.progress
        size, seconds = progress.moved, progress.seconds
        if progress.verb not in MOVING or not (size or progress.files_done):
            return
        took = f"{max(seconds, 0.1):.1f} s"
        if seconds >= 60:  # noqa: PLR2004 - seconds of a minute
            took = shown_seconds(seconds)
        is_part = bool(of or progress.bytes_resumed)
        sent = " sent" if progress.verb == "uploaded" and is_part else ""
        moved = translated_whole(f"{short_bytes(size)}{sent} in {took}")
        if size >= MIB:  # the rate of a few bytes would be noise
            moved += f" ({short_bytes(size / max(seconds, 1e-3))}/s)"
        where = f" to {shown_text(progress.place)}" if progress.place else ""
        yield moved + translated_whole(where)

    def as_dict(self) -> dict[str, Any]:
        progress = self.progress
        return {
            "done": progress.files_done,
            "failed": len(self.failures),
            "in_flight": list(progress.in_flight),
            "untried": self.untried,
            "bytes": progress.moved if progress.verb in MOVING else None,
            "seconds": round(progress.seconds, 3),
            "interrupted": progress.interrupted,
            "exit_code": int(self.code),
        }


def _without_path(reason: str, failure: Failure) -> str:
    """Return *reason* with placeholders for the path, and without similar paths.

    So the same failure of several files has one text.
    """
    path = failure.path
    reason = reason.replace(_hint(_nearest(failure)), "")
    for name, shown in ((path, "BUCKET/KEY"), (path.partition("/")[2], "KEY")):
        reason = reason.replace(shown_text(repr(name)), shown) if name else reason
    return reason.replace(shown_text(path), "BUCKET/KEY") if path else reason


def _nearest(failure: Failure) -> Sequence[str]:
    nearest: Sequence[str] = getattr(failure.error, "nearest", ())
    return nearest


def _hint(nearest: Sequence[str]) -> str:
    return f"; nearest: {shown_text(', '.join(nearest))}" if nearest else ""
