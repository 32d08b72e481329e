"""Summary of a command: the failures, each reason once, and a last line with counts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..errors import Outcome, StoreUnavailableError
from ..units import MIB, short_bytes, shown_seconds, shown_text
from .language import translated, translated_list, translated_whole
from .terminal import ExitCode, Failure, code_of_all, told

# The only difference between messages that are equal otherwise.
_REQUEST = re.compile(
    r" \[request id [^]]*\]|, request id [^]]*(?=\])|, after \d+ tries\Z"
)
_DOCTOR = "to find the cause, run: osspresigned doctor BUCKET/KEY (or --url-file FILE)"
_MAX_PATHS = 10  # shown of equal failures


@frozen(kw_only=True)
class Summary:
    verb: str  # "uploaded", "fetched", "deleted", "copied" or "moved"
    done: int
    files: int  # all, with those that were not tried
    failures: Collection[Failure]
    size: int | None = None  # bytes transferred; None if the command transfers none
    place: str = ""  # path of the stored object, or common directory of several
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
        yield self._last()

    def _reasons(self) -> dict[str, list[Failure]]:
        reasons: dict[str, list[Failure]] = {}
        for failure in self.failures:
            reason = _without_path(_REQUEST.sub("", self._reason(failure)), failure)
            reasons.setdefault(reason, []).append(failure)
        return reasons

    def _reason(self, failure: Failure) -> str:
        if failure.outcome is Outcome.STORED:  # its reason begins with that word
            return told(failure.error)
        is_unknown = failure.outcome is Outcome.UNKNOWN
        word = f"{'unknown whether' if is_unknown else 'not'} {self.verb}"
        return f"{word}: {told(failure.error)}"

    def _last(self) -> str:
        of = "" if self.done == self.files else f" of {self.files}"
        files = f"{self.verb} {self.done}{of} {'file' if self.files == 1 else 'files'}"
        begin = translated("interrupted: ") if self.interrupted else ""
        begin += translated_list([files, *self._moved(of)])
        ends = []
        failed = [f for f in self.failures if f.outcome is not Outcome.STORED]
        if failed:
            ends.append(f"{len(failed)} failed")
        if incomplete := len(self.failures) - len(failed):
            ends.append(f"{incomplete} of them not as requested")
        if self.untried:
            early = "stopped early, " if self.given_up else ""
            ends.append(f"{early}{self.untried} left")
        if self.also:
            ends.append(translated_list(self.also))
        return translated_list([begin, *ends], "; ")

    def _moved(self, of: str) -> Iterator[str]:
        """Yield how much was moved, how fast, and to where."""
        if self.size is None or not (self.size or self.done):
            return
        took = f"{max(self.seconds, 0.1):.1f} s"
        if self.seconds >= 60:  # noqa: PLR2004 - a minute
            took = shown_seconds(self.seconds)
        sent = " sent" if self.verb == "uploaded" and (of or self.resumed) else ""
        moved = translated_whole(f"{short_bytes(self.size)}{sent} in {took}")
        if self.size >= MIB:  # the rate of so little would be noise
            moved += f" ({short_bytes(self.size / max(self.seconds, 1e-3))}/s)"
        where = f" to {shown_text(self.place)}" if self.place else ""
        yield moved + translated_whole(where)

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
