"""Sources of a sync: a local directory, or a directory of any fsspec filesystem."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from attrs import frozen
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from ...client.client import Client
from ...client.operations import listing
from ...compat import open_regular
from ...engine.engine import iterated
from ...errors import ConfigurationError, StoreError
from ...filesystem.destinations import Kind, local_entries
from ...model import Action, split_path
from .plan import Aside, Entry

# Names that filesystems use for the modification time, and for the content identifier.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "content_md5", "generation", "sha256")


@frozen
class LocalSource:
    root: str  # absolute path
    is_local = True

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield files, and an Aside for each entry that is unreadable or not a file."""
        for entry in local_entries(self.root, ""):
            name = entry.path[1:]
            if entry.problem is not None:
                yield Aside(name, "unreadable", entry.problem)
            elif entry.kind is Kind.FILE:
                try:
                    status = os.stat(entry.local)
                except OSError as error:
                    yield Aside(name, "unreadable", error)
                else:
                    yield Entry(name, status.st_size, status.st_mtime_ns)
            elif entry.kind is not Kind.DIRECTORY:
                yield Aside(name, entry.kind.value)

    def path_of(self, name: str) -> str:
        return f"{self.root.rstrip('/')}/{name}"

    def open(self, name: str) -> Any:
        return open(self.path_of(name), "rb", buffering=0, opener=open_regular)


@frozen
class RemoteSource:
    fs: Any
    root: str  # path without protocol and final slash
    is_local = False

    @property
    def _front(self) -> str:
        return f"{self.root}/" if self.root else str(self.fs.root_marker)

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield files, and an Aside for each entry that is neither file nor directory.

        A directory that cannot be listed raises the error of its filesystem.
        ConfigurationError if the source is a file, or lists a name outside of it;
        FileNotFoundError if it does not exist.
        """
        empty = True
        for info in self._infos():
            full = str(info["name"])
            if full == self.root:
                raise _no_directory(full)
            self._check_within(full, self._front)
            empty = False
            name = full.removeprefix(self._front)
            if name.endswith("/") or info.get("type") == "directory":
                continue  # includes empty objects that represent directories
            if info.get("type") != "file":
                yield Aside(name, str(info.get("type")))
                continue
            size = info.get("size")
            known = size if isinstance(size, int) and size >= 0 else None
            yield Entry(name, known, _time(info), _tag(info))
        if empty and self.root and not self.fs.isdir(self.root):
            raise FileNotFoundError(2, "the source does not exist", self.root)

    def _infos(self) -> Iterator[Mapping[str, Any]]:
        if hasattr(self.fs, "client") and self.fs.protocol == "osspresigned":
            # If listing is not granted, ``find`` would answer from memory.
            bucket, key = split_path(self.root)
            yield from whole_listing(self.fs.client, bucket, f"{key}/" if key else "")
        elif _finds_by_itself(self.fs):
            yield from self.fs.find(self.root, detail=True).values()
        else:
            yield from self._walked()

    def _walked(self) -> Iterator[Mapping[str, Any]]:
        """Yield ``info`` of all entries except directories, one directory at a time.

        fsspec's own ``find`` and ``walk`` skip directories that cannot be listed.
        """
        stack = [self._front.rstrip("/")]
        while stack:
            directory = stack.pop()
            for info in self.fs.ls(directory or self.fs.root_marker, detail=True):
                name = str(info["name"]).rstrip("/")
                if info["type"] != "directory":
                    yield info
                elif name != directory:
                    self._check_within(name, f"{directory}/" if directory else "")
                    stack.append(name)

    def _check_within(self, full: str, front: str) -> None:
        if not full.startswith(front):
            text = f"{full[:200]!r} is listed, but is not in {self.root!r}"
            raise ConfigurationError(f"the source cannot be trusted: {text}")

    def path_of(self, name: str) -> str:
        return self._front + name

    def open(self, name: str) -> Any:
        return self.fs.open(self.path_of(name), "rb")


SyncSource: TypeAlias = LocalSource | RemoteSource


def _finds_by_itself(fs: Any) -> bool:
    kind = type(fs)
    if getattr(fs, "fs", None) is not None:
        return False  # the filesystem is a wrapper, and the inner one may walk
    if isinstance(fs, AsyncFileSystem):
        return kind._find is not AsyncFileSystem._find  # noqa: SLF001 - fsspec lets subclasses override it
    return kind.find is not AbstractFileSystem.find


def whole_listing(
    client: Client, bucket: str, prefix: str
) -> Iterator[Mapping[str, Any]]:
    """Yield ``info`` of all objects whose keys begin with *prefix*.

    StoreError if the store folds objects into directories, which would hide them.
    """
    for info in iterated(listing(client, bucket, prefix, delimiter="")):
        if info["type"] != "file":
            msg = "the listing hides objects in directories that were not asked for"
            raise StoreError(msg, path=info["name"], action=Action.ListObjectsV2)
        yield info


def source_of(source: Any, options: Mapping[str, Any]) -> SyncSource:
    """Return the source for a local path, or an fsspec URL with storage *options*.

    FileNotFoundError if a local path is missing; ConfigurationError if it is a file, or
    if *options* are given for it.
    """
    text = str(stringify_path(source))
    path = str(make_path_posix(text))
    if "://" in text:  # only "://" marks a URL, because a local name may contain "::"
        fs, path = url_to_fs(text, **options)
        if not isinstance(fs, LocalFileSystem):
            return RemoteSource(fs, path.rstrip("/"))
    if options:
        msg = "a local source takes no options: they are for sources like s3://..."
        raise ConfigurationError(msg)
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "no such local directory", path)
    if not os.path.isdir(path):
        raise _no_directory(path)
    return LocalSource(path.rstrip("/") or "/")


def target_of(target: Any) -> LocalSource:
    text = str(stringify_path(target))
    if "://" in text and not text.startswith(("file://", "local://")):
        why = "is not a local directory: sync_down writes only to local ones"
        raise ConfigurationError(f"{text[:80]!r} {why}")
    path = str(make_path_posix(text.partition("://")[2] or text))
    if os.path.lexists(path) and not os.path.isdir(path):
        raise ConfigurationError(f"{path!r} is a file: sync needs a directory")
    return LocalSource(path.rstrip("/") or "/")


def _no_directory(path: str) -> ConfigurationError:
    return ConfigurationError(f"{path!r} is a file: use put for a file")


def refuse_overlap(source: SyncSource, bucket: str, prefix: str) -> None:
    """Raise ConfigurationError if *source* and destination have objects in common.

    This compares only buckets and prefixes, and only if the source is in OSS.
    """
    if not isinstance(source, RemoteSource):
        return
    protocol = source.fs.protocol
    names = {protocol} if isinstance(protocol, str) else {*protocol}
    if names.isdisjoint({"osspresigned", "oss"}):
        return
    where, _, key = source.root.lstrip("/").partition("/")
    front = f"{key}/" if key else ""
    if where == bucket and (front.startswith(prefix) or prefix.startswith(front)):
        both = f"{where}/{front} and {bucket}/{prefix} hold the same objects"
        raise ConfigurationError(f"source and destination overlap: {both}")


def _time(info: Mapping[str, Any]) -> int | None:
    value = next((info[n] for n in _TIMES if info.get(n) is not None), None)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return round(value * 1e9)
    return None


def _tag(info: Mapping[str, Any]) -> str:
    value = next((info[n] for n in _TAGS if info.get(n)), "")
    return str(value).strip('"')
