"""Which names a sync is about: rules with globs, of which the last that fits decides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Self

from attrs import Factory, field, frozen

from ..errors import ConfigurationError

_SIGNS = {"+": True, "-": False}


def _pattern(glob: str) -> re.Pattern[str]:
    """Return what matches the whole of a name.

    Raises:
        ConfigurationError: it is no glob.
    """
    body = glob.removeprefix("/").removesuffix("/")
    if not body:
        raise ConfigurationError(f"{glob!r} is no glob: write one as '*.csv' or 'tmp/'")
    front = "" if glob.startswith("/") else "(?:.*/)?"
    # What lies in a directory that fits, fits too.
    back = "/.*" if glob.endswith("/") else "(?:/.*)?"
    return re.compile(f"(?s:{front}{_translated(body)}{back})")


def _translated(glob: str) -> str:
    """Return a glob as a regular expression."""
    found = []
    depth = at = 0
    while at < len(glob):
        rest = glob[at:]
        if rest.startswith("**/"):
            piece, width = "(?:[^/]+/)*", 3
        elif rest.startswith("**"):
            piece, width = ".*", 2
        elif rest[0] in "*?":
            piece, width = "[^/]*" if rest[0] == "*" else "[^/]", 1
        elif rest[0] == "[":
            piece, width = _class(rest, glob)
        elif rest[0] == "\\" and len(rest) > 1:
            piece, width = re.escape(rest[1]), 2
        elif rest[0] == "{":
            piece, width, depth = "(?:", 1, depth + 1
        elif depth and rest[0] in ",}":
            piece, width = "|" if rest[0] == "," else ")", 1
            depth -= rest[0] == "}"
        else:
            piece, width = re.escape(rest[0]), 1
        found.append(piece)
        at += width
    if depth:
        raise ConfigurationError(f"{glob!r} is no glob: a {{ is not closed")
    return "".join(found)


def _class(rest: str, glob: str) -> tuple[str, int]:
    """Return the characters in brackets at the start of *rest*, and their width."""
    negated = rest[1:2] in ("!", "^")
    start = 2 if negated else 1
    end = rest.find("]", start + 1)  # a bracket that comes first stands for itself
    if end < 0:
        raise ConfigurationError(f"{glob!r} is no glob: a [ is not closed")
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", rest[start:end])
    piece = f"(?!/)[{'^' if negated else ''}{members}]"
    try:
        re.compile(piece)
    except re.error:
        msg = f"{glob!r} is no glob: {rest[: end + 1]} has a range that runs backwards"
        raise ConfigurationError(msg) from None
    return piece, end + 1


@frozen
class Rule:
    r"""One rule.

    Attributes:
        takes: whether what fits is taken, or left out.
        glob: ``*`` and ``?`` stay within a name, ``**`` does not; ``[a-z]``, ``{a,b}``
            and ``\\`` as in a shell. One that begins with a slash fits from the top,
            others at any depth; one that ends with a slash fits directories only.

    Raises:
        ConfigurationError: it is no glob.
    """

    takes: bool
    glob: str
    _matches: re.Pattern[str] = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda self: _pattern(self.glob), takes_self=True),
    )

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``+ GLOB`` or ``- GLOB``, as rclone writes them.

        Raises:
            ConfigurationError: it is neither.
        """
        sign, space, glob = text.partition(" ")
        if sign not in _SIGNS or not space:
            raise ConfigurationError(f"{text!r} is no rule: write '+ GLOB' or '- GLOB'")
        return cls(_SIGNS[sign], glob.strip())

    @classmethod
    def against(cls, name: str) -> Self:
        """Return the rule that leaves out exactly the file *name*."""
        return cls(takes=False, glob="/" + re.sub(r"([\\*?\[{])", r"\\\1", name))

    def fits(self, name: str) -> bool:
        """Return whether *name*, or a directory above it, is what the glob says."""
        return self._matches.fullmatch(name) is not None


@frozen
class Filter:
    """Rules in their order: the last one that fits a name decides about it.

    What none fits is taken, unless the first rule takes: then only what is named is.
    """

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[Rule | str]) -> Self:
        """Take rules, or texts of them; raises as :meth:`Rule.of`."""
        if isinstance(rules, str):
            raise ConfigurationError("filters= must be a list of rules")
        found = (Rule.of(one) if isinstance(one, str) else one for one in rules)
        return cls(tuple(found))

    def takes(self, name: str) -> bool:
        """Return whether a file is taken, by its name below the source."""
        for rule in reversed(self.rules):
            if rule.fits(name):
                return rule.takes
        return not (self.rules and self.rules[0].takes)

    def skips(self, directory: str) -> bool:
        """Return whether surely nothing in *directory* is taken."""
        for rule in reversed(self.rules):
            if rule.takes:
                return False
            if rule.fits(f"{directory}/"):
                return True
        return False
