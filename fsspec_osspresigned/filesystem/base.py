"""Instances of the filesystem, coroutines of its verbs, paths, and jobs in parallel."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import chain, islice
from typing import Any, TypeVar

import fsspec
from attrs import frozen
from fsspec.asyn import AsyncFileSystem, reset_lock
from fsspec.config import apply_config, conf
from fsspec.utils import stringify_path

from ..client.client import Client
from ..concurrency.cancellation import Cancellation
from ..concurrency.job_runner import ON_ERROR, Transfers
from ..options.options import hashable, portable, surroundings

T = TypeVar("T")

# Older releases of fsspec keep the loop of the parent in a forked child, without its
# thread. Newer ones do this themselves.
os.register_at_fork(after_in_child=reset_lock)

PROTOCOL = "osspresigned"

# Sources of signatures in fsspec's configuration that an explicit source replaces.
# A map may stand before any signer.
_REPLACED = {
    "url": {"url_map", "signer", "signer_token"},
    "signer": {"url", "url_map"},
    "url_map": {"url"},
}


class InstanceCache(type(AsyncFileSystem)):  # type: ignore[misc]  # fsspec is untyped
    """Metaclass that makes one instance of equal options, for all threads.

    fsspec's own cache compares options by their text, and two signers may have the same
    text. Before 2026.9 it also makes an instance for each thread.
    """

    def __call__(cls, **storage_options: Any) -> Any:
        """Return the instance of equal options, which is made if it is the first."""
        given = dict(storage_options)
        configured = conf.get(PROTOCOL, {}).keys()
        for named, others in _REPLACED.items():
            if given.get(named) is not None:
                given = {**dict.fromkeys(others & configured), **given}
        given = portable(apply_config(cls, given))
        is_cached = not given.pop("skip_instance_cache", False)
        options = sorted(given.items(), key=lambda option: option[0])
        # By type as well: 1 equals True, and is refused where True is valid.
        key = (surroundings(), *((n, type(v), hashable(v)) for n, v in options))
        found = cls._cache.get(key) if is_cached else None
        if found is None:
            found = super().__call__(skip_instance_cache=True, **given)
            found.token = f"{hash(key) % 2**64:016x}"
            if is_cached:
                found = cls._cache.setdefault(key, found)
        cls._latest = key
        return found


class LazyModule:
    """A module of this folder that is imported when one of its names is first used."""

    def __init__(self, name: str) -> None:
        self._name = f".{name}"

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name, __package__), name)


def as_coroutine(verb: str, pool: str) -> Callable[..., Any]:
    """Return a coroutine function that runs *verb* in a worker of the client's *pool*."""

    async def coroutine(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = functools.partial(getattr(self, verb), *args, **kwargs)
        context = contextvars.copy_context()  # holds the transaction of the caller
        future = getattr(self.client, pool).submit(context.run, call)
        return await asyncio.wrap_future(future)

    coroutine.__name__ = f"_{verb}"
    return coroutine


def without_protocol(path: Any) -> str:
    """Return *path* as text without ``osspresigned://``; a trailing slash stays."""
    return str(stringify_path(path)).removeprefix(f"{PROTOCOL}://")


def object_path(client: Client, path: Any) -> str:
    """Return ``bucket/key``; the empty path is the object of ``url=``."""
    stripped = without_protocol(path).rstrip("/")
    if not stripped and client.options.url is not None:
        return str(getattr(client.signer, "path", ""))
    return stripped


def read_url(place: str) -> bytes:
    """Read a URL map through the filesystem that fsspec has for *place*."""
    with fsspec.open(place, "rb") as file:
        return bytes(file.read())


def check_choice(name: str, given: str, allowed: Iterable[str]) -> None:
    """Raise ValueError unless *given* is one of *allowed*."""
    if given not in allowed:
        msg = f"{name} must be one of {', '.join(allowed)}, not {given!r}"
        raise ValueError(msg)


def check_depth(maxdepth: int | None) -> None:
    """Raise ValueError if *maxdepth* is below 1."""
    if maxdepth is not None and maxdepth < 1:
        msg = "maxdepth must be at least 1"
        raise ValueError(msg)


@frozen
class BulkOptions:
    """Options of a verb for many files.

    Attributes:
        maxdepth: levels of directories; None for all.
        batch_size: jobs at once; None or -1 for ``max_concurrency``.
        on_error: ``raise``, ``omit`` or ``return`` failures.
    """

    maxdepth: int | None = None
    batch_size: int | None = None
    on_error: str = "raise"

    @classmethod
    def take_from(
        cls,
        given: dict[str, Any],
        allowed: Iterable[str] = ON_ERROR,
        maxdepth: int | None = None,
    ) -> BulkOptions:
        """Take the options out of *given*; the first of *allowed* is the default.

        Raises:
            ValueError: ``on_error`` is not one of *allowed*, or ``maxdepth`` below 1.
        """
        on_error = given.pop("on_error", next(iter(allowed)))
        check_choice("on_error", on_error, allowed)
        check_depth(maxdepth)
        return cls(maxdepth, given.pop("batch_size", None), on_error)

    def run(
        self,
        client: Client,
        jobs: Iterable[T],
        work: Callable[[T, Cancellation], Any],
        name: Callable[[T], str],
    ) -> list[Any]:
        """Run *work* for all *jobs*, several at once; nothing runs any more at the end.

        Args:
            client: its workers for files run the jobs.
            jobs: iterated as workers become free.
            work: does one job.
            name: a job's path, for errors.

        Raises:
            UploadErrors: several jobs failed.
        """
        most = client.options.max_concurrency
        size = self.batch_size
        width = most if size in (None, -1) else int(size or 1)
        source = iter(jobs)
        first = list(islice(source, max(1, min(width, most))))  # no idle worker
        return Transfers(
            client.files, len(first), work, name, on_error=self.on_error
        ).outcomes(chain(first, source))
