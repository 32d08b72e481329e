"""Result of a sync, and the events of a running sync."""

from __future__ import annotations

import enum
from typing import Any

from attrs import Factory, define, frozen

from ..console.exit import ExitCode, code_of_all, why
from ..errors import UploadErrors
from .plan import Plan


class EventKind(enum.StrEnum):
    """Kinds of sync events."""

    PLAN = "plan"
    BEGIN = "begin"
    BYTES = "bytes"
    SENT = "sent"
    FETCHED = "fetched"
    DELETED = "deleted"
    FAILED = "failed"
    UNCOVERED = "uncovered"
    LEFT_OUT = "left_out"


@frozen
class SyncEvent:
    """One step of a sync.

    Attributes:
        kind: ``plan`` comes once, before the first byte; ``begin`` and then ``sent`` or
            ``fetched``, ``failed`` or ``uncovered`` for every file; ``bytes`` in
            between; ``deleted`` for each deleted item; ``left_out`` for each entry that
            is not a file.
        name: path relative to source and destination; empty for ``plan``.
        size: number of bytes: of the file; for ``plan`` of all files; for ``bytes`` of
            the bytes just moved, negative to subtract those of a failed try.
        count: for ``plan``, the number of files to transfer and of those that cannot be
            transferred; else 1.
        why: reason, as text.
        error: the exception of a failure; None for all other events.
    """

    kind: EventKind
    name: str = ""
    size: int = 0
    count: int = 1
    why: str = ""
    error: Exception | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the event as members of a JSON object."""
        names = ("name", "size", "count", "why")
        return {"event": self.kind.value, **{n: getattr(self, n) for n in names}}


@define(kw_only=True)
class SyncResult:
    """Result of a sync; names are relative to source and destination.

    Attributes:
        plan: the plan of the sync.
        verb: participle for transferred files: ``sent`` or ``fetched``.
        dry_run: True if nothing was transferred or deleted.
        sent: number of files sent, or fetched.
        sent_bytes: total size of these files in bytes.
        deleted: names of deleted objects or files.
        failed: name -> exception, of files that could not be read, stored or fetched,
            and of items that could not be deleted.
        uncovered: name -> exception: files for which no signature is available.
        not_tried: number of files whose transfer was planned, but not tried.
        kept: number of extra objects or files that were not deleted because of another
            failure.
        seconds: duration.
    """

    plan: Plan
    verb: str = "sent"
    dry_run: bool = False
    sent: int = 0
    sent_bytes: int = 0
    deleted: list[str] = Factory(list)
    failed: dict[str, Exception] = Factory(dict)
    uncovered: dict[str, Exception] = Factory(dict)
    not_tried: int = 0
    kept: int = 0
    seconds: float = 0.0

    @property
    def same(self) -> int:
        """Number of files that the destination had already."""
        return self.plan.same

    @property
    def left_out(self) -> dict[str, str]:
        """Name -> kind, of source entries that are not files: links, pipes, devices."""
        return self.plan.left_out

    @property
    def problems(self) -> dict[str, Exception]:
        """Name -> exception, of all files that failed or have no signature."""
        return {**self.failed, **self.uncovered}

    @property
    def is_complete(self) -> bool:
        """True if the destination now matches the source as requested."""
        return not (self.failed or self.uncovered or self.not_tried or self.kept)

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the command for this result, as listed in docs/cli.md."""
        if self.is_complete:
            return ExitCode.OK
        would = len(self.plan.send) if self.dry_run else 0
        went_well = self.sent + self.same + len(self.deleted) + would
        code = code_of_all(self.problems.values(), went_well=went_well)
        return code or ExitCode.FAILED

    def check(self) -> None:
        """Raise UploadErrors with all failures; return if the sync is complete."""
        if self.is_complete:
            return
        problems = self.problems
        shown = "; ".join(f"{n}: {why(e)}" for n, e in list(problems.items())[:3])
        done = f"{self.sent} of {self.sent + len(problems) + self.not_tried} files {self.verb}"
        # Without a failure of a file, only an executor leaves files out.
        reason = shown or "the executor cancelled the other files"
        msg = f"the sync is not complete ({done}): {reason}"
        raise UploadErrors(msg, failures=problems)
