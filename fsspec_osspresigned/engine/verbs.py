"""Verbs: a plain method and a coroutine function of one definition.

A verb is a coroutine function whose own code runs in the thread of the caller, because
it may call code of the user, and looks at the stack. What it passes to ``awaited`` runs
on the engine's loop.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from ..tracebacks import short_traceback
from .engine import waits_in_thread

P = ParamSpec("P")
T = TypeVar("T")


def verb(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Return the plain function of *method*, which awaits nothing but ``awaited``."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        context = contextvars.copy_context()
        context.run(waits_in_thread.set, True)
        try:
            context.run(method(*args, **kwargs).send, None)
        except StopIteration as end:
            return cast(T, end.value)
        raise RuntimeError("the verb awaits what no thread can wait for")

    plain = short_traceback(call)
    plain.coroutine = short_traceback(method)  # type: ignore[attr-defined]  # see below
    return plain


def coroutine(verb: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return the coroutine function of *verb*."""
    return cast("Callable[P, Coroutine[Any, Any, T]]", vars(verb)["coroutine"])
