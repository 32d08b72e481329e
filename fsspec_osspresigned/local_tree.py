"""Which local file goes where: fsspec's rules for ``put``, without sending anything."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from glob import has_magic
from itertools import takewhile
from typing import Any

from attrs import frozen
from fsspec.implementations.local import (
    LocalFileSystem,
    make_path_posix,
    trailing_sep,
)
from fsspec.utils import stringify_path


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
