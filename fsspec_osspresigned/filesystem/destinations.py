"""Destinations by fsspec's rules: which object or local file of a tree goes where.

Objects (for ``get`` and ``copy``) come first, local trees (for ``put``) follow.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from glob import has_magic
from itertools import takewhile
from typing import Any

from attrs import evolve, frozen
from fsspec.implementations.local import (
    LocalFileSystem,
    make_path_posix,
    trailing_sep,
)
from fsspec.utils import other_paths, stringify_path

from ..errors import ConfigurationError

_MAX_SHOWN = 20


@frozen(eq=False)
class Match:
    """The objects and directories that a path, a pattern or several of them stand for.

    Attributes:
        source: as it was given.
        kinds: name -> ``file``, ``directory``, or None if it was not looked up; sorted.
        is_pattern: *source* is one pattern, and no object of that very name.
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
        """All names that are not known to be directories."""
        return [name for name, kind in self.kinds.items() if kind != "directory"]

    def only_files(self) -> Match:
        """Leave out the directories, as fsspec does except for whole trees."""
        return evolve(self, kinds=dict.fromkeys(self.files, "file"))

    def destinations(
        self, target: str, *, is_directory: Callable[[str], bool]
    ) -> list[Destination]:
        """Return where each name goes; those of a list go into one directory.

        Args:
            target: a path; a trailing slash makes it a directory.
            is_directory: asked about a target without a trailing slash.
        """
        if not self.kinds:
            return []
        exists, one = False, isinstance(self.source, str)
        if one and self.is_pattern:
            exists = len(self.kinds) == 1
        elif one and not trailing_sep(self.source):
            exists = trailing_sep(target) or is_directory(target)
        targets = other_paths(list(self.kinds), target, exists=exists, flatten=not one)
        return [
            Destination(name, where, kind == "directory")
            for (name, kind), where in zip(self.kinds.items(), targets, strict=True)
        ]


@frozen(eq=False)
class Destination:
    """An object or directory, and the path that it goes to."""

    path: str
    target: str
    is_directory: bool = False


def paired(sources: Sequence[str], targets: Sequence[str]) -> list[Destination]:
    """Return the destinations of two lists: each source has its own target.

    Raises:
        ValueError: they differ in length.
    """
    _check_lengths(sources, targets)
    return [Destination(*pair) for pair in zip(sources, targets, strict=True)]


def _check_lengths(sources: Sequence[str], targets: Sequence[str]) -> None:
    if len(sources) != len(targets):
        msg = f"{len(sources)} sources for {len(targets)} destinations"
        raise ValueError(msg)


def looks_like_a_pattern(path: str) -> bool:
    """Return whether *path* may stand for several."""
    return bool(has_magic(path))


def refuse_clashes(destinations: Iterable[Destination], *, local: bool = False) -> None:
    """Refuse two objects with one destination, where one of them would be lost.

    Raises:
        ConfigurationError: names them.
    """
    seen: dict[str, str] = {}
    problems = []
    for one in destinations:
        place = os.path.normpath(one.target) if local else one.target
        before = seen.setdefault(place, one.path)
        if before != one.path and not one.is_directory:
            problems.append(f"{before!r} and {one.path!r} would both be {one.target!r}")
    _refuse(problems)


def refuse_escapes(destinations: Iterable[Destination], root: str) -> None:
    """Refuse names of objects that would become files outside of *root*.

    Raises:
        ConfigurationError: names them.
    """
    base = root.rstrip("/")
    problems = []
    for one in destinations:
        name = one.target.removeprefix(base)
        why = "has a NUL in its name" if "\0" in name else ""
        if ".." in name.split("/"):
            why = why or "would leave the directory"
        if why:
            text = f"{one.path!r} {why}: get it alone, to a name of your own"
            problems.append(text)
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        more = len(problems) - _MAX_SHOWN
        shown = problems[:_MAX_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigurationError(shown)


def local_path(path: Any) -> str:
    """Return a local path in the form of fsspec's rules: absolute, plain slashes."""
    return str(make_path_posix(stringify_path(path)))


class Kind(Enum):
    """Kind of a local name for ``put``."""

    FILE = "file"  # also if it cannot be looked at: reading it raises the reason
    DIRECTORY = "directory"
    LINK = "link to a directory"
    SPECIAL = "pipe, socket or device"


_KINDS = tuple(Kind)


@frozen
class LocalEntry:
    """A local name, and its destination.

    Attributes:
        local: absolute path.
        path: the destination.
        kind: file, directory, link or device.
        problem: why the directory cannot be walked; None without a problem.
    """

    local: str
    path: str
    kind: Kind
    problem: OSError | None = None

    @property
    def is_sent(self) -> bool:
        """Whether ``put`` sends it, or fails with its problem."""
        return self.kind is Kind.FILE or self.problem is not None

    @property
    def is_skipped(self) -> bool:
        """Whether ``put`` leaves it out with a warning."""
        return self.kind in (Kind.LINK, Kind.SPECIAL)

    @property
    def is_directory(self) -> bool:
        """Whether ``put`` remembers it as a directory."""
        return self.kind in (Kind.DIRECTORY, Kind.LINK)


class LocalTree:
    """The files and directories of one ``put``; may be iterated repeatedly.

    A directory is walked while it is iterated: memory grows with the largest single
    directory, not with the tree. A local name that exists is taken as it is, even if it
    looks like a pattern.

    Args:
        lpath: a file, a directory, a pattern, or several of them.
        rpath: a path without protocol, or a list as long as *lpath*.
        recursive: walk directories.
        maxdepth: levels of directories; None for all.
        is_directory: asked about a destination without a trailing slash.
        path_of: turns a destination into a path.

    Raises:
        FileNotFoundError: nothing is at *lpath*.
        ValueError: two lists of different length, or a bad *maxdepth*.
    """

    def __init__(
        self,
        lpath: Any,
        rpath: Any,
        *,
        recursive: bool = True,
        maxdepth: int | None = None,
        is_directory: Callable[[str], bool] = lambda _: False,
        path_of: Callable[[str], str] = str,
    ) -> None:
        if maxdepth is not None and maxdepth < 1:
            msg = "maxdepth must be at least 1"
            raise ValueError(msg)
        self._one = isinstance(lpath, str | os.PathLike)
        given = [local_path(path) for path in ([lpath] if self._one else lpath)]
        self._path_of = path_of
        self._recursive = recursive
        self._maxdepth = self._depth = maxdepth
        self._targets: list[str] | None = None
        if not isinstance(rpath, str):
            self._targets, self._tops = list(rpath), given
            if self._one:
                msg = f"1 sources for {len(self._targets)} destinations"
                raise ValueError(msg)
            _check_lengths(given, self._targets)
            return
        self._only_files = self._one and (not recursive or maxdepth is not None)
        self._tops = [path.rstrip("/") or "/" for path in _tops(given, maxdepth)]
        self._is_pattern = any(map(_is_pattern, given))
        if self._one and self._is_pattern and maxdepth is not None:
            self._depth = maxdepth - 1  # the pattern is the first level
        self._root = rpath.rstrip("/")
        # fsspec walks a list into one directory; one source decides by its kind.
        self._cut = (
            self._prefix_length(given[0], rpath, is_directory) if self._one else 0
        )

    def __iter__(self) -> Iterator[LocalEntry]:
        """Yield files and directories."""
        if self._targets is not None:
            for local, path in zip(self._tops, self._targets, strict=True):
                yield LocalEntry(local, self._path_of(path), _kind_of_top(local))
            return
        several = len(self._tops) > 1
        seen: set[str] = set()  # a name may be in several of the sources
        for entry in self._walked():
            cut = self._cut if self._one else entry.local.rfind("/")
            if several:
                if entry.local in seen:
                    continue
                seen.add(entry.local)
            yield evolve(entry, path=self._path_of(self._root + entry.local[cut:]))

    def _walked(self) -> Iterator[LocalEntry]:
        """Yield entries without destinations."""
        for top in self._tops:
            kind = _kind_of_top(top)
            if self._is_pattern and kind is Kind.FILE and _is_special(top):
                kind = Kind.SPECIAL  # a pipe is sent only if it is named
            if not (self._only_files and kind is Kind.DIRECTORY):
                yield LocalEntry(top, "", kind)
            deep = self._depth is None or self._depth > 0
            if not (self._recursive and deep and kind is Kind.DIRECTORY):
                continue
            for entry in _walk(top, self._depth):
                is_directory = entry.kind is Kind.DIRECTORY and entry.problem is None
                if not (self._only_files and is_directory):
                    yield entry

    def _prefix_length(
        self, lpath: str, rpath: str, is_directory: Callable[[str], bool]
    ) -> int:
        """Return how many characters of the local names the destination replaces."""
        prefix, count = self._common_prefix()
        exists = False
        if self._is_pattern:
            exists = count == 1
        elif count and not trailing_sep(lpath):
            exists = trailing_sep(rpath) or is_directory(rpath)
        return len(prefix.rpartition("/")[0] if exists else prefix)

    def _common_prefix(self) -> tuple[str, int]:
        """Return the path that all names of the one source share, and their number.

        The prefix of a tree is its top, and the number is 2 unless it is empty.
        """
        if self._recursive and self._maxdepth is None and len(self._tops) == 1:
            top = self._tops[0]
            alone = _kind_of_top(top) is not Kind.DIRECTORY
            empty = not alone and next(_walk(top, None), None) is None
            return ("" if top == "/" else top), 1 if alone or empty else 2
        common: list[str] = []
        count = 0
        for entry in self._walked():
            if self._only_files and entry.kind is Kind.LINK:
                continue
            parts = entry.local.split("/")
            pairs = zip(common if count else parts, parts, strict=False)
            common = [one for one, _ in takewhile(lambda two: two[0] == two[1], pairs)]
            count += 1
        return "/".join(common), count


def _is_pattern(path: str) -> bool:
    return has_magic(path) and not os.path.lexists(path)


def _tops(given: Iterable[str], maxdepth: int | None) -> Iterator[str]:
    """Yield the existing names of *given*, and those that fit its patterns."""
    local = LocalFileSystem()
    for path in given:
        if _is_pattern(path):
            yield from local.expand_path(path, maxdepth=maxdepth)
        elif os.path.lexists(path):
            yield path
        else:
            raise FileNotFoundError(2, "no such local file", path)


def _kind_of_top(path: str) -> Kind:
    """Return the kind of a name that was given: its links are followed."""
    return Kind.DIRECTORY if os.path.isdir(path) else Kind.FILE


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _walk(top: str, depth: int | None) -> Iterator[LocalEntry]:
    """Yield the entries below *top* to *depth* levels, directories before their content.

    Links to directories are not followed: they may lead out, or in circles.
    """
    stack = [_listed(top)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        yield entry
        deep = depth is None or len(stack) < depth
        if entry.kind is Kind.DIRECTORY and entry.problem is None and deep:
            stack.append(_listed(entry.local))


def _listed(directory: str) -> Iterator[LocalEntry]:
    """Yield the sorted entries of *directory*, or itself with the reason if unreadable."""
    try:
        with os.scandir(directory) as entries:
            # One text for each: a directory may hold very many.
            found = sorted(f"{e.name}\0{_KINDS.index(_kind(e))}" for e in entries)
    except OSError as error:
        yield LocalEntry(directory, "", Kind.DIRECTORY, error)
        return
    front = directory.rstrip("/")
    for text in found:
        name, _, kind = text.partition("\0")
        yield LocalEntry(f"{front}/{name}", "", _KINDS[int(kind)])


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_dir(follow_symlinks=False):
            return Kind.DIRECTORY
        if entry.is_dir():
            return Kind.LINK
        if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            return Kind.FILE
    except OSError:  # a link that leads in a circle
        return Kind.FILE
    return Kind.SPECIAL
