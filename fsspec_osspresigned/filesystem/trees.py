"""Which local file goes where: fsspec's rules for ``put``, without sending anything."""

from __future__ import annotations

import os
import re
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

# Which object goes where: fsspec's rules for ``get`` and ``copy``; asks nobody.

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


class Kind(Enum):
    """What ``put`` makes of a local name."""

    FILE = "file"  # also what cannot be looked at: reading it says why
    DIRECTORY = "directory"
    LINK = "link to a directory"
    SPECIAL = "pipe, socket or device"


@frozen
class Found:
    """A local name, and where it goes.

    Attributes:
        local: its absolute path.
        path: the destination.
        kind: what it is.
        problem: why it cannot be walked; None if it can, or is no directory.
    """

    local: str
    path: str
    kind: Kind
    problem: OSError | None = None


_Entry = tuple[str, Kind, OSError | None]


class LocalTree:
    """The files and directories that one ``put`` means; may be walked repeatedly.

    A directory is walked while it is iterated, so that memory does not grow with the
    files in it, only with those of the largest single directory.
    """

    def __init__(
        self,
        lpath: Any,
        rpath: Any,
        *,
        recursive: bool,
        maxdepth: int | None,
        is_directory: Callable[[str], bool],
        named: Callable[[str], str] = str,
    ) -> None:
        """Look at the sources only.

        A local name that exists is taken as it is, even if it looks like a pattern.

        Args:
            lpath: a file, a directory, a pattern, or several of them.
            rpath: a path without protocol, or a list as long as *lpath*.
            recursive: whether directories are walked.
            maxdepth: levels of directories; None for all.
            is_directory: whether a destination without a trailing slash is a directory.
            named: turns a destination into a path.

        Raises:
            FileNotFoundError: nothing is at *lpath*.
            ValueError: two lists of different length, or a bad *maxdepth*.
        """
        if maxdepth is not None and maxdepth < 1:
            msg = "maxdepth must be at least 1"
            raise ValueError(msg)
        self._one = isinstance(lpath, str | os.PathLike)
        given = [_local(path) for path in ([lpath] if self._one else lpath)]
        self._named = named
        self._recursive = recursive
        self._maxdepth = maxdepth
        self._targets: list[str] | None = None
        if not isinstance(rpath, str):
            self._targets = list(rpath)
            if self._one or len(given) != len(self._targets):
                msg = f"{len(given)} sources for {len(self._targets)} destinations"
                raise ValueError(msg)
            self._tops = given
            return
        self._only_files = self._one and (not recursive or maxdepth is not None)
        self._depth = maxdepth
        self._tops = [path.rstrip("/") or "/" for path in _tops(given, maxdepth)]
        self._guessed = any(map(_is_pattern, given))  # nobody has named them
        self._is_pattern = self._one and self._guessed
        if self._is_pattern and maxdepth is not None:
            self._depth = maxdepth - 1  # the pattern is the first level
        self._root = rpath.rstrip("/")
        self._cut = 0
        # What one source is, decides; fsspec walks a list into one directory.
        if not self._one:
            return
        prefix, count = self._prefix()
        exists = False
        if self._is_pattern:
            exists = count == 1
        elif count and not trailing_sep(given[0]):
            exists = trailing_sep(rpath) or is_directory(rpath)
        self._cut = len(prefix.rpartition("/")[0] if exists else prefix)

    def __iter__(self) -> Iterator[Found]:
        """Yield files and directories."""
        if self._targets is not None:
            for local, path in zip(self._tops, self._targets, strict=True):
                yield Found(local, self._named(path), _kind_of_top(local))
            return
        for local, kind, problem in self._entries():
            cut = self._cut if self._one else local.rfind("/")
            path = self._named(self._root + local[cut:])
            yield Found(local, path, kind, problem)

    def _entries(self) -> Iterator[_Entry]:
        """Yield what is sent or made, without destinations."""
        several = len(self._tops) > 1
        seen: set[str] = set()  # one name may be in several of the sources
        for entry in self._walked():
            if self._only_files and entry[1] is Kind.DIRECTORY and entry[2] is None:
                continue
            if several:
                if entry[0] in seen:
                    continue
                seen.add(entry[0])
            yield entry

    def _walked(self) -> Iterator[_Entry]:
        for top in self._tops:
            kind = _kind_of_top(top)
            if self._guessed and kind is Kind.FILE and _is_special(top):
                kind = Kind.SPECIAL
            yield top, kind, None
            deep = self._depth is None or self._depth > 0
            if self._recursive and deep and kind is Kind.DIRECTORY:
                yield from _walk(top, self._depth)

    def _prefix(self) -> tuple[str, int]:
        """Return what all names of the one source have in front, and how many are.

        Where a directory is among them it is its own name, and the number 1 or 2.
        """
        if self._recursive and self._maxdepth is None and len(self._tops) == 1:
            top = self._tops[0]
            alone = _kind_of_top(top) is not Kind.DIRECTORY
            empty = not alone and next(_walk(top, None), None) is None
            return ("" if top == "/" else top), 1 if alone or empty else 2
        common: list[str] = []
        count = 0
        for local, kind, _ in self._entries():
            if self._only_files and kind is Kind.LINK:
                continue
            parts = local.split("/")
            if count == 0:
                common = parts
            equal = takewhile(
                lambda two: two[0] == two[1], zip(common, parts, strict=False)
            )
            common = [part for part, _ in equal]
            count += 1
        return "/".join(common), count


def pairs(
    lpath: Any,
    rpath: Any,
    *,
    recursive: bool,
    maxdepth: int | None,
    is_directory: Callable[[str], bool],
) -> Iterator[tuple[str, str]]:
    """Yield ``(local, remote)`` of the files that ``put`` would send.

    Raises:
        OSError: a directory cannot be read.
    """
    tree = LocalTree(
        lpath,
        rpath,
        recursive=recursive,
        maxdepth=maxdepth,
        is_directory=is_directory,
    )
    for found in tree:
        if found.problem is not None:
            raise found.problem
        if found.kind is Kind.FILE:
            yield found.local, found.path


def _local(path: Any) -> str:
    return str(make_path_posix(stringify_path(path)))


def _is_pattern(path: str) -> bool:
    return has_magic(path) and not os.path.lexists(path)


def _tops(given: Iterable[str], maxdepth: int | None) -> Iterator[str]:
    """Yield what is there of the names and patterns *given*, ``**`` *maxdepth* deep."""
    local = LocalFileSystem()
    for path in given:
        if _is_pattern(path):
            yield from local.expand_path(path, maxdepth=maxdepth)
        elif os.path.lexists(path):
            yield path
        else:
            raise FileNotFoundError(2, "no such local file", path)


def _kind_of_top(path: str) -> Kind:
    """Return what a name is that somebody has written: links are followed."""
    return Kind.DIRECTORY if os.path.isdir(path) else Kind.FILE


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _walk(top: str, depth: int | None) -> Iterator[_Entry]:
    """Yield what is beneath *top*, *depth* levels of it; directories before theirs.

    Links to directories are not followed: they may lead out, or in circles.
    """
    stack = [_listed(top)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
            continue
        yield entry
        local, kind, problem = entry
        deep = depth is None or len(stack) < depth
        if kind is Kind.DIRECTORY and problem is None and deep:
            stack.append(_listed(local))


def _listed(directory: str) -> Iterator[_Entry]:
    """Yield what is directly in *directory*, sorted; itself, if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            # One text each, for there may be very many in one directory.
            found = sorted(f"{entry.name}\0{_kind(entry)}" for entry in entries)
    except OSError as error:
        yield directory, Kind.DIRECTORY, error
        return
    front = directory.rstrip("/")
    for text in found:
        name, _, kind = text.partition("\0")
        yield f"{front}/{name}", _KINDS[int(kind)], None


_KINDS = tuple(Kind)
_NUMBERS = {kind: number for number, kind in enumerate(Kind)}


def _kind(entry: os.DirEntry[str]) -> int:
    """Return the number of its kind."""
    try:
        if entry.is_dir(follow_symlinks=False):
            kind = Kind.DIRECTORY
        elif entry.is_dir():
            kind = Kind.LINK
        elif entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            kind = Kind.FILE
        else:
            kind = Kind.SPECIAL
    except OSError:  # a link that leads in a circle
        kind = Kind.FILE
    return _NUMBERS[kind]
