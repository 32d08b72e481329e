"""Destinations of transfers, by fsspec's rules.

The first part is for objects (``get`` and ``copy``), the second for local trees
(``put``).
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from glob import has_magic
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from attrs import frozen
from fsspec.implementations.local import LocalFileSystem, make_path_posix, trailing_sep
from fsspec.utils import other_paths, stringify_path

from ..errors import ConfigurationError
from .arguments import check_depth

_MAX_SHOWN = 20


@frozen(eq=False)
class Match:
    """Objects and directories that the paths or patterns of a call match."""

    source: Any  # the source, as the caller gave it
    # name -> type, sorted by name; None for a name that was not looked up
    kinds: Mapping[str, str | None]
    is_pattern: bool  # True: one pattern, and no object has exactly this name

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

        *is_directory* tells whether *target* is a directory. The files of a list go
        directly into the directory *target*.
        """
        names = list(self.kinds)
        targets = _targets(
            names, self.source, target, is_directory, is_pattern=self.is_pattern
        )
        return [
            Destination(name, path, self.kinds[name] == "directory")
            for name, path in zip(names, targets, strict=True)
        ]


def _targets(
    names: list[str],
    source: Any,
    target: str,
    is_directory: Callable[[str], bool],
    *,
    is_pattern: bool,
) -> list[str]:
    """Return the destination of each of the *names* that were found for *source*."""
    if not names:
        return []
    exists, is_one = False, isinstance(source, str)
    if is_one and is_pattern:
        exists = len(names) == 1
    elif is_one and not trailing_sep(source):
        exists = trailing_sep(target) or is_directory(target)
    targets: list[str] = other_paths(names, target, exists=exists, flatten=not is_one)
    return targets


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

    On a disk (*local*), four more things are refused: a destination that is both a
    file and a directory, a directory where a file exists, the name of an unfinished
    download, and two names that differ only in case or Unicode form, if the file system
    ignores that. *known* means that each source is known to be an object or a
    directory. Only then is an object refused that would replace an existing directory.
    """
    seen: dict[str, str] = {}
    folded: dict[str, str] = {}
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
            problems.append(f"{item.path!r} would be {target!r}, an existing directory")
        elif local and _is_unfinished(target):
            # another download may be writing to that name
            name = "the name of an unfinished download"
            advice = "get it alone, to a different name"
            problems.append(f"{item.path!r} has {name}: {advice}")
        elif local:
            fold = unicodedata.normalize("NFD", target.casefold())
            other = folded.setdefault(fold, target)
            if other != target and _are_one_file(other, target):
                pair = f"{seen[other]!r} and {item.path!r}"
                problems.append(f"{pair} would be one file on this file system")
    _refuse([*problems, *(_obstacles(seen, files) if local else ())])


def _are_one_file(path: str, other: str) -> bool:
    """Return whether the file system ignores the differences between two paths.

    It tries the names that differ in a temporary directory, next to the files.
    """
    names = zip(Path(path).parts, Path(other).parts, strict=True)
    above = next(filter(os.path.isdir, map(str, Path(path).parents)), None)
    with TemporaryDirectory(prefix=".osspresigned-", dir=above) as trial:
        for one, two in names:
            if one != two:
                os.makedirs(os.path.join(trial, one), exist_ok=True)
                if not os.path.lexists(os.path.join(trial, two)):
                    return False
    return True


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


_WINDOWS = os.name == "nt"
_ODD_ON_WINDOWS = re.compile(
    r'[\x00-\x1f\\:*?"<>|]|[ .](?:/|$)'
    r"|(?:^|/)(?i:con(?:in\$|out\$)?|prn|aux|nul|(?:com|lpt)[0-9¹²³]) *(?:[.][^/]*)?(?:/|$)"
)


def local_name_problem(name: str, *, windows: bool = _WINDOWS) -> str | None:
    """Return why no file in a directory can have the *name* of a key; None if one can.

    *windows* applies the rules of Windows, which has drives, backslashes and devices.
    """
    if "\0" in name:
        return "has a NUL character in its name"
    if ".." in name.split("/"):
        return "would leave the directory"
    if windows and _ODD_ON_WINDOWS.search(name):
        return "is not a file name on Windows"
    return None


def refuse_escapes(
    destinations: Iterable[Destination], root: str, *, windows: bool = _WINDOWS
) -> None:
    """Raise ConfigurationError if a file cannot have the name that it would get in *root*."""
    problems = []
    for item in destinations:
        name = item.target.removeprefix(root.rstrip("/"))
        if why := local_name_problem(name, windows=windows):
            problems.append(f"{item.path!r} {why}: get it alone, to a different name")
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

    FILE = "file"  # includes unreadable files: reading one raises the reason
    PIPE = "pipe or device that the caller named"  # is read as a stream
    DIRECTORY = "directory"
    LINK = "link to a directory"
    SPECIAL = "pipe, socket or device"
    UNFINISHED = "unfinished download"


_Found: TypeAlias = "tuple[Kind, OSError | None]"

# Pattern for the name of a file that ``get`` has begun.
_is_unfinished = re.compile(r"(?:^|[/\\])\.osspresigned-[0-9a-f]{16}\Z").search


@frozen
class LocalEntry:
    """A local file or directory, its destination, and the error if it is unreadable."""

    local: str
    path: str
    kind: Kind
    problem: OSError | None = None

    @property
    def is_sent(self) -> bool:
        """True if ``put`` tries to upload this entry, even if it is an unreadable file."""
        return self.kind in (Kind.FILE, Kind.PIPE) or self.problem is not None

    @property
    def is_pipe(self) -> bool:
        """True if the caller named a pipe or a device, which is read as a stream."""
        return self.kind is Kind.PIPE

    @property
    def is_skipped(self) -> bool:
        """True if ``put`` skips this entry with a warning."""
        return self.kind in (Kind.LINK, Kind.SPECIAL, Kind.UNFINISHED)

    @property
    def is_directory(self) -> bool:
        """True if ``put`` records this entry as a directory."""
        return self.kind is Kind.DIRECTORY and self.problem is None


def local_entries(
    lpath: Any,
    rpath: Any,
    *,
    recursive: bool = True,
    maxdepth: int | None = None,
    is_directory: Callable[[str], bool] = lambda _: False,
    path_of: Callable[[str], str] = str,
) -> list[LocalEntry]:
    """Return the local files and directories of one ``put``.

    A name that exists is used literally, even if it looks like a pattern. *rpath* is a
    path without protocol, or a list as long as *lpath*. *is_directory* tells whether a
    destination without a trailing slash is a directory. *path_of* converts a
    destination to ``bucket/key``.

    Raises:
        FileNotFoundError: *lpath* does not exist.
        ValueError: the lists differ in length, or *maxdepth* is invalid.
    """
    check_depth(maxdepth)
    is_one = isinstance(lpath, str | os.PathLike)
    paths = [local_path(path) for path in ([lpath] if is_one else lpath)]
    if not isinstance(rpath, str):
        if is_one:
            raise ValueError(f"1 sources for {len(rpath)} destinations")
        return [
            LocalEntry(local, path_of(path), _kind_of_top(local))
            for local, path in paired(paths, rpath)
        ]
    is_pattern = any(map(_is_pattern, paths))
    depth = maxdepth if recursive else 0
    if is_one and is_pattern and depth:
        depth -= 1  # the pattern counts as the first level
    found: dict[str, _Found] = {}  # several sources may contain the same name
    for path in _tops(paths, maxdepth):
        top = path.rstrip("/") or "/"
        kind = _kind_of_top(top)
        if is_pattern and kind is Kind.PIPE:
            kind = Kind.SPECIAL
        found[top] = kind, None
        if kind is Kind.DIRECTORY and depth != 0:
            found.update(_walk(top, depth))
    names = list(found)
    if is_one and (not recursive or maxdepth is not None):
        # fsspec then lists only files
        directories = (Kind.DIRECTORY, None), (Kind.LINK, None)
        names = [name for name in names if found[name] not in directories]
    source = paths[0] if is_one else paths
    targets = _targets(names, source, rpath, is_directory, is_pattern=is_pattern)
    placed = dict(zip(names, targets, strict=True))
    return [
        LocalEntry(name, path_of(placed.get(name, "")), kind, problem)
        for name, (kind, problem) in found.items()
        if name in placed or kind is not Kind.DIRECTORY
    ]


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
    """Return the kind of a path that the caller named; symbolic links are followed."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.DIRECTORY
    return Kind.FILE if stat.S_ISREG(mode) else Kind.PIPE


def _walk(top: str, depth: int | None) -> Iterator[tuple[str, _Found]]:
    """Yield the entries below *top*, at most *depth* levels deep; None sets no limit.

    Links to directories are not followed, because they may lead outside or in a circle.
    An unreadable directory is yielded with the error.
    """
    below = [(top.rstrip("/"), Kind.DIRECTORY, 0)]
    while below:
        path, kind, level = below.pop()
        if level:
            yield path, (kind, None)
        if kind is not Kind.DIRECTORY or level == depth:
            continue
        try:
            with os.scandir(path or "/") as entries:
                listed = sorted((entry.name, _kind(entry)) for entry in entries)
        except OSError as error:
            yield path or "/", (kind, error)
            continue
        below += [(f"{path}/{name}", kind, level + 1) for name, kind in listed[::-1]]


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
    except OSError:  # the path is a link that leads in a circle
        return Kind.FILE
    return Kind.SPECIAL
