"""Where a sync reads from: a local directory, or one of any filesystem of fsspec.

Both can travel to another process: they are a path, and a filesystem by its options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeAlias

from attrs import frozen
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem, make_path_posix
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from ..client.client import Client
from ..errors import ConfigurationError, ReplyError
from ..filesystem.trees import Kind, LocalTree
from ..model import Action, split_path
from ..objects.listing import listing
from .plan import Aside, Entry

# Where filesystems put the time of a change, and what they call the content.
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")
_TAGS = ("ETag", "etag", "blob_id", "md5Hash", "content_md5", "generation", "sha256")
# Options of filesystems that are secrets themselves.
_SECRETS = ("secret", "password", "account_key", "sas_token", "connection_string", "client_secret", "token")  # fmt: skip
_WORDS = ("anon", "google_default", "cloud", "cache", "browser")  # tokens of gcsfs

Name: TypeAlias = str


class SyncSource(Protocol):
    """What a sync asks of its source; names are below it."""

    @property
    def is_local(self) -> bool:
        """Whether its files are read from a path of this machine."""
        ...

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield all files.

        Raises:
            OSError: a remote source could not be listed as a whole.
        """
        ...

    def place(self, name: Name) -> str:
        """Return the path of a file."""
        ...

    def open(self, name: Name) -> Any:
        """Open a file for reading bytes."""
        ...

    def check_portable(self) -> None:
        """Raise ConfigurationError if it would take a secret along."""
        ...


@frozen
class LocalSource:
    """A directory of this machine; *root* is absolute."""

    root: str
    is_local = True

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield files, and what is none or cannot be read, as ``put`` decides."""
        tree = LocalTree(
            self.root, "", recursive=True, maxdepth=None, is_directory=lambda _: False
        )
        for found in tree:
            name = found.path[1:]
            if found.problem is not None:
                yield Aside(name, "unreadable", found.problem)
            elif found.kind is Kind.FILE:
                yield _local_entry(name, found.local)
            elif found.kind is not Kind.DIRECTORY:
                yield Aside(name, found.kind.value)

    def place(self, name: Name) -> str:
        """Return the path of a file."""
        return f"{self.root.rstrip('/')}/{name}"

    def open(self, name: Name) -> Any:
        """Open a file for reading bytes."""
        return open(self.place(name), "rb", buffering=0)

    def check_portable(self) -> None:
        """A path is no secret; whether it leads to the same files there, nobody knows."""


def _local_entry(name: str, local: str) -> Entry | Aside:
    try:
        status = os.stat(local)
    except OSError as error:
        return Aside(name, "unreadable", error)
    return Entry(name, status.st_size, status.st_mtime_ns)


@frozen
class RemoteSource:
    """A directory of another filesystem; *root* has no protocol and no slash at its end."""

    fs: Any
    root: str
    is_local = False

    @property
    def _front(self) -> str:
        """What all paths begin with."""
        return f"{self.root}/" if self.root else str(self.fs.root_marker)

    def entries(self) -> Iterator[Entry | Aside]:
        """Yield files; what is none and no directory is left out.

        Raises:
            ConfigurationError: a name does not lie in the directory.
            FileNotFoundError: there is nothing.
            OSError: it could not be listed as a whole.
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
                continue  # also an empty object that stands for one
            if info.get("type") != "file":
                yield Aside(name, str(info.get("type")))
                continue
            yield Entry(name, _size(info), _time(info), _tag(info))
        if empty and self.root and not self.fs.isdir(self.root):
            raise FileNotFoundError(2, "nothing to sync from", self.root)

    def _infos(self) -> Iterator[Mapping[str, Any]]:
        """Yield ``info`` of all that is no directory."""
        if hasattr(self.fs, "client") and self.fs.protocol == "osspresigned":
            # Not ``find``, which also answers from memory where nobody may list.
            bucket, key = split_path(self.root)
            yield from whole_listing(self.fs.client, bucket, f"{key}/" if key else "")
        elif _finds_by_itself(self.fs):
            yield from self.fs.find(self.root, detail=True).values()
        else:
            yield from self._walked()

    def _walked(self) -> Iterator[Mapping[str, Any]]:
        """Yield the same, directory by directory.

        ``find`` and ``walk`` of fsspec pass over directories that cannot be listed,
        below the first level whatever ``on_error`` says.
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
            text = f"{full[:200]!r} is listed, and is not in {self.root!r}"
            raise ConfigurationError(f"the source cannot be trusted: {text}")

    def place(self, name: Name) -> str:
        """Return the path of a file."""
        return self._front + name

    def open(self, name: Name) -> Any:
        """Open a file for reading bytes."""
        return self.fs.open(self.place(name), "rb")

    def check_portable(self) -> None:
        """Refuse to leave this process with options that are secrets.

        Raises:
            ConfigurationError: naming them.
        """
        given = self.fs.storage_options
        named = [n for n in _SECRETS if isinstance(given.get(n), str)]
        named = [n for n in named if n != "token" or given[n] not in _WORDS]
        if named:
            msg = (
                f"the source's options {', '.join(named)} would travel with every piece "
                "of work: let its filesystem find them on the machines that run it"
            )
            raise ConfigurationError(msg)


def _finds_by_itself(fs: Any) -> bool:
    """Return whether ``find`` is one listing of its store, and not fsspec's walk."""
    kind = type(fs)
    if getattr(fs, "fs", None) is not None:
        return False  # it stands before another one, whose walk that may be
    if isinstance(fs, AsyncFileSystem):
        return kind._find is not AsyncFileSystem._find  # noqa: SLF001 - made to be overridden
    return kind.find is not AbstractFileSystem.find


def whole_listing(
    client: Client, bucket: str, prefix: str
) -> Iterator[Mapping[str, Any]]:
    """Yield ``info`` of all objects whose keys begin with *prefix*.

    Raises:
        NotSignedError: listing is not signed.
        ReplyError: it is not whole.
    """
    for info in listing(client, bucket, prefix, delimiter=""):
        if info["type"] != "file":
            msg = "the listing hides objects in directories that nobody asked for"
            raise ReplyError(msg, path=info["name"], action=Action.ListObjectsV2)
        yield info


def source_of(source: Any, options: Mapping[str, Any]) -> LocalSource | RemoteSource:
    """Return the source that a path or a URL of fsspec means.

    Args:
        source: the directory.
        options: storage options of its filesystem.

    Raises:
        FileNotFoundError: it is local, and not there.
        ConfigurationError: it is a file, or local and has options.
    """
    text = str(stringify_path(source))
    path = str(make_path_posix(text))
    if "://" in text:  # nothing else: a local name may hold "::"
        fs, path = url_to_fs(text, **options)
        if not isinstance(fs, LocalFileSystem):
            return RemoteSource(fs, path.rstrip("/"))
    if options:
        raise ConfigurationError(
            "a local source has no options: these are for one like s3://..."
        )
    if not os.path.lexists(path):
        raise FileNotFoundError(2, "no such local directory", path)
    if not os.path.isdir(path):
        raise _no_directory(path)
    return LocalSource(path.rstrip("/") or "/")


def _no_directory(path: str) -> ConfigurationError:
    return ConfigurationError(f"{path!r} is a file: sync takes directories, put files")


def refuse_overlap(source: SyncSource, bucket: str, prefix: str) -> None:
    """Refuse to read from where it is written.

    Args:
        source: where it is read.
        bucket: where it is written.
        prefix: of its keys; empty, or with a slash at its end.

    Raises:
        ConfigurationError: both are in one bucket, and one lies in the other.
    """
    if not isinstance(source, RemoteSource) or not _is_oss(source.fs):
        return
    where, _, key = source.root.lstrip("/").partition("/")
    front = f"{key}/" if key else ""
    if where == bucket and (front.startswith(prefix) or prefix.startswith(front)):
        msg = (
            f"source and destination overlap: {where}/{front} and {bucket}/{prefix} "
            "hold the same objects"
        )
        raise ConfigurationError(msg)


def _is_oss(fs: Any) -> bool:
    names: Iterable[str] = (
        [fs.protocol] if isinstance(fs.protocol, str) else fs.protocol
    )
    return not {"osspresigned", "oss"}.isdisjoint(names)


def _size(info: Mapping[str, Any]) -> int | None:
    size = info.get("size")
    return size if isinstance(size, int) and size >= 0 else None


def _time(info: Mapping[str, Any]) -> int | None:
    """Return when a file was changed, in nanoseconds since the epoch, if it says so."""
    value = next((info[n] for n in _TIMES if info.get(n) is not None), None)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        value = aware.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return round(value * 1e9)
    return None


def _tag(info: Mapping[str, Any]) -> str:
    value = next((info[n] for n in _TAGS if info.get(n)), "")
    return str(value).strip('"')
