"""Parser of faults on the command line, such as ``UploadPart:status=503:rate=0.3``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from attrs import fields_dict

from ..errors import ConfigurationError
from .faults import Fault, flag
from .table import HANDLERS

_MEMBERS = {
    name: member.metadata["read"]
    for name, member in fields_dict(Fault).items()
    if member.metadata["read"] is not None
}
_SHORT = {"part": "part_number", "slow": "bytes_per_second"}
_WHERE = {
    *("action", "key", "part_number", "reused", "after", "rate", "seed", "times"),
    "stall_for",
}


def parse_faults(texts: Iterable[str]) -> list[Fault]:
    """Return the faults in *texts*, in the format of docs/emulator.md.

    Raises:
        ConfigurationError: some faults are invalid; the message lists all mistakes.
    """
    faults: list[Fault] = []
    problems: list[str] = []
    for text in texts:
        try:
            faults.append(_parse(text))
        except ConfigurationError as error:
            problems += [f"fault {text[:80]!r}: {line}" for line in error.problems]
    if problems:
        raise ConfigurationError(problems)
    return faults


def _parse(text: str) -> Fault:
    action, *pieces = (piece.strip() for piece in re.split(r"(?<!\\):", text))
    problems: list[str] = []
    members: dict[str, Any] = {}
    if action not in ("", "*"):
        members["action"] = action
        if not set(action) & set("*?[") and action not in HANDLERS:
            problems.append(
                f"{action!r} is not an action: an API name such as UploadPart, or *"
            )
    for piece in pieces:
        try:
            _read_member(piece.replace("\\:", ":"), members)
        except ValueError as error:
            problems.append(str(error))
    if not problems and members.keys() <= _WHERE:
        problems.append("nothing goes wrong: add what does, such as status=503")
    if problems:
        raise ConfigurationError(problems)
    return Fault(**members)


def _read_member(piece: str, members: dict[str, Any]) -> None:
    written, has_value, value = piece.partition("=")
    written = written.strip()
    if written.startswith("extra."):
        members.setdefault("extras", {})[written.partition(".")[2]] = value
        return
    name = written.replace("-", "_")
    name = _SHORT.get(name, name)
    read = _MEMBERS.get(name)
    if read is None:
        raise ValueError(f"{written!r} is not a member of a fault")
    if name in members:
        raise ValueError(f"{written!r} is given twice")
    if not has_value and read is not flag:
        raise ValueError(f"{written!r} needs a value: {written}=...")
    try:
        members[name] = read(value if has_value else "yes")
    except ValueError as error:
        raise ValueError(f"{written}: {error}") from error
