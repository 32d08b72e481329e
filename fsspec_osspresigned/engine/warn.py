"""Warnings that point at the user's line that called a method."""

from __future__ import annotations

import inspect
import warnings
from functools import partial

from .engine import in_waiting_thread


def warn_user(text: str, category: type[Warning]) -> None:
    """Issue a warning in the thread that waits for the current call, before it returns.

    The warning points at the innermost line outside this package and fsspec.
    """
    in_waiting_thread(partial(_warn, text, category))


def _warn(text: str, category: type[Warning]) -> None:
    frame, level = inspect.currentframe(), 1
    # The frames of fsspec and of this package have names that begin with "fsspec".
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        "fsspec"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
