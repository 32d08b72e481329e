"""Queries and changes of objects: listings, patterns, copies, moves, deletions.

A move verifies each copy before it deletes the original.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from glob import has_magic
from typing import Any, NoReturn

from attrs import evolve

from ..client.client import Client
from ..engine.engine import blocking, run, waiting
from ..engine.warn import warn_user
from ..errors import (
    ConfigurationError,
    NotCoveredError,
    ObjectNotFoundError,
    PublishWarning,
)
from ..model import PLAIN_ACTIONS, Operation, split_path
from ..objects.copy import Copying, SourceHead, prove
from ..objects.lookup import Lookup
from ..objects.ranges import changed
from . import destinations
from .arguments import BulkOptions, check_depth, object_path, without_protocol
from .destinations import Destination, LocalEntry, Match
from .put import PutCall

Info = dict[str, Any]


async def find(walk: AsyncIterator[Info], detail: bool) -> Any:
    """Return the sorted names of what *walk* yields; with *detail*, name -> ``info``."""
    if not detail:
        return sorted({item["name"] async for item in walk})
    items: dict[str, Info] = {}
    async for item in walk:
        # An object hides the directory of the same name, so an entry for that object
        # replaces it.
        before = items.setdefault(item["name"], item)
        if before["type"] != item["type"]:
            shown = item if item["type"] == "file" else before
            items[item["name"]] = {**shown, "is_directory": True}
    return {name: items[name] for name in sorted(items)}


async def expand(
    filesystem: Any,
    path: Any,
    recursive: bool,
    maxdepth: int | None = None,
    *,
    markers: bool = False,
) -> Match:
    """Return the objects and directories that paths or patterns match.

    A name that looks like a pattern is used literally if such an object exists.
    *markers* includes objects that represent directories, whose names end in a slash.

    Raises:
        FileNotFoundError: nothing matches; ObjectNotVisibleError if that is unknown.
    """
    check_depth(maxdepth)
    lookup = Lookup(filesystem.client)
    kinds: dict[str, str | None] = {}
    is_pattern = False
    paths = [path] if isinstance(path, str) else [*path]
    for pattern in paths:
        name = object_path(lookup.client, pattern)
        is_pattern = has_magic(name) and not await lookup.shows_object(name)
        items: list[Info] = []
        tops: list[str] = []
        depth = maxdepth
        if is_pattern:
            matching = await filesystem._glob(pattern, maxdepth=maxdepth, detail=True)  # noqa: SLF001 - fsspec's name for the method
            items = [
                item
                for item in matching.values()
                if markers or not item["name"].endswith("/")
            ]
            if recursive and maxdepth != 1:
                depth = None if maxdepth is None else maxdepth - 1
                tops = [
                    item["name"]
                    for item in items
                    if item["type"] == "directory" or "is_directory" in item
                ]
        elif recursive:
            tops = [name]
        else:
            kinds.setdefault(object_path(lookup.client, pattern, keep_slash=True), None)
            continue
        for top in tops:
            walk = lookup.walk(top, maxdepth=depth, withdirs=True, markers=markers)
            items += [item async for item in walk]
        for item in items:
            if item["type"] == "file" or item["name"] not in kinds:
                kinds[item["name"]] = item["type"]
        if kinds.get(name) == "directory" and await lookup.is_object_too(name):
            kinds[name] = "file"
    if not kinds:
        await _raise_not_found(lookup, paths)
    return Match(path, {name: kinds[name] for name in sorted(kinds)}, is_pattern)


async def _raise_not_found(lookup: Lookup, paths: Sequence[str]) -> NoReturn:
    for path in paths:
        await lookup.check_visible(object_path(lookup.client, path))
    raise FileNotFoundError(2, "not found", ", ".join(map(str, paths)))


async def layout(
    filesystem: Any,
    source: Any,
    target: Any,
    recursive: bool,
    maxdepth: int | None,
    *,
    local: bool = False,
) -> list[Destination]:
    """Return the destination of each object, for ``get`` (*local*) or ``copy``.

    Raises:
        ConfigurationError: two objects have the same destination, or a name leads
            outside *target*.
        FileNotFoundError: nothing matches.
        ValueError: the lists differ in length, or *maxdepth* is below 1.
    """
    check_depth(maxdepth)
    client = filesystem.client

    def named(path: Any) -> str:
        return destinations.local_path(path) if local else object_path(client, path)

    if not local:
        for path in [target] if isinstance(target, str) else target:
            client.written.trust_store(named(path))
    if not isinstance(source, str) and isinstance(target, list | tuple):
        names = [object_path(client, path, keep_slash=not local) for path in source]
        pairs = destinations.paired(names, [named(path) for path in target])
        placed = [Destination(*pair) for pair in pairs]
    else:
        match = await expand(filesystem, source, recursive, maxdepth, markers=not local)
        if local:  # on a disk, no file has a trailing slash in its name
            kinds = {name.rstrip("/"): kind for name, kind in match.kinds.items()}
            match = evolve(match, kinds=kinds)
        if isinstance(source, str) and (not recursive or maxdepth is not None):
            match = evolve(match, kinds=dict.fromkeys(match.files, "file"))
        # In the store, a path with a trailing slash is a directory, so the slash is
        # kept.
        root = named(target) if local else without_protocol(target)
        is_directory = os.path.isdir if local else _is_directory(client)
        placed = await waiting(
            partial(match.destinations, root, is_directory=is_directory)
        )
        if local:
            destinations.refuse_escapes(placed, root)
    if not local:
        placed = [
            evolve(item, target=named(item.target) + "/" * item.path.endswith("/"))
            for item in placed
            if not item.is_directory
        ]
    refuse = destinations.refuse_clashes
    await blocking(partial(refuse, placed, local=local, known=recursive))
    return placed


def local_tree(
    client: Client, lpath: Any, rpath: Any, recursive: bool, maxdepth: int | None
) -> list[LocalEntry]:
    """Return the local files and directories of a ``put``, with their destinations.

    It reads directories, and blocks until the engine answers, so only worker threads
    may call it. Directories at *rpath* no longer count as newly created ones. Warns if
    the only source is a directory, and *recursive* is missing. Two files with the same
    destination raise ConfigurationError.
    """
    is_one = isinstance(rpath, str | os.PathLike)
    targets = [without_protocol(path) for path in ([rpath] if is_one else rpath)]
    for path in targets:
        client.written.trust_store(object_path(client, path))
    entries = destinations.local_entries(
        lpath,
        targets[0] if is_one else targets,
        recursive=recursive,
        maxdepth=maxdepth,
        is_directory=_is_directory(client),
        path_of=partial(object_path, client),
    )
    destinations.refuse_clashes(
        [Destination(entry.local, entry.path) for entry in entries if entry.is_sent]
    )
    if (
        is_one
        and not recursive
        and lpath
        and all(entry.is_directory for entry in entries)
    ):
        first = lpath if isinstance(lpath, str | os.PathLike) else next(iter(lpath))
        text = f"nothing was sent: {first} is a directory, give recursive=True"
        warn_user(text, PublishWarning)
    return entries


def _is_directory(client: Client) -> Callable[[str], bool]:
    """Return a function that tells whether a path is a directory in the store.

    The function blocks until the engine answers, so only worker threads may call it.
    """
    return lambda path: run(Lookup(client).shows_directory, path)


async def presigned_url(
    client: Client, path: str, expiration: int, method: str, size: int | None
) -> str:
    """Return a presigned URL for ``fs.sign``.

    Raises:
        NotCoveredError: the call is not granted, or the URL needs further headers.
        ValueError: *method* or *expiration* is invalid.
    """
    action = PLAIN_ACTIONS.get(method.upper())
    if action is None or expiration < 1:
        allowed = ", ".join(PLAIN_ACTIONS)
        raise ValueError(f"method must be {allowed}, expiration 1 s or more")
    bucket, key = split_path(object_path(client, path, keep_slash=True))
    operation = Operation(
        action=action,
        bucket=bucket,
        key=key,
        content_length=size,
        expires_in=int(expiration),
    )
    signed = await client.signed(operation)
    sent = ("host", "content-length")  # every HTTP client sends these headers
    needed = sorted(name for name in signed.headers if name.lower() not in sent)
    if needed:
        names = ", ".join(needed)
        msg = f"the URL is valid only with the headers {names}, which it cannot carry"
        raise NotCoveredError(msg, path=operation.path, action=action)
    return signed.url.reveal()


async def copy_one(call: PutCall, item: Destination) -> None:
    target = await call.checked_target(item.target)
    with Lookup(call.client).changing(item.path):
        crc = await Copying(call.client, item.path, target).run()
    call.client.written.remember_copy(item.path, item.target, crc)


async def copy(
    call: PutCall, destinations: Sequence[Destination], bulk: BulkOptions
) -> None:
    async def work(item: Destination) -> None:
        try:
            await copy_one(call, item)
        except ObjectNotFoundError as error:
            # the target's bucket may be missing, too
            if error.path != item.path or error.code == "NoSuchBucket":
                raise
            if bulk.on_error == "ignore":
                return
            if not await Lookup(call.client).holds(item.path.rstrip("/")):
                raise

    strict = evolve(bulk, on_error="raise")
    await strict.run(
        call.client, destinations, work, lambda item: item.path, small=False
    )


def goes_nowhere(source: str, target: str, recursive: bool) -> bool:
    """Return whether *source* and *target* are equal, so that a move has nothing to do.

    Raises ConfigurationError for a *recursive* move of *source* into itself.
    """
    if recursive and target.startswith(f"{source}/"):
        raise ConfigurationError(
            f"{source!r} cannot be moved into itself, to {target!r}: choose a destination outside of it"
        )
    return source == target


async def move(
    call: PutCall, destinations: Sequence[Destination], bulk: BulkOptions
) -> None:
    """Copy all objects, verify each copy with HEAD, and only then delete the sources.

    Raises ConfigurationError if a destination is also a source.
    """
    client, lookup = call.client, Lookup(call.client)
    sources = {item.path for item in destinations}
    moved = [item for item in destinations if item.path != item.target]
    if problems := [
        f"{item.path!r} would replace {item.target!r}, which is moved, too"
        for item in moved
        if item.target in sources
    ]:
        raise ConfigurationError(problems)
    proved: dict[str, SourceHead] = {}

    async def copy_and_prove(item: Destination) -> None:
        with lookup.changing(item.path):
            source = await SourceHead.fetch(client, item.path)
            target = await call.checked_target(item.target)
            crc = await Copying(client, item.path, target, source).run()
            await prove(client, source, item.target)
            proved[item.path] = source
        client.written.remember_copy(item.path, item.target, crc)

    async def delete(path: str) -> None:
        if proved[path] != await SourceHead.fetch(client, path):
            raise changed(path)
        await lookup.remove(path)

    await bulk.run(client, moved, copy_and_prove, lambda item: item.path, small=False)
    await bulk.run(client, sorted(proved), delete, str, small=False)


async def remove(client: Client, match: Match, bulk: BulkOptions) -> None:
    await bulk.run(client, match.files, Lookup(client).remove, str)
    for name in match.directories:
        client.written.forget_directory(name)
