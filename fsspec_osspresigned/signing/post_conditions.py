"""Conditions of a POST policy: read, written, checked (API reference, PostObject)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from attrs import frozen

from ..parsing import is_int, kind
from ..secret import FormValue, Secret
from ..units import shown_text

RANGE = "content-length-range"
LISTS = ("in", "not-in")
OPERATORS = ("eq", "starts-with", *LISTS, RANGE)
# What a message names without its value.
SECRET_FIELDS = frozenset(
    ("policy", "signature", "x-oss-signature", "x-oss-security-token")
)
# No secrets, but of no use in a message.
_UNSHOWN = SECRET_FIELDS | {"x-oss-credential", "ossaccesskeyid", "callback"}

_HIDDEN = "<hidden>"
_MAX_SHOWN = 200
_MAX_COMPARED = 100  # values that are compared with each other condition


def form_values(fields: Mapping[str, str]) -> dict[str, Secret]:
    """Return *fields* with values that no repr shows.

    A value that grants access is a ``Secret``, any other value a ``FormValue``.
    """
    return {
        name: (Secret if name.lower() in SECRET_FIELDS else FormValue)(value)
        for name, value in fields.items()
    }


class PolicyFault(StrEnum):
    """Kinds of violation of a POST policy by a form."""

    EXPIRED = "expired"
    ABSENT = "field is absent"
    FAILED = "condition failed"
    TOO_SMALL = "too small"
    TOO_LARGE = "too large"
    EXTRA = "field is not named"


@frozen
class PolicyRefusal:
    """One violation of a POST policy by a form; its text contains no secret.

    *field* is the field of the violated condition; empty without one.
    """

    fault: PolicyFault
    text: str
    field: str = ""

    def __str__(self) -> str:
        """Return the text of the violation."""
        return self.text


@frozen(repr=False)
class PolicyCondition:
    """One condition of a POST policy.

    Attributes:
        operator: one of ``OPERATORS``.
        field: the form field, in lower case; ``bucket`` is the bucket of the host.
        values: one value, or the values of a list; empty for a size range.
        sizes: minimum and maximum size of the file in bytes; None for other conditions.
    """

    operator: str
    field: str
    values: tuple[str, ...] = ()
    sizes: tuple[int, int] | None = None

    @classmethod
    def range(cls, least: int, most: int) -> PolicyCondition:
        """Return the condition that a file has *least* to *most* bytes."""
        return cls(RANGE, RANGE, sizes=(least, most))

    def as_json(self, *, hidden: bool = False) -> dict[str, str] | list[Any]:
        """Return the condition as in the policy, for JSON; *hidden* omits secrets."""
        if self.sizes is not None:
            return [RANGE, *self.sizes]
        # A dollar sign would begin a variable such as ${filename}.
        values = [value.replace("$", "\\$") for value in self.values]
        if hidden:
            secret = self.field in _UNSHOWN
            values = [_HIDDEN if secret else value for value in self.values]
        if self.operator == "eq":
            return {self.field: values[0]}
        wanted = values if self.operator in LISTS else values[0]
        return [self.operator, f"${self.field}", wanted]

    def __str__(self) -> str:
        """Return the condition as JSON for messages, shortened and without secrets."""
        text = json.dumps(self.as_json(hidden=True), ensure_ascii=False)
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."

    def __repr__(self) -> str:
        """Return the same text as ``str``."""
        return f"<PolicyCondition {self}>"

    def allows(self, value: str) -> bool:
        """Return whether the condition permits *value* for its field."""
        if self.operator == "starts-with":
            return value.startswith(self.values[0])
        return (value in self.values) is not (self.operator == "not-in")

    def refusal(
        self, fields: Mapping[str, str], bucket: str | None, size: int | None
    ) -> PolicyRefusal | None:
        """Return the violation of the condition by a form; None if the form meets it.

        Names in *fields* are lower case. A *bucket* or *size* that is None is unknown
        and not checked.
        """
        if self.sizes is not None:
            return None if size is None else self._size_refusal(size, *self.sizes)
        value = bucket if self.field == "bucket" else fields.get(self.field)
        if value is None:
            if self.field == "bucket":
                return None
            said = f"the form has no field {shown_text(self.field)}, which {self} needs"
            return PolicyRefusal(PolicyFault.ABSENT, said, self.field)
        if self.allows(value):
            return None
        shown = "" if self.field in _UNSHOWN else f" {value[:_MAX_SHOWN]!r}"
        said = f"{shown_text(self.field)}{shown} does not meet {self}"
        return PolicyRefusal(PolicyFault.FAILED, said, self.field)

    def _size_refusal(self, size: int, least: int, most: int) -> PolicyRefusal | None:
        if least <= size <= most:
            return None
        fault = PolicyFault.TOO_SMALL if size < least else PolicyFault.TOO_LARGE
        return PolicyRefusal(fault, f"the size of {size} bytes does not meet {self}")


def read_condition(item: Any) -> PolicyCondition | str:
    """Return the condition in *item*, a member of a policy; a text if it is invalid."""
    # A text, not an exception: a traceback would show the values.
    if isinstance(item, dict):
        if len(item) != 1:
            return f"is an object with {len(item)} members instead of one"
        ((name, value),) = item.items()
        item = ["eq", name, value]
    if not isinstance(item, list):
        return f"is {kind(item)}, not an object or list"
    operator = item[0] if item else None
    if operator not in OPERATORS:
        shown = repr(operator[:40]) if isinstance(operator, str) else kind(operator)
        return f"has the unknown operator {shown}: use {', '.join(OPERATORS)}"
    if len(item) != 3:  # noqa: PLR2004 - operator and two more
        return f"has {len(item)} members instead of 3"
    return _range(item) if operator == RANGE else _comparison(*item)


def _range(item: list[Any]) -> PolicyCondition | str:
    least, most = item[1:]
    if not is_int(least) or not is_int(most):
        return f"has a {RANGE} whose limits are not whole numbers"
    if not 0 <= least <= most:
        return f"has a {RANGE} from {least} to {most}, which is empty"
    return PolicyCondition.range(least, most)


def _comparison(operator: str, name: Any, value: Any) -> PolicyCondition | str:
    if not isinstance(name, str) or not name.removeprefix("$"):
        return "names no field"
    # Whether OSS knows a field without "$" is not documented: it is one here.
    field = name.removeprefix("$").lower()
    if field == "bucket" and operator != "eq":
        return f"compares the bucket by {operator!r}: only eq can"
    is_list = operator in LISTS
    given = value if is_list and isinstance(value, list) else [value]
    if isinstance(value, list) is not is_list or not all(
        isinstance(one, str) for one in given
    ):
        wanted = "a list of strings" if is_list else "a string"
        return f"compares {field[:60]!r} by {operator!r}, which needs {wanted}"
    values = tuple(one.replace("\\$", "$") for one in given)
    return PolicyCondition(operator, field, values)


def contradictions(conditions: Iterable[PolicyCondition]) -> Iterator[str]:
    """Yield the contradictions that make *conditions* impossible to meet."""
    by_field: dict[str, list[PolicyCondition]] = {}
    for condition in conditions:
        by_field.setdefault(condition.field, []).append(condition)
    for name, found in by_field.items():
        if not _can_be_met(found):
            both = " and ".join(str(one) for one in found)
            yield f"no value can meet all conditions of {shown_text(name)}: {both}"


def _can_be_met(found: list[PolicyCondition]) -> bool:
    ranges = [one.sizes for one in found if one.sizes is not None]
    if ranges:
        return max(low for low, _ in ranges) <= min(high for _, high in ranges)
    for one in found:
        if one.operator in ("eq", "in") and len(one.values) <= _MAX_COMPARED:
            return any(all(c.allows(v) for c in found) for v in one.values)
    starts = [one.values[0] for one in found if one.operator == "starts-with"]
    longest = max(starts, key=len, default="")
    return all(longest.startswith(start) for start in starts)
