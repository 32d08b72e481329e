"""What a sync tells: events while it runs, and what came of it."""

from __future__ import annotations

import enum
from typing import Any

from attrs import Factory, define, frozen

from ..console.exit import ExitCode, code_of_all, why
from ..errors import UploadErrors
from .plan import Plan


class Told(enum.StrEnum):
    """What an event is about."""

    PLAN = "plan"
    BEGIN = "begin"
    BYTES = "bytes"
    SENT = "sent"
    DELETED = "deleted"
    FAILED = "failed"
    UNCOVERED = "uncovered"
    LEFT_OUT = "left_out"


@frozen
class SyncEvent:
    """One step of a sync.

    Attributes:
        kind: ``plan`` comes once, before the first byte; ``begin`` and then ``sent``,
            ``failed`` or ``uncovered`` for every file; ``bytes`` in between; ``deleted``
            for every object; ``left_out`` for what is no file.
        name: below source and destination; empty for ``plan``.
        size: bytes of the file, or of the whole plan, or just sent (negative when a
            failed try is taken back).
        count: files to send, and those that cannot be, of the plan; 1 for others.
        why: why it is sent or was not, for people.
        error: what went wrong; None if nothing did.
    """

    kind: Told
    name: str = ""
    size: int = 0
    count: int = 1
    why: str = ""
    error: Exception | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able members."""
        return {
            "event": self.kind.value,
            "name": self.name,
            "size": self.size,
            "count": self.count,
            "why": self.why,
        }


@define(kw_only=True)
class SyncResult:
    """What came of a sync; names are below source and destination.

    Attributes:
        plan: what there was to do; of a dry run, all that there is.
        dry_run: whether nothing was to be done.
        sent: files that were stored.
        sent_bytes: their bytes.
        deleted: names of the objects that were deleted.
        failed: name -> what went wrong: files that could not be read or stored, and
            objects that could not be deleted.
        uncovered: name -> the refusal: files that nobody signs.
        not_tried: files to send that were not tried any more.
        kept: objects that were to be deleted and were not, because something failed.
        seconds: from the beginning to the end.
    """

    plan: Plan
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
        """Files that were there already."""
        return self.plan.same

    @property
    def left_out(self) -> dict[str, str]:
        """Name -> what it is that is not sent: links to directories, pipes, devices."""
        return self.plan.left_out

    @property
    def problems(self) -> dict[str, Exception]:
        """Name -> exception, of everything that failed or is not covered."""
        return {**self.failed, **self.uncovered}

    @property
    def is_complete(self) -> bool:
        """Whether the destination is now what it was to be."""
        return not (self.failed or self.uncovered or self.not_tried or self.kept)

    @property
    def exit_code(self) -> ExitCode:
        """What the command line ends with.

        As docs/cli.md says: if nothing went well, and all that failed did so for one
        reason, the code of that one.
        """
        if self.is_complete:
            return ExitCode.OK
        problems = self.problems.values()
        would = len(self.plan.send) if self.dry_run else 0
        went_well = self.sent + self.same + len(self.deleted) + would
        return code_of_all(problems, went_well=went_well) or ExitCode.FAILED

    def check(self) -> None:
        """Raise what went wrong, if something did.

        Raises:
            UploadErrors: with all failures.
        """
        if self.is_complete:
            return
        problems = self.problems
        shown = "; ".join(f"{n}: {why(e)}" for n, e in list(problems.items())[:3])
        done = f"{self.sent} of {self.sent + len(problems) + self.not_tried} files sent"
        msg = f"the sync is not complete ({done}): {shown}"
        raise UploadErrors(msg, failures=problems)
