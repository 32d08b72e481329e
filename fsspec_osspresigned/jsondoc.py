"""JSON of others, read without trust: no duplicate members, no NaN, no deep nesting."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn

_MAX_NAME = 60
_MAX_DIGITS = 300


def loads(data: bytes | str, *, max_depth: int | None = None) -> Any:
    """Return the value of one JSON document.

    Args:
        data: the document; bytes are UTF-8, a byte order mark is skipped.
        max_depth: how deep lists and objects may nest; None leaves it to Python.

    Raises:
        ValueError: not UTF-8, not JSON, a member twice in one object, or too deep. The
            message holds a place in the text, never a piece of it.
    """
    if isinstance(data, bytes):
        try:
            data = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            msg = f"not UTF-8 at byte {error.start}"
            raise ValueError(msg) from None
    try:
        value = DECODER.decode(data)
    except json.JSONDecodeError as error:
        msg = f"not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise ValueError(msg) from None
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None
    if max_depth is not None and _is_deeper(value, max_depth):
        msg = f"nested deeper than {max_depth}"
        raise ValueError(msg)
    return value


def kind(value: object) -> str:
    """Return what JSON calls the type of *value*, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, (int, float)):
        return "a number"
    return "a list" if isinstance(value, (list, tuple)) else "an object"


def is_int(value: object) -> bool:
    """Return whether *value* is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = next(name for name, count in counts.items() if count > 1)
        # A name can be a path of any shape; a signed URL in its place stays unseen.
        shown = "a member" if "?" in name else f"the member {name[:_MAX_NAME]!r}"
        msg = f"{shown} comes twice in one object"
        raise ValueError(msg)
    return found


def _no_constant(name: str) -> NoReturn:
    msg = f"not JSON: {name} is no JSON number"
    raise ValueError(msg)


def _integer(text: str) -> int:
    # Python itself gives up at 4,300 digits, with a message about its settings.
    if len(text) > _MAX_DIGITS:
        msg = f"not JSON: a number has more than {_MAX_DIGITS} digits"
        raise ValueError(msg)
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        msg = "not JSON: a number is too large"
        raise ValueError(msg)
    return value


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return any(isinstance(item, (dict, list)) for item in level)


DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_no_constant,
    parse_int=_integer,
    parse_float=_float,
)
