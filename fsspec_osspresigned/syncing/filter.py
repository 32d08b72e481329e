"""Filter rules of a sync: ordered globs; the last one that matches a name decides."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Self

from attrs import field, frozen

from ..errors import ConfigurationError

_SIGNS = {"+": True, "-": False}
_PIECES = re.compile(r"(?s)\*\*/|\*\*|\\.|\[[!^]?+.[^]]*]|.")
_WILDCARDS = {"**/": "(?:[^/]+/)*", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@functools.cache
def _pattern(glob: str) -> re.Pattern[str]:
    """Return the regular expression that matches the whole of a name."""
    body = glob.removeprefix("/").removesuffix("/")
    if not body:
        raise ConfigurationError(f"{glob!r} is no glob: write one as '*.csv' or 'tmp/'")
    front = "" if glob.startswith("/") else "(?:.*/)?"
    # What lies in a directory that fits, fits too.
    back = "/.*" if glob.endswith("/") else "(?:/.*)?"
    return re.compile(f"(?s:{front}{_translated(body)}{back})")


def _translated(glob: str) -> str:
    found, depth = [], 0
    for text in _PIECES.findall(glob):
        if text in _WILDCARDS:
            piece = _WILDCARDS[text]
        elif text == "{":
            piece, depth = "(?:", depth + 1
        elif depth and text == ",":
            piece = "|"
        elif depth and text == "}":
            piece, depth = ")", depth - 1
        elif text == "[":
            raise ConfigurationError(f"{glob!r} is no glob: a [ is not closed")
        elif text[0] == "[":
            piece = _class(text, glob)
        else:
            piece = re.escape(text[-1])
        found.append(piece)
    if depth:
        raise ConfigurationError(f"{glob!r} is no glob: a {{ is not closed")
    return "".join(found)


def _class(text: str, glob: str) -> str:
    """Translate a character class; a leading ``]`` is an ordinary character."""
    negation = "^" if text[1] in "!^" else ""
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", text[1 + len(negation) : -1])
    piece = f"(?!/)[{negation}{members}]"
    try:
        re.compile(piece)
    except re.error:
        msg = f"{glob!r} is no glob: {text} has a range that runs backwards"
        raise ConfigurationError(msg) from None
    return piece


@frozen
class Rule:
    r"""One rule.

    Attributes:
        takes: True includes the names that the glob matches, False excludes them.
        glob: ``*`` and ``?`` stay within a name, ``**`` does not; ``[a-z]``, ``{a,b}``
            and ``\\`` as in a shell. One that begins with a slash fits from the top,
            others at any depth; one that ends with a slash fits directories only.

    Raises:
        ConfigurationError: it is no glob.
    """

    takes: bool
    glob: str = field(validator=lambda _rule, _field, glob: _pattern(glob))

    @classmethod
    def of(cls, text: str) -> Self:
        """Read ``+ GLOB`` or ``- GLOB``, as rclone writes them."""
        sign, space, glob = text.partition(" ")
        if sign not in _SIGNS or not space:
            raise ConfigurationError(f"{text!r} is no rule: write '+ GLOB' or '- GLOB'")
        return cls(_SIGNS[sign], glob.strip())

    @classmethod
    def against(cls, name: str) -> Self:
        """Return the rule that excludes exactly the file *name*."""
        return cls(takes=False, glob="/" + re.sub(r"([\\*?\[{])", r"\\\1", name))

    def fits(self, name: str) -> bool:
        """Return whether the glob matches *name* or a directory above it."""
        return _pattern(self.glob).fullmatch(name) is not None


@frozen
class Filter:
    """Ordered rules: the last rule that matches a name decides.

    A name that no rule fits is included, unless the first rule includes: then only
    what the rules name is included.
    """

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[Rule | str]) -> Self:
        """Return a filter of rules, or of their texts."""
        if isinstance(rules, str):
            raise ConfigurationError("filters= must be a list of rules")
        found = (Rule.of(one) if isinstance(one, str) else one for one in rules)
        return cls(tuple(found))

    def takes(self, name: str) -> bool:
        """Return whether the file *name*, relative to the source, is included."""
        for rule in reversed(self.rules):
            if rule.fits(name):
                return rule.takes
        return not (self.rules and self.rules[0].takes)

    def skips(self, directory: str) -> bool:
        """Return whether the rules exclude everything in *directory*."""
        for rule in reversed(self.rules):
            if rule.takes:
                return False
            if rule.fits(f"{directory}/"):
                return True
        return False
