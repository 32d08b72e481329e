"""Faults as they are written on a command line: ``UploadPart:status=503:rate=0.3``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, get_type_hints

from attrs import field, fields, frozen

from ..errors import ConfigurationError
from ..units import bytes_of
from .app import HANDLERS
from .faults.faults import Fault

_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_SHORT = {"part": "part_number", "slow": "bytes_per_second"}
_WHERE = frozenset(
    {
        "action", "bucket", "key", "part_number", "reused", "after", "rate", "seed",
        "times", "stall_for",
    }
)  # fmt: skip
_HINTS = get_type_hints(Fault)
_MEMBERS = {member.name: _HINTS[member.name] for member in fields(Fault)}


def parse_faults(texts: Iterable[str]) -> list[Fault]:
    r"""Read faults.

    A text is an action (``*`` for all of them), then members of :class:`Fault` behind
    colons: ``name=value``, or the name alone for what is on or off. A colon inside a
    value is written ``\:``. ``extra.NAME=value`` adds to the error document,
    ``times=always`` never wears out, several interim statuses are joined by ``+``, and
    ``part`` and ``slow`` are short for ``part_number`` and ``bytes_per_second``.

    Raises:
        ConfigurationError: some cannot be read; the mistakes of all are told.
    """
    faults: list[Fault] = []
    problems: list[str] = []
    for text in texts:
        reading = _Reading()
        fault = reading.read(text)
        problems += [f"fault {text[:80]!r}: {line}" for line in reading.problems]
        if fault is not None:
            faults.append(fault)
    if problems:
        raise ConfigurationError(problems)
    return faults


@frozen
class _Reading:
    """One text while it is read."""

    problems: list[str] = field(factory=list)

    def read(self, text: str) -> Fault | None:
        """Return the fault; None if there are problems."""
        action, *pieces = (p.strip() for p in re.split(r"(?<!\\):", text))
        members: dict[str, Any] = {}
        extras: dict[str, str] = {}
        if action not in ("", "*"):
            if not set(action) & set("*?[") and action not in HANDLERS:
                self.problems.append(
                    f"{action!r} is no action: an API name such as UploadPart, or *"
                )
            members["action"] = action
        for piece in pieces:
            self._member(piece.replace("\\:", ":"), members, extras)
        if extras:
            members["extras"] = extras
        if not self.problems and members.keys() <= _WHERE:
            self.problems.append(
                "nothing goes wrong: add what does, such as status=503"
            )
        if self.problems:
            return None
        try:
            return Fault(**members)
        except ConfigurationError as error:
            self.problems.extend(error.problems)
            return None

    def _member(
        self, piece: str, members: dict[str, Any], extras: dict[str, str]
    ) -> None:
        written, has_value, value = piece.partition("=")
        name = written.strip().replace("-", "_")
        if name.startswith("extra."):
            extras[written.strip().partition(".")[2]] = value
            return
        name = _SHORT.get(name, name)
        if name not in _MEMBERS or name in ("action", "extras"):
            self.problems.append(f"{written!r} is no member of a fault")
        elif name in members:
            self.problems.append(f"{written!r} is given twice")
        elif not has_value and _MEMBERS[name] not in (bool, bool | None):
            self.problems.append(f"{written!r} needs a value: {written}=...")
        else:
            try:
                members[name] = _value(name, value if has_value else "yes")
            except ValueError as error:
                self.problems.append(f"{written}: {error}")


def _value(name: str, text: str) -> Any:
    kind = _MEMBERS[name]
    if kind in (bool, bool | None):
        if text not in _FLAGS:
            raise ValueError(f"{text[:40]!r} is neither yes nor no")
        return _FLAGS[text]
    if kind == tuple[int, ...]:
        return tuple(_whole(part) for part in text.split("+"))
    if kind in (float, float | None):
        return float(bytes_of(text)) if name == "bytes_per_second" else _number(text)
    if name == "times" and text == "always":
        return None
    if name.endswith("_after") and name != "retry_after":
        return -bytes_of(text[1:]) if text.startswith("-") else bytes_of(text)
    if kind in (int, int | None):
        return _whole(text)
    return text


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,12}(\.[0-9]{1,9})?", text):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)
