"""Copies inside the store, moves that verify each copy, and deletions."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from ..client.client import Client
from ..errors import ConfigurationError, NotSignedError, OSSPresignedError
from ..objects.copy import Copying, SourceHead, prove
from ..objects.lookup import Lookup
from ..objects.ranges import changed
from .arguments import BulkOptions
from .destinations import Destination, Match
from .put import PutCall


async def copy_one(call: PutCall, one: Destination) -> None:
    """Copy one object inside the store; raises like ``Copying.run``."""
    target = await call.checked_target(one.target)
    with Lookup(call.client).changing(one.path):
        await Copying(call.client, one.path, target).run()
    call.client.written.remember_copy(one.path, one.target)


async def copy(
    call: PutCall, destinations: Sequence[Destination], how: BulkOptions
) -> None:
    """Copy objects inside the store; ``on_error='ignore'`` skips missing ones."""

    async def work(one: Destination) -> None:
        try:
            await copy_one(call, one)
        except FileNotFoundError:
            if how.on_error == "ignore":
                return
            if not await Lookup(call.client).holds(one.path):
                raise

    strict = evolve(how, on_error="raise")
    await strict.run(call.client, destinations, work, lambda one: one.path, small=False)


def goes_nowhere(source: str, target: str, recursive: bool) -> bool:
    """Return whether *target* equals *source*.

    Raises ConfigurationError if *target* is below *source* and *recursive* is set.
    """
    if recursive and target.startswith(f"{source}/"):
        raise ConfigurationError(
            f"{source!r} cannot be moved into itself, to {target!r}: name a place "
            "outside of it"
        )
    return source == target


async def move(
    call: PutCall, destinations: Sequence[Destination], how: BulkOptions
) -> None:
    """Copy all objects, verify each copy with HEAD, and then delete the sources.

    An object that is already at its destination is not changed.

    Raises:
        NotSignedError: HEAD is not granted; nothing was copied or deleted.
        ConfigurationError: an object would replace another one that is moved.
        IntegrityError: a copy differs from its source; no source was deleted.
    """
    client, lookup = call.client, Lookup(call.client)
    sources = {one.path for one in destinations}
    moved = [one for one in destinations if one.path != one.target]
    if problems := [
        f"{one.path!r} would replace {one.target!r}, which is moved, too"
        for one in moved
        if one.target in sources
    ]:
        raise ConfigurationError(problems)
    proved: dict[str, SourceHead] = {}

    async def copy_and_prove(one: Destination) -> None:
        with lookup.changing(one.path):
            source = await SourceHead.fetch(client, one.path)
            target = await call.checked_target(one.target)
            await Copying(client, one.path, target, source).run()
            await prove(client, source, one.target)
            proved[one.path] = source
        client.written.remember_copy(one.path, one.target)

    async def delete(path: str) -> None:
        if proved[path] != await SourceHead.fetch(client, path):
            raise changed(path)
        await lookup.remove(path)

    await how.run(client, moved, copy_and_prove, lambda one: one.path, small=False)
    await how.run(client, sorted(proved), delete, str, small=False)


async def remove(client: Client, match: Match, how: BulkOptions) -> None:
    """Delete the objects of *match*, one request each; drop directory records."""
    try:
        await how.run(client, match.files, Lookup(client).remove, str)
    except OSSPresignedError as error:
        failures = getattr(error, "failures", {"": error}).values()
        written = client.written
        left = [
            p for p in match.files if written.receipt(p) or written.is_unrecorded(p)
        ]
        if left and all(isinstance(one, NotSignedError) for one in failures):
            more = f" and {len(left) - 3} more" if left[3:] else ""
            error.add_note(
                f"Still there: {', '.join(left[:3])}{more}. Ask the signer "
                "for DeleteObject, or write to another place: what is not written again stays."
            )
        raise
    for name in match.directories:
        client.written.forget_directory(name)
