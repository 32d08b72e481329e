"""Options of methods for many files, and the parallel jobs of such a method."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, TypeVar

from attrs import frozen

from ..client.client import Client
from ..engine.scope import ON_ERROR, Scope

T = TypeVar("T")


def check_choice(name: str, given: str, allowed: Iterable[str]) -> None:
    """Raise ValueError unless *given* is one of *allowed*."""
    if given not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {given!r}")


def check_depth(maxdepth: int | None) -> None:
    """Raise ValueError if *maxdepth* is below 1."""
    if maxdepth is not None and maxdepth < 1:
        raise ValueError("maxdepth must be at least 1")


@frozen
class BulkOptions:
    """Options of a method for many files.

    *batch_size* is the number of files at a time; None or -1 uses ``max_concurrency``.
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
        """Remove the bulk options from *given* and return them.

        The first of *allowed*, the values of ``on_error``, is the default.
        """
        on_error = given.pop("on_error", next(iter(allowed)))
        check_choice("on_error", on_error, allowed)
        check_depth(maxdepth)
        return cls(maxdepth, given.pop("batch_size", None), on_error)

    @property
    def most(self) -> int | None:
        """Number of jobs at a time; None if the caller gave no number."""
        size = self.batch_size
        return None if size in (None, -1) else max(1, int(size or 1))

    async def run(
        self,
        client: Client,
        jobs: Iterable[T] | AsyncIterator[T],
        work: Callable[[T], Coroutine[Any, Any, Any]],
        name: Callable[[T], str],
        *,
        small: bool = True,
    ) -> list[Any]:
        """Call *work* for all *jobs*, several at a time, and wait for all of them.

        *jobs* is iterated as calls end. *name* returns a job's path for errors. *small*:
        jobs of one small request each, so that more than ``max_concurrency`` may wait.

        Raises:
            UploadErrors: several jobs failed.
        """
        options = client.options
        usual = options.most_small if small else options.connections
        width = min(self.most or usual, usual)
        scope: Scope[T, Any] = Scope(work, name, width=width, on_error=self.on_error)
        return await scope.run(jobs)
