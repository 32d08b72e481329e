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
    """Return the regular expression for *glob*, which matches a whole name."""
    body = glob.removeprefix("/").removesuffix("/")
    if not body:
        raise ConfigurationError(
            f"{glob!r} is not a glob: write one as '*.csv' or 'tmp/'"
        )
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
            raise ConfigurationError(f"{glob!r} is not a glob: a [ is not closed")
        elif text[0] == "[":
            piece = _class(text, glob)
        else:
            piece = re.escape(text[-1])
        found.append(piece)
    if depth:
        raise ConfigurationError(f"{glob!r} is not a glob: a {{ is not closed")
    return "".join(found)


def _class(text: str, glob: str) -> str:
    """Return the regular expression of a glob's character class.

    A leading ``]`` is an ordinary character.
    """
    negation = "^" if text[1] in "!^" else ""
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", text[1 + len(negation) : -1])
    piece = f"(?!/)[{negation}{members}]"
    try:
        re.compile(piece)
    except re.error:
        msg = f"{glob!r} is not a glob: {text} has a range that runs backwards"
        raise ConfigurationError(msg) from None
    return piece


@frozen
class Rule:
    r"""One filter rule.

    Attributes:
        takes: True includes the names that the glob matches, False excludes them.
        glob: ``*`` and ``?`` do not match a slash, ``**`` does; ``[a-z]``, ``{a,b}``
            and ``\\`` are as in a shell. A glob with a leading slash matches only at the
            top of the directory, other globs at any depth. A glob with a trailing slash
            matches only directories.

    Raises:
        ConfigurationError: *glob* is invalid.
    """

    takes: bool
    glob: str = field(validator=lambda _rule, _field, glob: _pattern(glob))

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the rule in *text*, ``+ GLOB`` or ``- GLOB`` as in rclone."""
        sign, space, glob = text.partition(" ")
        if sign not in _SIGNS or not space:
            raise ConfigurationError(
                f"{text!r} is not a rule: write '+ GLOB' or '- GLOB'"
            )
        return cls(_SIGNS[sign], glob.strip())

    @classmethod
    def against(cls, name: str) -> Self:
        """Return a rule that excludes only the file *name*."""
        return cls(takes=False, glob="/" + re.sub(r"([\\*?\[{])", r"\\\1", name))

    def fits(self, name: str) -> bool:
        """Return whether the glob matches *name* or one of its parent directories."""
        return _pattern(self.glob).fullmatch(name) is not None


@frozen
class Filter:
    """Ordered filter rules: the last rule that matches a name decides.

    A name that no rule matches is included. But if the first rule includes, only names
    that a rule includes are included.
    """

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[Rule | str]) -> Self:
        """Return a filter of *rules*, which may be texts."""
        if isinstance(rules, str):
            raise ConfigurationError("filters= must be a list of rules")
        found = (Rule.of(one) if isinstance(one, str) else one for one in rules)
        return cls(tuple(found))

    def takes(self, name: str) -> bool:
        """Return whether the filter includes *name*, relative to the source."""
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
