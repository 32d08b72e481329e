"""Which of many names somebody may have meant."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator
from difflib import SequenceMatcher
from unicodedata import normalize
from urllib.parse import quote, unquote

_NEIGHBOURS = 12
_ALIKE = 0.5
_SAME_NAME = 0.5
# Of a longer name only the end is retyped, and only so many letters.
_RETYPED = 120
_LETTERS = 60
_COMPARED = 200
_SCATTERED = 1e-4


class Nearest:
    """Names, sorted from both ends, so that a question costs milliseconds.

    A name with one wrong place shares with the right one all before that place or all
    behind it, so one of the two orders brings them together; where thousands share it,
    every single wrong letter is tried.
    """

    def __init__(self, names: Collection[str]) -> None:
        """Sort *names*, which must not change any more."""
        self._names = names
        self._forward = sorted(names)
        self._backward = sorted(names, key=_reversed)

    def to(self, name: str) -> tuple[str, ...]:
        """Return up to three names that *name* may have meant, the likeliest first."""
        near = dict.fromkeys((*self._with_its_end(name), *self._with_its_begin(name)))
        letters = sorted(set("".join((*near, name))))[:_LETTERS]
        for tried in (*_respelled(name), *_retyped(name, letters)):
            if tried in self._names:
                near[tried] = None
        last = _last(name)
        scored = []
        for found in near:
            score = _likeness(found, name)
            if _last(found) == last:
                score += _SAME_NAME
            if score > _ALIKE:
                scored.append((-score, found))
        return tuple(found for _, found in sorted(scored)[:3])

    def _with_its_begin(self, name: str) -> list[str]:
        at = bisect(self._forward, name)
        return self._forward[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]

    def _with_its_end(self, name: str) -> list[str]:
        at = bisect(self._backward, _reversed(name), key=_reversed)
        return self._backward[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]


def _reversed(name: str) -> str:
    return name[::-1]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _respelled(name: str) -> Iterator[str]:
    """Yield other ways to write the same."""
    yield from (name.lower(), normalize("NFC", name), normalize("NFD", name))
    yield from (unquote(name), quote(name, errors="replace"))
    slashes = name.replace("\\", "/")
    yield "/".join(part for part in slashes.split("/") if part)


def _retyped(name: str, letters: list[str]) -> Iterator[str]:
    """Yield *name* with one letter left out, swapped, replaced or put in."""
    for at in range(max(0, len(name) - _RETYPED), len(name) + 1):
        before, rest = name[:at], name[at:]
        yield before + rest[1:]
        yield before + rest[1:2] + rest[:1] + rest[2:]
        for letter in letters:
            yield before + letter + rest[1:]
            yield before + letter + rest


def _likeness(one: str, other: str) -> float:
    """Return from 0 to 1 how much two names have in common.

    What they share at both ends is not compared again, which also bounds the cost.
    """
    whole = len(one) + len(other)
    begin = _shared(one, other)
    one, other = one[begin:], other[begin:]
    end = _shared(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    same = begin + end
    if max(len(one), len(other)) <= _COMPARED:
        blocks = SequenceMatcher(None, one, other, autojunk=False)
        same += sum(block.size for block in blocks.get_matching_blocks())
    # Of two that share as much, the one that differs in one place only.
    return 2 * same / whole - _SCATTERED * max(len(one), len(other))


def _shared(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    for count, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return count
    return min(len(one), len(other))
