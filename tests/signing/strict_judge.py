"""A judge of POST policies, written from OSS's documentation and from nothing else.

It reads the policy again for each form and shares no code with the package, so that the
package, and the emulator which is built on it, can be compared with it.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import json
import re
import time
from typing import Any

_END = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,6})?Z")
_V4 = ("x-oss-signature-version", "x-oss-credential", "x-oss-date")
_WEEK = 604_800


class BadPolicyError(Exception):
    """The text is no policy."""


def _need(holds: bool) -> None:
    if not holds:
        raise BadPolicyError


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _need(len({name for name, _ in pairs}) == len(pairs))
    return dict(pairs)


def _load(text: str) -> dict[str, Any]:
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True).decode("utf-8")
        found = json.loads(raw, object_pairs_hook=_no_doubles)
    except (UnicodeError, binascii.Error, ValueError, RecursionError):
        raise BadPolicyError from None
    _need(isinstance(found, dict))
    _need(set(found) == {"expiration", "conditions"})
    return found


def _end(text: object) -> float:
    _need(isinstance(text, str))
    match = _END.fullmatch(str(text))
    if match is None:
        raise BadPolicyError
    try:
        whole = calendar.timegm(time.strptime(match[1], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        raise BadPolicyError from None
    fraction = str(text)[len(match[1]) : -1]
    return whole + float(f"0{fraction}")


def _one(item: Any) -> tuple[str, str, Any]:
    """Return operator, field and value of a condition."""
    if isinstance(item, dict):
        _need(len(item) == 1)
        ((name, value),) = item.items()
        item = ["eq", name, value]
    _need(isinstance(item, list) and len(item) == 3)
    operator, name, value = item
    if operator == "content-length-range":
        for limit in (name, value):
            _need(type(limit) is int)
        _need(0 <= name <= value)
        return operator, "", (name, value)
    _need(operator in ("eq", "starts-with", "in", "not-in") and isinstance(name, str))
    name = name.removeprefix("$")
    _need(name != "")
    if operator in ("in", "not-in"):
        _need(isinstance(value, list) and all(isinstance(v, str) for v in value))
        value = [v.replace("\\$", "$") for v in value]
    else:
        _need(isinstance(value, str))
        value = value.replace("\\$", "$")
    _need(name.lower() != "bucket" or operator == "eq")
    return operator, name.lower(), value


def allowed(
    text: str, form: dict[str, str], *, bucket: str, size: int, now: float
) -> bool:
    """Return whether OSS would take *form* by the policy *text*; signatures apart.

    Raises BadPolicyError where OSS would answer InvalidPolicyDocument.
    """
    policy = _load(text)
    end = _end(policy["expiration"])
    listed = policy["conditions"]
    _need(isinstance(listed, list) and bool(listed))
    conditions = [_one(item) for item in listed]
    values = {name.lower(): value for name, value in form.items()}
    names = {name for _, name, _ in conditions}
    if any(name in values and name not in names for name in _V4):
        return False
    if now >= min(end, _last_moment(values.get("x-oss-date", ""))):
        return False
    values["bucket"] = bucket
    return all(
        wanted[0] <= size <= wanted[1]
        if operator == "content-length-range"
        else name in values and _meets(operator, values[name], wanted)
        for operator, name, wanted in conditions
    )


def _last_moment(date: str) -> float:
    try:
        return calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ")) + _WEEK
    except ValueError:
        return float("inf")


def _meets(operator: str, given: str, wanted: Any) -> bool:
    if operator == "eq":
        return bool(given == wanted)
    if operator == "starts-with":
        return bool(given[: len(wanted)] == wanted)
    return any(given == one for one in wanted) is (operator == "in")
