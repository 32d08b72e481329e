"""Arguments of verbs: paths, and the options of methods for many files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from attrs import frozen
from fsspec.utils import stringify_path

from ..client.client import Client
from ..engine.scope import ON_ERROR, Scope
from ..errors import ConfigurationError
from ..url_checks import has_signature, is_web, scheme_of

PROTOCOL = "osspresigned"

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def as_text(path: Any) -> Any:
    """Return *path* as text; an iterable of paths becomes a list of texts."""
    path = stringify_path(path)
    return path if isinstance(path, str) else [stringify_path(item) for item in path]


def without_protocol(path: Any) -> str:
    """Return *path* without ``osspresigned://``, ``oss://`` and leading slashes.

    Raises:
        ConfigurationError: *path* is a web URL, has a signature (which the message
            hides), or has another scheme.
    """
    text = str(stringify_path(path)).removeprefix(f"{PROTOCOL}://")
    name = text.removeprefix("oss://").lstrip("/")
    if is_web(name) or has_signature(name):
        raise ConfigurationError(
            "expected a path bucket/key, got a URL (it is not shown): give a "
            "presigned URL as presigned_url='file:upload.url', and leave the path empty"
        )
    if scheme := scheme_of(name):
        raise ConfigurationError(f"{scheme} is no scheme here: write bucket/key")
    return name


def object_path(client: Client, path: Any, *, keep_slash: bool = False) -> str:
    """Return *path* as ``bucket/key``; an empty one means the object of ``presigned_url``.

    A trailing slash is removed, unless *keep_slash* is set. Objects that represent
    directories have such names.
    """
    # Most paths contain neither a scheme nor a signature.
    is_plain = type(path) is str and ":" not in path and "=" not in path
    name = path.lstrip("/") if is_plain else without_protocol(path)
    stripped = name.rstrip("/")
    if not stripped and client.options.presigned_url is not None:
        return str(getattr(client.signer, "path", ""))
    return name if keep_slash else stripped


def check_choice(name: str, given: str, allowed: Iterable[str]) -> None:
    """Raise ValueError unless *given* is one of *allowed*."""
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {given!r}")


def check_depth(maxdepth: int | None) -> None:
    if maxdepth is not None and maxdepth < 1:
        raise ValueError("maxdepth must be at least 1")


@frozen
class BulkOptions:
    """Options of a method for many files."""

    batch_size: int | None = None  # files at a time; None or -1 permits up to 128
    on_error: str = "raise"

    @classmethod
    def take_from(
        cls, given: dict[str, Any], allowed: Iterable[str] = ON_ERROR
    ) -> BulkOptions:
        """Remove the options from *given*, and return them.

        The first of *allowed* is the default ``on_error``.
        """
        on_error = given.pop("on_error", next(iter(allowed)))
        check_choice("on_error", on_error, allowed)
        return cls(given.pop("batch_size", None), on_error)

    async def run(
        self,
        client: Client,
        jobs: Iterable[T] | AsyncIterator[Sequence[T]],
        work: Callable[[T], Coroutine[Any, Any, Any]],
        name: Callable[[T], str],
        *,
        small: bool = True,
    ) -> list[Any]:
        """Call *work* for all *jobs*, several at a time; return the results in order.

        *jobs* is read step by step, as calls end. *name* returns a job's path for
        errors. *small* means that each job is one small request. Then up to
        ``max_small`` jobs run at a time, otherwise ``max_concurrency``. Raises like
        ``Scope.run``.
        """
        usual = client.options.max_small if small else client.options.connections
        size = usual if self.batch_size in (None, -1) else int(self.batch_size or 1)
        width = min(max(1, size), usual)
        scope: Scope[T, Any] = Scope(work, name, width=width, on_error=self.on_error)
        return await scope.run(jobs)


async def in_turn(
    turns: asyncio.Semaphore,
    work: Callable[P, Coroutine[Any, Any, R]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Await *work* when one of the *turns* is free."""
    async with turns:
        return await work(*args, **kwargs)
