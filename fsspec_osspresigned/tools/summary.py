"""Summary of a command: the failures, each reason once, and a last line with counts."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..errors import Outcome
from ..units import MIB, short_bytes, shown_seconds, shown_text
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
        yield self._last()

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
        if failure.outcome is Outcome.UNKNOWN and self.verb == "uploaded":
            word = "unknown whether uploaded"
        return f"{word}: {told(failure.error)}"

    def _last(self) -> str:
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
        if self.size is None or not (self.size or self.done):
            return f"{begin}{end}"
        took = f"{max(self.seconds, 0.1):.1f} s"
        if self.seconds >= 60:  # noqa: PLR2004 - a minute
            took = shown_seconds(self.seconds)
        sent = " sent" if self.verb == "uploaded" and (of or self.resumed) else ""
        moved = f", {short_bytes(self.size)}{sent} in {took}"
        if self.size >= MIB:  # the rate of so little would be noise
            moved += f" ({short_bytes(self.size / max(self.seconds, 1e-3))}/s)"
        return f"{begin}{moved}{end}"

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
    for name, shown in ((path, "BUCKET/KEY"), (path.partition("/")[2], "KEY")):
        reason = reason.replace(shown_text(repr(name)), shown) if name else reason
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
        f"not uploaded: the URL map has these below {there}, not below {here}: change DEST "
        "(put DIR keeps the name of DIR, put DIR/ and sync leave it out)"
    )


def _nearest(failure: Failure) -> Sequence[str]:
    nearest: Sequence[str] = getattr(failure.error, "nearest", ())
    return nearest


def _directories(failure: Failure) -> Iterator[tuple[str, str]]:
    """Yield the directory of the file, with that of each similar path in the URL map.

    The common end of both paths is cut off.
    """
    own = failure.path.split("/")
    for path in _nearest(failure):
        other = path.split("/")
        pairs = zip(reversed(own), reversed(other), strict=False)
        equal = len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
        if equal:
            yield "/".join(own[:-equal]), "/".join(other[:-equal])
