"""Call stacks: detection of calling tools, and short tracebacks.

Some callers do not say what this package must know. fsspec does not pass on the mode of
``fsspec.open`` or the exception of a ``with`` block. DuckDB does not say whether its
statement failed.

Tracebacks of errors are shortened for users, and cleared of large variables.
"""

from __future__ import annotations

import errno
import functools
import inspect
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, ParamSpec, TypeVar, cast

from .errors import OSSPresignedError

P = ParamSpec("P")
T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

FEW_FILES = (
    "each concurrent request takes a connection, and often a file: raise ulimit -n, or "
    "lower max_concurrency"
)
_log = logging.getLogger(__name__.partition(".")[0])
_OWN = "fsspec"  # this package, too


# By thread: the last call of ``isfile`` and its path, if DuckDB may have made it.
_last = threading.local()


def is_thread_of_duckdb() -> bool:
    """Return whether compiled code began this thread, which has no Python code, for DuckDB.

    Another library may have begun it, if DuckDB is imported too.
    """
    return "duckdb" in sys.modules and _calling() is None


def note_look(path: str) -> None:
    """Record that ``isfile(path)`` is called now."""
    if "duckdb" in sys.modules:
        _last.look = _calling(), path


def duckdb_opens(path: str) -> bool:
    """Return whether DuckDB, and not Python code, is opening *path* now.

    DuckDB opens a file in a thread of its own, or right after it has called ``isfile`` of
    the same path in the same instruction of Python code.
    """
    if "duckdb" not in sys.modules:
        return False
    call = _calling()
    return call is None or getattr(_last, "look", None) == (call, path)


def _calling() -> tuple[int, int] | None:
    """Return frame and instruction outside this package and fsspec that wait for this call.

    None if there are none.
    """
    frame = inspect.currentframe()
    while frame is not None and _module_of(frame).startswith(_OWN):
        frame = frame.f_back
    return None if frame is None else (id(frame), frame.f_lasti)


def mode_of_open_files() -> str:
    """Return the mode of the ``fsspec.open`` or ``open_files`` that called this, or ""."""
    for frame in _frames_of_fsspec():
        if (_module_of(frame), frame.f_code.co_name) == ("fsspec.core", "open_files"):
            return str(frame.f_locals.get("mode"))
    return ""


def is_called_by(module: str) -> bool:
    """Return whether this package was called by the fsspec module *module*."""
    return any(_module_of(frame) == module for frame in _frames_of_fsspec())


def leaving() -> BaseException | None:
    """Return the exception with which the ``__exit__`` that called this was called.

    Returns None if its ``with`` block ended without an exception. If no ``__exit__`` is
    on the call stack, returns the exception that is being handled, or None.
    """
    error, frame = sys.exception(), inspect.currentframe()
    while error is not None and frame is not None:
        if frame.f_code.co_name == "__exit__":
            names, rest, _, values = inspect.getargvalues(frame)
            arguments = [*map(values.get, names), *(values.get(rest or "") or ())]
            return error if any(value is error for value in arguments) else None
        frame = frame.f_back
    return error


def _frames_of_fsspec() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None and (name := _module_of(frame)).startswith(_OWN):
        if name.partition(".")[0] == _OWN:
            yield frame
        frame = frame.f_back


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__context__


def without_frames(error: E) -> E:
    """Clear the local variables in the tracebacks of *error* and its context; return it.

    The variables would keep the bodies of requests in memory. The traceback of an
    OSError or an interrupt is removed. Other errors are defects of a program, so they
    keep their tracebacks.
    """
    for link in _chain(error):
        traceback.clear_frames(link.__traceback__)
        if isinstance(link, OSError) or not isinstance(link, Exception):
            link.__traceback__ = None
    return error


def hint(error: BaseException) -> str:
    """Return advice if *error* means that too many files are open; otherwise ""."""
    few = isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)
    return FEW_FILES if few else ""


def short_traceback(verb: Callable[P, T]) -> Callable[P, T]:
    """Decorate *verb*: tracebacks of this package's errors end at the call of *verb*.

    The text of such an error says what is wrong and what to do; frames of this package
    would only hide it in a notebook. Errors of other code keep their frames, and all
    errors do while the logger ``fsspec_osspresigned`` shows DEBUG. An OSError of the
    system gets the advice of ``hint`` as a note.
    """
    if inspect.iscoroutinefunction(verb):

        @functools.wraps(verb)
        async def coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                return await verb(*args, **kwargs)
            except OSError as error:
                _shorten(error)
                raise

        return cast("Callable[P, T]", coroutine)

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return verb(*args, **kwargs)
        except OSError as error:
            _shorten(error)
            if isinstance(error, OSSPresignedError) and "duckdb" in sys.modules:
                raise error  # noqa: TRY201 - with a frame: without one, DuckDB crashes
            raise

    return call


# No context manager does this: ``contextlib`` puts the frames back.
def _shorten(error: OSError) -> None:
    if not isinstance(error, OSSPresignedError):
        if advice := hint(error):
            error.add_note(advice)
    elif not _log.isEnabledFor(logging.DEBUG):
        for link in _chain(error):
            if isinstance(link, OSSPresignedError):
                link.__traceback__ = None
