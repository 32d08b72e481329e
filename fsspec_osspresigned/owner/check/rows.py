"""Parts of all checks: the table of rows, the result of each row, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from attrs import asdict, field, frozen

Outcome: TypeAlias = Literal["passed", "failed", "recorded", "skipped"]


@frozen
class Row:
    """One row of a check; each subclass defines its requests."""

    name: str  # short name for reports
    says: str  # what must hold, in one sentence
    # Name of an earlier row. If that one did not succeed, this row proves nothing and
    # is skipped.
    counter: str | None = field(default=None, kw_only=True)
    # if this row fails, the check ends
    is_control: bool = field(default=False, kw_only=True)

    def result(self, outcome: Outcome, reason: str = "", **members: Any) -> Result:
        return Result(self.name, self.says, outcome, reason, **members)


@frozen
class Result:
    """Result of one row, or one problem with a path."""

    name: str
    says: str
    outcome: Outcome
    reason: str = ""  # why the row failed or was skipped
    # the path that the result is about; empty for all paths
    path: str = field(default="", kw_only=True)
    # The request, or the body of the call. If several were sent and all passed, the
    # last one.
    sent: str = field(default="", kw_only=True)
    # Parts of the reply, without secrets and names of buckets.
    seen: Mapping[str, Any] = field(factory=dict, kw_only=True)
    # True if the request succeeded. A row that names this one as its counter needs
    # that.
    succeeded: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        """Return the result as text, with the request if it failed."""
        has_failed = self.outcome == "failed"
        mark = self.outcome.upper() if has_failed else self.outcome
        sent = f"sent: {self.sent}" if self.sent and has_failed else ""
        lines = (f"{mark:<8}  {self.name}: {self.says}", self.reason, sent)
        return "\n      ".join(filter(None, lines))

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON report; keys without a value are left out."""
        return asdict(self, filter=lambda each, v: bool(v) and each.name != "succeeded")


R = TypeVar("R", bound=Row)


def run(
    rows: Iterable[R],
    ask: Callable[[R], Result],
    unmet: Callable[[R], str] = lambda _: "",
) -> Iterator[Result]:
    """Call *ask* for each of *rows* in order, and yield the results.

    *unmet* returns why a row cannot be checked; empty if it can. If a control row
    fails, no further row is checked.
    """
    succeeded: set[str | None] = {None}
    for row in rows:
        why = unmet(row)
        if not why and row.counter not in succeeded:
            why = f"{row.counter} did not succeed, so this would prove nothing"
        if why:
            yield row.result("skipped", why)
            continue
        result = ask(row)
        yield result
        if result.succeeded:
            succeeded.add(row.name)
        elif row.is_control:
            return


def has_passed(results: Iterable[Result]) -> bool:
    return not any(result.outcome == "failed" for result in results)


def summary(results: Sequence[Result]) -> str:
    """Return how many rows have each outcome; "passed" and "failed" are always named."""
    counts = Counter(result.outcome for result in results)
    named = [o for o in get_args(Outcome) if o in ("passed", "failed") or counts[o]]
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in named)


def report(results: Iterable[Result], **members: Any) -> dict[str, Any]:
    """Return the JSON report of a check, with *members* before the results."""
    results = [*results]
    listed = [result.as_dict() for result in results]
    return {"passed": has_passed(results), **members, "results": listed}
