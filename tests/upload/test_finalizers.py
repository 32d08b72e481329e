"""Files that a finalizer closes: a wrapper was dropped, so nothing is published."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FSSpecHandler, PyFileSystem

from fsspec_osspresigned.errors import DiscardWarning, UploadDiscardedError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

PATH = "examplebucket/k"
OLD = b"what was there before"
ROWS = pa.table({"n": [1, 2, 3]})
SMALL = 64 * 1024


class Parquet(pq.ParquetWriter):
    """pyarrow's ParquetWriter, with a ``write`` like that of a stream."""

    def __init__(self, fs: OSSPresignedFileSystem) -> None:
        super().__init__(PATH, ROWS.schema, filesystem=fs)

    def write(self, _: bytes) -> None:
        self.write_table(ROWS)


class Layer(io.BufferedIOBase):
    """A wrapper in Python whose finalizer, of the class io.IOBase, closes it."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def of_pyarrow(fs: OSSPresignedFileSystem, **options: Any) -> Any:
    return PyFileSystem(FSSpecHandler(fs)).open_output_stream(PATH, **options)


WRAPPERS: dict[str, Callable[[OSSPresignedFileSystem], Any]] = {
    "ParquetWriter": Parquet,
    "CompressedOutputStream": lambda fs: pa.CompressedOutputStream(
        fs.open(PATH, "wb"), "gzip"
    ),
    "CompressedOutputStream, compressed": lambda fs: pa.CompressedOutputStream(
        fs.open(PATH, "wb", compression="gzip"), "gzip"
    ),
    "BufferedOutputStream": lambda fs: pa.BufferedOutputStream(
        pa.PythonFile(fs.open(PATH, "wb"), mode="w"), SMALL
    ),
    "compression": lambda fs: of_pyarrow(fs, compression="gzip"),
    "buffer_size": lambda fs: of_pyarrow(fs, buffer_size=SMALL),
    "IOBase": lambda fs: Layer(fs.open(PATH, "wb")),
}


@pytest.fixture
def fs(oss) -> OSSPresignedFileSystem:
    fs = OSSPresignedFileSystem(signer="keys", part_size=102_400)
    fs.pipe_file(PATH, OLD)
    return fs


@pytest.fixture(params=WRAPPERS.values(), ids=WRAPPERS)
def opened(request, fs) -> Callable[[], Any]:
    """Return a function that opens a wrapper, and writes into it."""

    def open_wrapper() -> Any:
        wrapper = request.param(fs)
        wrapper.write(b"x" * 1000)
        return wrapper

    return open_wrapper


def by_exception(opened):
    """Fail in a function that has written a part."""

    def export():
        wrapper = opened()
        raise ConnectionError(wrapper)

    with contextlib.suppress(ConnectionError):
        export()


def by_handled_exception(opened):
    """Do the same, and handle the exception."""

    def export():
        wrapper = opened()
        raise ConnectionError(wrapper)

    try:
        export()
    except ConnectionError as error:
        str(error)


def by_next(opened):
    """Open the next one instead of closing the first, and close that."""
    for number in range(2):
        wrapper = opened()
        if number:
            wrapper = None
    del wrapper


def by_attribute(opened):
    """Drop it where it is an attribute."""

    class Sink:
        pass

    sink = Sink()
    sink.wrapper = opened()
    sink.wrapper = None


def by_collection(opened):
    """Leave it to the garbage collector, as an exception that is kept does."""

    def export():
        wrapper = opened()
        try:
            raise ConnectionError(wrapper)
        except ConnectionError as error:
            kept = error
            assert kept

    export()
    gc.collect()


def by_thread(opened):
    """Fail in a thread."""
    thread = threading.Thread(target=by_exception, args=(opened,))
    thread.start()
    thread.join()


DROPS = [by_exception, by_handled_exception, by_next, by_attribute]
DROPS += [by_collection, by_thread]


@pytest.mark.parametrize("drop", DROPS)
def test_what_is_dropped_replaces_nothing(oss, fs, opened, drop):
    """The old object stays, a warning names it, and no upload is left."""
    with pytest.warns(DiscardWarning, match=f"{PATH} was never closed"):
        drop(opened)
        gc.collect()
    assert fs.cat_file(PATH) == OLD
    assert not oss.uploads("examplebucket")


def by_close(wrapper):
    """Close it as most programs do."""
    wrapper.close()


def by_block(wrapper):
    """Leave its block."""
    with wrapper:
        pass


def by_closing(wrapper):
    """Leave a block that closes it."""
    with contextlib.closing(wrapper):
        pass


def by_stack(wrapper):
    """Let a stack call it."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(wrapper)


def by_map(wrapper):
    """Let compiled code call it, step by step of a loop."""
    for _ in map(type(wrapper).close, [wrapper]):
        pass


def by_other_thread(wrapper):
    """Let a thread call it, without Python code of its own."""
    thread = threading.Thread(target=wrapper.close)
    thread.start()
    thread.join()


def while_traced(wrapper):
    """Close it while a debugger or a profiler follows."""

    def trace(*_: object) -> Any:
        return trace

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(trace)
    try:
        wrapper.close()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])


def by_handler(wrapper):
    """Close it after an exception that the program handles."""
    with contextlib.suppress(KeyError):
        raise KeyError
    wrapper.close()


CLOSES = [by_close, by_block, by_closing, by_stack, by_map, by_other_thread]
CLOSES += [while_traced, by_handler]


@pytest.mark.parametrize("close", CLOSES)
def test_what_is_closed_is_published(fs, opened, close):
    """The program calls close, however it does."""
    wrapper = opened()
    close(wrapper)
    assert fs.cat_file(PATH) != OLD


@pytest.mark.filterwarnings("ignore::fsspec_osspresigned.errors.DiscardWarning")
def test_a_file_whose_stream_was_dropped_tells_so(fs):
    """A program that still holds the file gets an error when it closes it."""
    file = fs.open(PATH, "wb")
    stream = pa.CompressedOutputStream(file, "gzip")
    stream.write(b"x")
    del stream
    for _ in range(2):
        with pytest.raises(UploadDiscardedError, match="without being closed"):
            file.close()
    assert fs.cat_file(PATH) == OLD


def test_publishing_always_includes_finalizers(oss, fs):
    """``on_exception="publish"`` does what other filesystems do."""
    always = OSSPresignedFileSystem(signer="keys", on_exception="publish")
    by_exception(lambda: WRAPPERS["compression"](always))
    assert fs.cat_file(PATH) != OLD


def test_a_dropped_stream_fails_its_transaction(fs):
    """A stream that was never closed may be truncated, so the transaction fails."""

    def lose() -> None:
        stream = of_pyarrow(fs, compression="gzip")
        del stream

    refused = pytest.raises(UploadDiscardedError, match="without being closed")
    with refused, fs.transaction:
        lose()
        fs.pipe_file("examplebucket/marker", b"")
    assert fs.cat_file(PATH) == OLD
    assert not fs.exists("examplebucket/marker")
