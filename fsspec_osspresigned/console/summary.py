"""Summary of a command: the number of files, and the failures."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from attrs import frozen

from ..errors import Outcome
from ..units import MIB, short_bytes, shown_text
from .exit import ExitCode, Failure, code_of_all, told
from .progress import short_seconds
from .terminal import wrapped

# The only difference between messages that are equal otherwise.
_REQUEST = re.compile(
    r" \[request id [^]]*\]|, request id [^]]*(?=\])|, after \d+ tries\Z"
)
_DOCTOR = "osspresigned doctor BUCKET/KEY (or --url-file FILE) looks further"
_MOST_PATHS = 10  # shown of equal failures


@frozen(kw_only=True)
class Summary:
    """Summary of a command that handled many files or objects.

    Attributes:
        verb: ``stored``, ``fetched``, ``deleted``, ``copied`` or ``moved``.
        files: number of all files, including untried ones.
        size: bytes transferred; None for commands that transfer none.
        resumed: whether an earlier run transferred the rest of the bytes.
        terminated: whether SIGTERM ends the process.
        given_up: whether the command stopped early.
        also: further counts for the last line, such as ``2 same``.
    """

    verb: str
    done: int
    files: int
    failures: Collection[Failure]
    size: int | None = None
    seconds: float = 0.0
    resumed: bool = False
    interrupted: bool = False
    terminated: bool = False
    given_up: bool = False
    also: Sequence[str] = ()

    @property
    def untried(self) -> int:
        """Number of files that were not tried, or were aborted."""
        lacking = [f for f in self.failures if f.outcome is not Outcome.STORED]
        return max(0, self.files - self.done - len(lacking))

    @property
    def code(self) -> ExitCode:
        """Exit code of the command."""
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
                yield f"{paths[0]}: {self._told(failures[0])}"
                continue
            yield f"{len(paths)} {reason}"
            yield from (f"  {path}" for path in paths[:_MOST_PATHS])
            if len(paths) > _MOST_PATHS:
                yield f"  and {len(paths) - _MOST_PATHS} more (--json names all)"
        if self.code is ExitCode.NETWORK:
            yield _DOCTOR
        yield self._last(room)

    def _reasons(self) -> dict[str, list[Failure]]:
        found: dict[str, list[Failure]] = {}
        misplaced = _misplaced(self.failures)
        for failure in self.failures:
            reason = _REQUEST.sub("", self._told(failure))
            if misplaced and misplaced[0] in _directories(failure):
                reason = misplaced[1]
            found.setdefault(reason, []).append(failure)
        return found

    def _told(self, failure: Failure) -> str:
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
        end = f"; {len(self.failures)} failed" if self.failures else ""
        if self.untried:
            end += f"; {'stopped early, ' if self.given_up else ''}{self.untried} left"
        if self.also:
            end += f"; {', '.join(self.also)}"
        moved = [""]
        if self.size is not None and (self.size or self.done):
            long = self.seconds >= 60  # noqa: PLR2004 - a minute
            took = f"{max(self.seconds, 0.1):.1f} s"
            took = short_seconds(self.seconds) if long else took
            sent = " sent" if self.verb == "stored" and (of or self.resumed) else ""
            pieces = [f", {short_bytes(self.size)}{sent}", f" in {took}"]
            if self.size >= MIB:  # the rate of so little would be noise
                rate = short_bytes(self.size / max(self.seconds, 1e-3))
                pieces.append(f" ({rate}/s)")
            moved = ["".join(pieces[:count]) for count in range(len(pieces), 0, -1)]
        texts = [f"{begin}{one}{end}" for one in moved]
        if room is None:
            return texts[0]
        fitting = (text for text in texts if len(text) <= room)
        return next(fitting, "\n".join(wrapped(texts[-1], room)))

    def as_dict(self) -> dict[str, Any]:
        """Return the summary as members of a JSON object."""
        return {
            "done": self.done,
            "failed": len(self.failures),
            "untried": self.untried,
            "bytes": self.size,
            "seconds": round(self.seconds, 3),
            "interrupted": self.interrupted,
            "exit_code": int(self.code),
        }


def _misplaced(failures: Collection[Failure]) -> tuple[tuple[str, str], str] | None:
    """Return two directories, and a message that explains most failures by them.

    The first directory is the destination of the files; in the second, the URL map has
    files of the same names. Returns None if the failures have no such pair.
    """
    lacking = [failure for failure in failures if _nearest(failure)]
    counts = Counter(pair for one in lacking for pair in {*_directories(one)})
    most = max(counts.values(), default=0)
    if most <= 1 or most * 2 <= len(lacking):
        return None
    shared = min(pair for pair, count in counts.items() if count == most)
    here, there = (f"{shown_text(one)}/" for one in shared)
    return shared, (
        f"not stored: the URL map has these below {there}, not below {here}: change DEST "
        "(put DIR keeps the name of DIR, put DIR/ and sync leave it out)"
    )


def _nearest(failure: Failure) -> Sequence[str]:
    nearest: Sequence[str] = getattr(failure.error, "nearest", ())
    return nearest


def _directories(failure: Failure) -> Iterator[tuple[str, str]]:
    """Yield pairs of directories: of the file, and of a similar path in the map."""
    own = failure.path.split("/")
    for path in _nearest(failure):
        other = path.split("/")
        pairs = zip(reversed(own), reversed(other), strict=False)
        equal = sum(
            1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        )
        if equal:
            yield "/".join(own[:-equal]), "/".join(other[:-equal])
