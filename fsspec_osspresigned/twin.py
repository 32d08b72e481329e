"""A verb and its coroutine, written once.

A verb is a plain method that runs in the caller's thread, so that Ctrl-C ends it and a
running event loop does not matter; its coroutine, for zarr and rsync, is the same
method in a worker.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def twin(verb: Callable[P, T], pool: str = "files") -> Callable[P, Any]:
    """Return the coroutine of a verb: the verb in a worker of the client."""

    async def coroutine(*args: P.args, **kwargs: P.kwargs) -> T:
        filesystem: Any = args[0]
        workers = getattr(filesystem.client, pool)
        context = contextvars.copy_context()  # a transaction that is under way
        future = workers.submit(context.run, verb, *args, **kwargs)
        return await asyncio.wrap_future(future)

    coroutine.__name__ = f"_{verb.__name__}"
    coroutine.__doc__ = f"Run ``{verb.__name__}`` in a worker."
    return coroutine
