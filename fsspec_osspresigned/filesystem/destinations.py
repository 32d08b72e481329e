"""Destinations of transfers, by fsspec's rules.

Objects (for ``get`` and ``copy``) come first in this module, local trees (for ``put``)
follow.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from glob import has_magic
from typing import Any

from attrs import frozen
from fsspec.implementations.local import LocalFileSystem, make_path_posix, trailing_sep
from fsspec.utils import common_prefix, other_paths, stringify_path

from ..errors import ConfigurationError
from .arguments import check_depth

_MAX_SHOWN = 20


@frozen(eq=False)
class Match:
    """Objects and directories that the paths or patterns of a call match."""

    source: Any  # as it was given
    kinds: Mapping[str, str | None]  # sorted; None for what was not looked up
    is_pattern: bool  # one pattern, and no object of that very name

    @property
    def directories(self) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind == "directory"]

    @property
    def files(self) -> list[str]:
        return [name for name, kind in self.kinds.items() if kind != "directory"]

    def destinations(
        self, target: str, *, is_directory: Callable[[str], bool]
    ) -> list[Destination]:
        """Return the destination of each name at *target*, by fsspec's rules.

        *is_directory* tells whether *target* is a directory. A list of sources goes
        into the directory *target*, without the directories of their names.
        """
        if not self.kinds:
            return []
        exists, is_one = False, isinstance(self.source, str)
        if is_one and self.is_pattern:
            exists = len(self.kinds) == 1
        elif is_one and not trailing_sep(self.source):
            exists = trailing_sep(target) or is_directory(target)
        names = list(self.kinds)
        targets = other_paths(names, target, exists=exists, flatten=not is_one)
        return [
            Destination(name, path, self.kinds[name] == "directory")
            for name, path in zip(names, targets, strict=True)
        ]


@frozen(eq=False)
class Destination:
    """An object or directory to transfer, and its destination."""

    path: str
    target: str
    is_directory: bool = False


def paired(sources: Sequence[str], targets: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} sources for {len(targets)} destinations")
    return zip(sources, targets, strict=True)


def refuse_clashes(
    destinations: Sequence[Destination], *, local: bool = False, known: bool = False
) -> None:
    """Raise ConfigurationError if two objects have the same destination.

    On a disk (*local*), a destination must also not be a file and a directory at once,
    nor need a directory where a file exists, nor have the name of an unfinished download.
    *known* means that each source is known to be an object or a directory; only then may
    no object replace an existing directory.
    """
    seen: dict[str, str] = {}
    problems: list[str] = []
    files: set[str] = set()
    for item in destinations:
        target = os.path.normpath(item.target) if local else item.target
        before = seen.setdefault(target, item.path)
        if item.is_directory:
            continue
        files.add(target)
        if before != item.path:
            pair = f"{before!r} and {item.path!r}"
            problems.append(f"{pair} would both be {item.target!r}")
        elif local and known and os.path.isdir(target):
            problems.append(
                f"{item.path!r} would be {target!r}, a directory that is there"
            )
        elif local and _is_unfinished(target):  # where the bytes of another may be
            name = "the name of an unfinished download"
            advice = "get it alone, to a name of your own"
            problems.append(f"{item.path!r} has {name}: {advice}")
    _refuse([*problems, *(_obstacles(seen, files) if local else ())])


def _obstacles(seen: Mapping[str, str], files: set[str]) -> Iterator[str]:
    """Yield a message for each parent directory that is, or would become, a file."""
    checked: set[str] = set()
    for target, path in seen.items():
        above = os.path.dirname(target)
        while above not in checked:
            checked.add(above)
            if above in files:
                pair = f"{seen[above]!r} would be a file, where {path!r} needs"
                yield f"{pair} the directory {above!r}"
            elif os.path.lexists(above) and not os.path.isdir(above):
                yield f"{path!r} needs the directory {above!r}, which is a file"
            above = os.path.dirname(above)


def refuse_escapes(destinations: Iterable[Destination], root: str) -> None:
    problems = []
    for item in destinations:
        name = item.target.removeprefix(root.rstrip("/"))
        if "\0" in name:
            why = "has a NUL character in its name"
        elif ".." in name.split("/"):
            why = "would leave the directory"
        else:
            continue
        problems.append(f"{item.path!r} {why}: get it alone, to a name of your own")
    _refuse(problems)


def _refuse(problems: list[str]) -> None:
    if problems:
        more = len(problems) - _MAX_SHOWN
        shown = problems[:_MAX_SHOWN] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigurationError(shown)


def local_path(path: Any) -> str:
    """Return *path* as fsspec writes local paths: absolute, with forward slashes."""
    return str(make_path_posix(stringify_path(path)))


class Kind(Enum):
    """Kind of a local path for ``put``."""

    FILE = "file"  # also an unreadable one: reading it raises the reason
    PIPE = "pipe or device that the caller named"  # read as a stream
    DIRECTORY = "directory"
    LINK = "link to a directory"
    SPECIAL = "pipe, socket or device"
    UNFINISHED = "unfinished download"


# Name of a file that ``get`` has begun.
_is_unfinished = re.compile(r"(?:^|[/\\])\.osspresigned-[0-9a-f]{16}\Z").search


@frozen
class RegularFile(os.PathLike[str]):
    """Local path that ``put`` uploads only if it is a regular file when its turn comes.

    A pipe or a device that has replaced the file is refused, and not read.
    """

    local: str

    def __fspath__(self) -> str:
        return self.local


@frozen
class LocalEntry:
    """A local file or directory, its destination, and the error if it is unreadable."""

    local: str
    path: str
    kind: Kind
    problem: OSError | None = None

    @property
    def is_sent(self) -> bool:
        """True if ``put`` tries to upload this entry: a file, or an unreadable one."""
        return self.kind in (Kind.FILE, Kind.PIPE) or self.problem is not None

    @property
    def is_pipe(self) -> bool:
        """True if the caller named a pipe or device, which is read as a stream."""
        return self.kind is Kind.PIPE

    @property
    def is_skipped(self) -> bool:
        """True if ``put`` skips this entry with a warning."""
        return self.kind in (Kind.LINK, Kind.SPECIAL, Kind.UNFINISHED)

    @property
    def is_directory(self) -> bool:
        """True if ``put`` records this entry as a directory."""
        return self.kind in (Kind.DIRECTORY, Kind.LINK)


class LocalTree:
    """Local files and directories of one ``put``; can be iterated several times.

    Directories are listed during iteration, so memory grows with the largest single
    directory, not with the tree. A name that exists is used literally, even if it
    looks like a pattern. *rpath* is a path without protocol, or a list as long as
    *lpath*. *is_directory* tells whether a destination without a trailing slash is a
    directory. *path_of* turns a destination into ``bucket/key``.

    Raises:
        FileNotFoundError: *lpath* does not exist.
        ValueError: the lists differ in length, or *maxdepth* is invalid.
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
        check_depth(maxdepth)
        self._is_one = isinstance(lpath, str | os.PathLike)
        sources = [lpath] if self._is_one else [*lpath]
        paths = [local_path(path) for path in sources]
        # Found before the first byte is sent: a file that becomes one later is refused.
        self._pipes = {
            local
            for local, path in zip(paths, sources, strict=True)
            if not isinstance(path, RegularFile) and is_special(local)
        }
        self._path_of = path_of
        self._recursive = recursive
        self._maxdepth = self._depth = maxdepth
        self._pairs: list[tuple[str, str]] | None = None
        if not isinstance(rpath, str):
            if self._is_one:
                raise ValueError(f"1 sources for {len(rpath)} destinations")
            self._pairs = list(paired(paths, rpath))
            return
        self._only_files = self._is_one and (not recursive or maxdepth is not None)
        self._tops = [path.rstrip("/") or "/" for path in _tops(paths, maxdepth)]
        self._is_pattern = any(map(_is_pattern, paths))
        if self._is_one and self._is_pattern and maxdepth is not None:
            self._depth = maxdepth - 1  # the pattern is the first level
        self._root = rpath.rstrip("/")
        if self._is_one:  # fsspec walks a list into one directory
            self._cut = self._prefix_length(paths[0], rpath, is_directory)

    @property
    def unwalked(self) -> str | None:
        """The first source directory that is skipped because *recursive* is missing.

        None if there is no such directory.
        """
        if self._recursive or self._pairs is not None:
            return None
        kinds = ((top, _kind_of_top(top)) for top in self._tops)
        return next((top for top, kind in kinds if kind is Kind.DIRECTORY), None)

    def __iter__(self) -> Iterator[LocalEntry]:
        if self._pairs is not None:
            for local, path in self._pairs:
                yield LocalEntry(local, self._path_of(path), self._kind(local))
            return
        several = len(self._tops) > 1
        seen: set[str] = set()  # a name may be in several of the sources
        for entry in self._walked():
            cut = self._cut if self._is_one else entry.local.rfind("/")
            if several:
                if entry.local in seen:
                    continue
                seen.add(entry.local)
            path = self._path_of(self._root + entry.local[cut:])
            yield LocalEntry(entry.local, path, entry.kind, entry.problem)

    def _walked(self) -> Iterator[LocalEntry]:
        for top in self._tops:
            kind = self._kind(top)
            if self._is_pattern and kind is not Kind.DIRECTORY and is_special(top):
                kind = Kind.SPECIAL
            if not (self._only_files and kind is Kind.DIRECTORY):
                yield LocalEntry(top, "", kind)
            if not self._recursive or self._depth == 0 or kind is not Kind.DIRECTORY:
                continue
            for entry in _walk(top, self._depth):
                if not self._only_files or entry.is_sent or entry.is_skipped:
                    yield entry

    def _kind(self, top: str) -> Kind:
        return Kind.PIPE if top in self._pipes else _kind_of_top(top)

    def _prefix_length(
        self, lpath: str, rpath: str, is_directory: Callable[[str], bool]
    ) -> int:
        """Return the length of the prefix of local paths that *rpath* replaces."""
        prefix, count = self._common_prefix()
        exists = False
        if self._is_pattern:
            exists = count == 1
        elif count and not trailing_sep(lpath):
            exists = trailing_sep(rpath) or is_directory(rpath)
        return len(prefix.rpartition("/")[0] if exists else prefix)

    def _common_prefix(self) -> tuple[str, int]:
        """Return the common path of all entries, and their number.

        A single source with its whole content is not listed for that. Its common path
        is its own, and the number is 1 for a file or an empty directory. For any other
        directory it is 2, which stands for all larger numbers.
        """
        if self._recursive and self._maxdepth is None and len(self._tops) == 1:
            top = self._tops[0]
            alone = _kind_of_top(top) is not Kind.DIRECTORY
            empty = not alone and _is_empty(top)
            return ("" if top == "/" else top), 1 if alone or empty else 2
        common, count = "", 0
        for entry in self._walked():
            if not (self._only_files and entry.kind is Kind.LINK):
                both = [common if count else entry.local, entry.local]
                common, count = common_prefix(both), count + 1
        return common, count


def _is_pattern(path: str) -> bool:
    return has_magic(path) and not os.path.lexists(path)


def _tops(paths: Iterable[str], maxdepth: int | None) -> Iterator[str]:
    local = LocalFileSystem()
    for path in paths:
        if _is_pattern(path):
            try:
                yield from local.expand_path(path, maxdepth=maxdepth)
            except FileNotFoundError:
                raise FileNotFoundError(2, "no local file matches", path) from None
        elif os.path.lexists(path):
            yield path
        else:
            raise FileNotFoundError(2, "no such local file", path)


def _kind_of_top(path: str) -> Kind:
    """Return the kind of a path that the caller named, so symbolic links are followed."""
    return Kind.DIRECTORY if os.path.isdir(path) else Kind.FILE


def is_special(path: str) -> bool:
    """Return whether *path* exists and is neither a file nor a directory."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _is_empty(directory: str) -> bool:
    try:
        with os.scandir(directory) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _walk(top: str, depth: int | None) -> Iterator[LocalEntry]:
    """Yield the entries below *top*, at most *depth* levels deep; None sets no limit.

    Links to directories are not followed: they may lead outside, or in a circle.
    """
    for entry in _listed(top):
        yield entry
        is_read = entry.kind is Kind.DIRECTORY and entry.problem is None
        if is_read and depth != 1:
            yield from _walk(entry.local, None if depth is None else depth - 1)


def _listed(directory: str) -> Iterator[LocalEntry]:
    """Yield the sorted entries of *directory*.

    If it cannot be read, yield one entry for *directory* itself, with the error.
    """
    try:
        with os.scandir(directory) as entries:
            found = sorted((entry.name, _kind(entry)) for entry in entries)
    except OSError as error:
        yield LocalEntry(directory, "", Kind.DIRECTORY, error)
        return
    front = directory.rstrip("/")
    for name, kind in found:
        yield LocalEntry(f"{front}/{name}", "", kind)


def _kind(entry: os.DirEntry[str]) -> Kind:
    try:
        if entry.is_dir(follow_symlinks=False):
            return Kind.DIRECTORY
        if entry.is_dir():
            return Kind.LINK
        if _is_unfinished(entry.name):
            return Kind.UNFINISHED
        if entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path)):
            return Kind.FILE
    except OSError:  # a link that leads in a circle
        return Kind.FILE
    return Kind.SPECIAL
