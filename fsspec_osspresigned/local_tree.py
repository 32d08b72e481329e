"""Which local file goes where: fsspec's rules for ``put``, without sending anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from glob import has_magic
from typing import Any

from fsspec.implementations.local import (
    LocalFileSystem,
    make_path_posix,
    trailing_sep,
)
from fsspec.utils import other_paths, stringify_path


def pairs(
    lpath: Any,
    rpath: Any,
    *,
    recursive: bool,
    maxdepth: int | None,
    is_directory: Callable[[str], bool],
) -> list[tuple[str, str]]:
    """Return ``(local, remote)`` for every file and directory that ``put`` means.

    A local name that exists is taken as it is, even if it looks like a pattern.

    Args:
        lpath: a file, a directory, a pattern, or several of them.
        rpath: a path without protocol, or a list as long as *lpath*.
        recursive: whether directories are walked.
        maxdepth: levels of directories; None for all.
        is_directory: whether a destination without a trailing slash is a directory.

    Raises:
        FileNotFoundError: nothing is at *lpath*.
        ValueError: two lists of different length.
    """
    one = isinstance(lpath, str | os.PathLike)
    given = [_local(path) for path in ([lpath] if one else lpath)]
    if not isinstance(rpath, str):
        targets = list(rpath)
        if one or len(given) != len(targets):
            msg = f"{len(given)} sources for {len(targets)} destinations"
            raise ValueError(msg)
        return list(zip(given, targets, strict=True))
    found = sorted(set(_expand(given, recursive=recursive, maxdepth=maxdepth)))
    if one and (not recursive or maxdepth is not None):
        found = [path for path in found if not _is_directory(path)]
    if not found:
        return []
    exists = False
    if one:
        (source,) = given
        if _is_pattern(source):
            exists = len(found) == 1
        elif not trailing_sep(source):
            exists = trailing_sep(rpath) or is_directory(rpath)
    targets = other_paths(found, rpath.rstrip("/"), exists=exists, flatten=not one)
    return list(zip(found, targets, strict=True))


def _local(path: Any) -> str:
    return str(make_path_posix(stringify_path(path)))


def _is_pattern(path: str) -> bool:
    return has_magic(path) and not os.path.lexists(path)


def _is_directory(path: str) -> bool:
    return trailing_sep(path) or os.path.isdir(path)


def _expand(
    given: Iterable[str], *, recursive: bool, maxdepth: int | None
) -> Iterable[str]:
    local = LocalFileSystem()
    for path in given:
        if _is_pattern(path):
            yield from local.expand_path(path, recursive=recursive, maxdepth=maxdepth)
            continue
        if not os.path.lexists(path):
            raise FileNotFoundError(2, "no such local file", path)
        yield path.rstrip("/") or "/"
        if recursive and os.path.isdir(path):
            yield from local.find(path, maxdepth=maxdepth, withdirs=True)
