"""Answers about objects in fsspec's forms: find, expanded patterns, checksums, URLs."""

from __future__ import annotations

import functools
import hashlib
import os
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Protocol

from attrs import evolve

from ..client.client import Client
from ..errors import NotSignedError
from ..model import PLAIN_ACTIONS, Operation, split_path
from ..objects.lookup import Lookup as Lookup  # noqa: PLC0414 - the class uses it
from ..signers.base import sign_checked
from . import destinations
from .base import BulkOptions, check_depth, object_path, without_protocol
from .destinations import Destination, Match

Info = dict[str, Any]

# Headers that every HTTP client sends by itself.
_SENT_ANYWAY = ("host", "content-length")


def find(
    client: Client,
    path: Any,
    *,
    maxdepth: int | None = None,
    withdirs: bool = False,
    detail: bool = False,
    prefix: str = "",
    **_: Any,
) -> Any:
    """Return all names under *path*, sorted; with *detail* name -> ``info``.

    Raises:
        PermissionError: it cannot be seen, with ``unknown="error"``.
    """
    check_depth(maxdepth)
    walk = Lookup(client).walk(
        object_path(client, path), maxdepth=maxdepth, withdirs=withdirs, prefix=prefix
    )
    if not detail:
        return sorted({item["name"] for item in walk})
    found: dict[str, Info] = {}
    for item in walk:
        # An object hides the directory of the same name.
        if item["type"] == "file" or item["name"] not in found:
            found[item["name"]] = item
    return {name: found[name] for name in sorted(found)}


class Searchable(Protocol):
    """Client and ``glob`` of a filesystem: what ``expand`` needs."""

    @property
    def client(self) -> Client:
        """Looks."""
        ...

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        """Return the names that fit a pattern."""
        ...


def expand(
    filesystem: Searchable,
    path: Any,
    recursive: bool,
    maxdepth: int | None = None,
    *,
    markers: bool = False,
) -> Match:
    """Return the objects and directories that *path* stands for.

    A name that looks like a pattern means the object of that name if there is one.

    Args:
        filesystem: looks.
        path: a path, a pattern, or several.
        recursive: whether directories are walked.
        maxdepth: levels of directories; None for all.
        markers: also objects that stand for directories: their names end in a slash.

    Raises:
        FileNotFoundError: nothing fits.
    """
    check_depth(maxdepth)
    client, glob = filesystem.client, filesystem.glob
    lookup = Lookup(client)
    found: dict[str, str | None] = {}
    is_pattern = False
    for one in [path] if isinstance(path, str) else path:
        name = object_path(client, one)
        is_pattern = destinations.looks_like_a_pattern(
            name
        ) and not lookup.shows_object(name)
        if not is_pattern and not recursive:
            found.setdefault(name, None)
            continue
        tops: list[tuple[str, int | None]] = [] if is_pattern else [(name, maxdepth)]
        fits = glob(one, maxdepth=maxdepth, detail=True).values() if is_pattern else ()
        if recursive and maxdepth != 1:
            deeper = None if maxdepth is None else maxdepth - 1
            tops += [(i["name"], deeper) for i in fits if i["type"] == "directory"]
        walks = (
            lookup.walk(top, maxdepth=depth, withdirs=True, markers=markers)
            for top, depth in tops
        )
        for item in chain(fits, chain.from_iterable(walks)):
            if item["type"] == "file" or item["name"] not in found:
                found[item["name"]] = item["type"]
    if not found:
        raise FileNotFoundError(2, "nothing there, or not to be seen", path)
    return Match(path, {name: found[name] for name in sorted(found)}, is_pattern)


def layout(
    filesystem: Searchable,
    source: Any,
    target: Any,
    recursive: bool,
    maxdepth: int | None,
    *,
    local: bool = False,
) -> list[Destination]:
    """Return where ``get`` (*local*) and ``copy`` put each object, by fsspec's rules.

    Raises:
        ConfigurationError: two objects would become one, or a name leads out of the
            local *target*.
        FileNotFoundError: nothing fits.
        ValueError: two lists of different length.
    """
    client = filesystem.client

    def place(path: Any) -> str:
        return destinations.local_path(path) if local else object_path(client, path)

    if not local:
        for path in [target] if isinstance(target, str) else target:
            client.written.trust_store(place(path))
    if not isinstance(source, str) and isinstance(target, list | tuple):
        names = [object_path(client, path) for path in source]
        found = destinations.paired(names, [place(path) for path in target])
    else:
        match = expand(filesystem, source, recursive, maxdepth)
        if isinstance(source, str) and (not recursive or maxdepth is not None):
            match = match.only_files()
        if local:
            root = place(target)
            found = match.destinations(root, is_directory=os.path.isdir)
            destinations.refuse_escapes(found, root)
        else:
            root = without_protocol(target)  # its trailing slash has a meaning
            shows = Lookup(client).shows_directory
            found = [
                evolve(one, target=place(one.target))
                for one in match.destinations(root, is_directory=shows)
                if not one.is_directory
            ]
    destinations.refuse_clashes(found, local=local)
    return found


def local_tree(
    client: Client, lpath: Any, rpath: Any, recursive: bool, how: BulkOptions
) -> destinations.LocalTree:
    """Return the local files and directories of a ``put`` and where they go.

    Raises:
        FileNotFoundError: nothing is at *lpath*.
        ValueError: two lists of different length.
    """
    is_one = isinstance(rpath, str | os.PathLike)
    targets = [without_protocol(path) for path in ([rpath] if is_one else rpath)]
    for path in targets:
        client.written.trust_store(object_path(client, path))
    return destinations.LocalTree(
        lpath,
        targets[0] if is_one else targets,
        recursive=recursive,
        maxdepth=how.maxdepth,
        is_directory=Lookup(client).shows_directory,
        path_of=functools.partial(object_path, client),
    )


def object_info(info: Info, path: str) -> Info:
    """Return *info* if it is of an object.

    Raises:
        IsADirectoryError: it is of a directory.
    """
    if info["type"] != "file":
        raise IsADirectoryError(21, "a directory, and no object", path)
    return info


def created(info: Info, path: str) -> datetime:
    """Return when an object was stored.

    Raises:
        IsADirectoryError: a directory was never stored.
        NotImplementedError: the store does not say.
    """
    found = object_info(info, path).get("LastModified")
    if found is None and "created" in info:
        found = datetime.fromtimestamp(info["created"], UTC)
    if not isinstance(found, datetime):
        msg = f"the store does not say when {path} was stored"
        raise NotImplementedError(msg)
    return found


def content_key(info: Info, path: str) -> str:
    """Return a digest of an object's size and its ETag, or its CRC-64 without one.

    Raises:
        IsADirectoryError: *info* is of a directory.
    """
    object_info(info, path)
    facts = (info["size"], info.get("ETag") or info.get("crc64"))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def presigned_url(
    client: Client, path: str, expiration: int, method: str, size: int | None
) -> str:
    """Return a presigned URL of an object.

    Raises:
        NotSignedError: the signer grants no such URL, or only one that needs headers,
            which a text alone cannot carry.
        ValueError: another method, or less than a second.
    """
    action = PLAIN_ACTIONS.get(method.upper())
    if action is None or expiration < 1:
        msg = f"method must be {', '.join(PLAIN_ACTIONS)}, expiration 1 s or more"
        raise ValueError(msg)
    bucket, key = split_path(object_path(client, path))
    wanted = Operation(
        action=action,
        bucket=bucket,
        key=key,
        content_length=size,
        expires_in=int(expiration),
    )
    (signed,) = sign_checked(client.signer, [wanted])
    needed = [n for n in signed.headers if n.lower() not in _SENT_ANYWAY]
    if needed:
        names = ", ".join(sorted(needed))
        msg = f"the URL is good only with the headers {names}, which it cannot carry"
        raise NotSignedError(msg, path=wanted.path, action=action)
    return signed.url.reveal()
