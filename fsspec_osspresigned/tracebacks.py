"""Tracebacks of errors: shortened for users, and cleared of large variables."""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import ParamSpec, TypeVar

from .errors import OSSPresignedError

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

_FEW_FILES = (
    "each concurrent request takes a connection, and often a file: raise ulimit -n, or "
    "lower max_concurrency"
)
_INNER = (__name__.partition(".")[0], "fsspec")  # packages between a user and a warning
_log = logging.getLogger(__name__.partition(".")[0])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield *error*, and the exceptions that were handled when it was raised."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__context__


def without_frames(error: E) -> E:
    """Return *error*, after clearing the variables of its traceback, such as bodies.

    The traceback of an OSError or an interrupt is removed. Other errors are defects of
    a program, so they keep their tracebacks.
    """
    for one in _chain(error):
        traceback.clear_frames(one.__traceback__)
        if isinstance(one, OSError) or not isinstance(one, Exception):
            one.__traceback__ = None
    return error


def hint(error: BaseException) -> str:
    """Return advice about *error*, an OSError; "" if there is none."""
    few = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    return _FEW_FILES if few else ""


def short_traceback(verb: Callable[P, T]) -> Callable[P, T]:
    """Decorate *verb*: tracebacks of this package's errors end at the call of *verb*.

    The text of such an error says what is wrong and what to do; frames of this package
    would only hide it in a notebook. Errors of other code keep their frames, and all
    errors do while the logger ``fsspec_osspresigned`` shows DEBUG. An OSError of the
    system gets a note with advice, if there is any.
    """

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(*args, **kwargs)
        except OSSPresignedError as error:
            if not _log.isEnabledFor(logging.DEBUG):
                for one in _chain(error):
                    if isinstance(one, OSSPresignedError):
                        one.__traceback__ = None
            raise
        except OSError as error:
            if found := hint(error):
                error.add_note(found)
            raise

    return call


def caller_level() -> int:
    """Return the ``stacklevel`` for a warning about the user's line of code.

    That line is in the first frame outside this package and fsspec. In a thread of this
    package, which has no such frame, the level is 1.
    """
    frame, level = inspect.currentframe(), 0
    while frame is not None and _package_of(frame) in _INNER:
        frame, level = frame.f_back, level + 1
    return level


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
