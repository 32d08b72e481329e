"""Which object goes where: fsspec's rules for ``get`` and ``copy``; asks nobody."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import has_magic
from typing import Any

from attrs import evolve, frozen
from fsspec.implementations.local import make_path_posix, trailing_sep
from fsspec.utils import other_paths, stringify_path

from .errors import ConfigurationError

_MAX_SHOWN = 20
_is_drive = re.compile(r"[A-Za-z]:").match


@frozen(eq=False)
class Meant:
    """What somebody meant by a path, a pattern, or several of them.

    Attributes:
        source: as it was given.
        kinds: name -> ``file``, ``directory``, or None for what was not asked; sorted.
        is_pattern: whether *source* is one pattern, and no object of that very name.
    """

    source: Any
    kinds: Mapping[str, str | None]
    is_pattern: bool

    @property
    def directories(self) -> list[str]:
        """The directories."""
        return [name for name, kind in self.kinds.items() if kind == "directory"]

    @property
    def files(self) -> list[str]:
        """All that is not known to be a directory."""
        return [name for name, kind in self.kinds.items() if kind != "directory"]

    def only_files(self) -> Meant:
        """Leave the directories away, as fsspec does unless all of a tree is meant."""
        return evolve(self, kinds=dict.fromkeys(self.files, "file"))

    def destinations(
        self, target: str, *, is_directory: Callable[[str], bool]
    ) -> list[Going]:
        """Return where each goes; what was a list goes into one directory.

        Args:
            target: where to.
            is_directory: whether a target without a trailing slash is a directory.
        """
        if not self.kinds:
            return []
        exists, one = False, isinstance(self.source, str)
        if one and self.is_pattern:
            exists = len(self.kinds) == 1
        elif one and not trailing_sep(self.source):
            exists = trailing_sep(target) or is_directory(target)
        names = list(self.kinds)
        targets = other_paths(names, target, exists=exists, flatten=not one)
        return [
            Going(name, where, kind == "directory")
            for (name, kind), where in zip(self.kinds.items(), targets, strict=True)
        ]


@frozen(eq=False)
class Going:
    """One name, and where it goes."""

    path: str
    target: str
    is_directory: bool = False


def paired(sources: Sequence[str], targets: Sequence[str]) -> list[Going]:
    """Return what two lists mean: each to its own place.

    Raises:
        ValueError: they differ in length.
    """
    if len(sources) != len(targets):
        msg = f"{len(sources)} sources for {len(targets)} destinations"
        raise ValueError(msg)
    return [Going(*pair) for pair in zip(sources, targets, strict=True)]


def looks_like_a_pattern(path: str) -> bool:
    """Return whether *path* may stand for several."""
    return bool(has_magic(path))


def local_path(path: Any) -> str:
    """Return a local path as fsspec's rules want it: absolute, with plain slashes."""
    return str(make_path_posix(stringify_path(path)))


def refuse_clashes(going: Iterable[Going], *, local: bool = False) -> None:
    """Refuse two objects that go to one place, of which one would be lost.

    Raises:
        ConfigurationError: names them.
    """
    seen: dict[str, str] = {}
    problems = []
    for one in going:
        place = os.path.normpath(one.target) if local else one.target
        before = seen.setdefault(place, one.path)
        if before != one.path and not one.is_directory:
            problems.append(f"{before!r} and {one.path!r} would both be {one.target!r}")
    _refuse(problems)


def refuse_escapes(
    going: Iterable[Going], root: str, *, windows: bool = os.name == "nt"
) -> None:
    """Refuse names of objects that would become files outside of *root*.

    Raises:
        ConfigurationError: names them.
    """
    base = root.rstrip("/")
    problems = []
    for one in going:
        problem = _problem(one.target.removeprefix(base), windows=windows)
        if problem:
            text = f"{one.path!r} {problem}: get it alone, to a name of your own"
            problems.append(text)
    _refuse(problems)


def _problem(name: str, *, windows: bool) -> str | None:
    if "\0" in name:
        return "has a NUL in its name"
    pieces = re.split(r"[/\\]" if windows else "/", name)
    if ".." in pieces:
        return "would leave the directory"
    if windows and any(map(_is_drive, pieces)):
        return "names a drive"
    return None


def _refuse(problems: list[str]) -> None:
    if problems:
        more = len(problems) - _MAX_SHOWN
        shown = problems[:_MAX_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigurationError(shown)
