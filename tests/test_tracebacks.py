"""Tracebacks: short where the text of an error says everything."""

from __future__ import annotations

import asyncio
import linecache
import logging
import threading
import traceback
import warnings

import pytest

import fsspec_osspresigned
from fsspec_osspresigned.call_stack import (
    hint,
    short_traceback,
    without_frames,
)
from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import (
    BlindAnswerWarning,
    ConfigurationError,
    UploadDiscardedError,
)


@pytest.fixture(autouse=True)
def _not_debugging():
    log = logging.getLogger("fsspec_osspresigned")
    log.setLevel(logging.INFO)
    yield
    log.setLevel(logging.NOTSET)


@pytest.fixture
def only_writing(oss):
    """A filesystem whose looks the store refuses, after a moment."""
    for action in ("HeadObject", "GetObject", "ListObjectsV2"):
        denied = Fault(action=action, refuse="denied", delay=0.02, times=None)
        oss.faults.add(denied)
    return fsspec_osspresigned.OSSPresignedFileSystem(signer="keys")


def deep(error, levels=5):
    if levels:
        deep(error, levels - 1)
    try:
        raise UploadDiscardedError("first")
    except UploadDiscardedError:
        raise error  # noqa: B904 - what it is raised while handling is the subject


def frames(error, verb=deep):
    with pytest.raises(type(error)) as caught:
        short_traceback(verb)(error)
    assert caught.value is error
    return [one.name for one in traceback.extract_tb(error.__traceback__)]


def test_own_errors_end_at_the_verb():
    """Neither they nor what was handled before show a frame below it."""
    error = ConfigurationError("all is said here")
    assert "deep" not in frames(error)
    assert error.__context__.__traceback__ is None


def test_errors_of_others_keep_their_frames():
    """Where a program is wrong, its traceback says where, also behind an own error."""
    error = ZeroDivisionError()
    assert frames(error)[-1] == "deep"
    assert error.__context__.__traceback__ is not None

    def behind(own):
        try:
            deep(ZeroDivisionError())
        except ZeroDivisionError as mistake:
            raise own from mistake

    own = ConfigurationError("a function failed")
    assert "behind" not in frames(own, behind)
    assert own.__cause__.__traceback__ is not None


def test_debugging_keeps_all_frames():
    """DEBUG of this package's log is asked for by people who look for the place."""
    logging.getLogger("fsspec_osspresigned").setLevel(logging.DEBUG)
    assert frames(ConfigurationError("why"))[-1] == "deep"


def test_verbs_answer_and_keep_their_names():
    """Help, pickle and documentation see the verb itself."""
    verb = short_traceback(deep)
    assert (verb.__wrapped__, verb.__name__) == (deep, "deep")
    assert short_traceback(len)("abc") == 3


@pytest.mark.parametrize("error", [OSError(5, "broken"), KeyboardInterrupt()])
def test_what_is_no_mistake_of_a_program_keeps_no_frame(error):
    """Frames hold bodies; an interrupt tells nothing by the line where it came."""
    with pytest.raises(type(error)):
        deep(error)
    assert without_frames(error) is error
    assert error.__traceback__ is None


def test_mistakes_keep_the_place_without_variables():
    """A TypeError still tells its line."""
    with pytest.raises(TypeError) as caught:
        deep(TypeError("x"))
    frame = without_frames(caught.value).__traceback__
    while frame.tb_next is not None:
        frame = frame.tb_next
    assert frame.tb_frame.f_code.co_name == "deep"
    assert not frame.tb_frame.f_locals


def test_a_refusal_fills_no_screen():
    """Ten lines for each of our frames would hide the one that says what to do."""
    with pytest.raises(ConfigurationError) as caught:
        fsspec_osspresigned.OSSPresignedFileSystem(presigned_url="no URL")
    names = [one.filename for one in traceback.extract_tb(caught.value.__traceback__)]
    assert sum("fsspec_osspresigned" in name for name in names[1:]) <= 1


def look(fs):
    """Look at an object that nobody granted."""
    assert not fs.exists("examplebucket/y")  # here, in a function


async def looks(fs):
    """Do the same in a coroutine."""
    await asyncio.sleep(0)
    assert not await fs._exists("examplebucket/y")  # here, in a coroutine


def of_thread(fs):
    """Do the same in a thread."""
    thread = threading.Thread(target=look, args=(fs,))
    thread.start()
    thread.join()


def of_loop(fs):
    """Do the same in an event loop."""
    asyncio.run(looks(fs))


@pytest.mark.parametrize("call", [look, of_thread, of_loop])
def test_a_warning_names_the_line_that_called(only_writing, call):
    """Neither a line of this package nor one of fsspec is anybody's to change."""
    with pytest.warns(BlindAnswerWarning, match="not signed") as caught:
        call(only_writing)
    assert [one.filename for one in caught] == [__file__]
    assert "# here, " in linecache.getline(__file__, caught[0].lineno)


def test_a_warning_is_shown_by_the_thread_that_waits(only_writing):
    """What shows it may use the filesystem, which it could not in the engine's thread."""
    threads = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda *_: threads.append(threading.get_ident())
        look(only_writing)
    assert threads == [threading.get_ident()]


def test_what_to_do_is_a_note():
    """It stands below the text of an error that this package did not make."""
    error = OSError(24, "Too many open files", "f")
    frames(error)
    assert error.__notes__ == [hint(error)]
    plain = OSError(5, "Input/output error", "f")
    frames(plain)
    assert not hasattr(plain, "__notes__")
