"""Publication of files that are open for writing."""

from __future__ import annotations

import array
import bz2
import contextlib
import gc
import gzip
import io
import logging
import lzma
import pickle
import queue
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator

import fsspec
import numpy as np
import pytest
import zstandard

from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.errors import (
    AccessDeniedError,
    DiscardWarning,
    StoreUnavailableError,
    UploadDiscardedError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import MIN_PART as PART
from fsspec_osspresigned.upload.buffer import PartBuffer
from fsspec_osspresigned.upload.codecs import ChainedWriter, TextWriter

BUCKET = "examplebucket"
PATH = f"{BUCKET}/data/k"
OLD = b"what was there before"

CODECS = {
    "gzip": gzip.decompress,
    "bz2": bz2.decompress,
    "xz": lzma.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    "zip": lambda data: zipfile.ZipFile(io.BytesIO(data)).read("file"),
}


RANDOM = np.random.default_rng(1)


class Boom(Exception):  # noqa: N818 - short
    """The exception of a body."""


class Store:
    """The emulator, a filesystem on it, and what a test wants to know of both."""

    def __init__(self, oss: Emulator) -> None:
        self.oss = oss
        self.fs = self.filesystem()

    @property
    def options(self) -> dict[str, object]:
        return {
            "signer": "keys",
            "endpoint": self.oss.url,
            "region": "cn-hangzhou",
            "part_size": PART,
            "max_concurrency": 4,
            "retries": 0,
        }

    def filesystem(self, **options: object) -> OSSPresignedFileSystem:
        return fsspec.filesystem("osspresigned", **{**self.options, **options})

    def get(self, path: str = PATH) -> bytes | None:
        bucket, _, key = path.partition("/")
        return self.oss.objects(bucket).get(key)

    def sizes(self) -> list[int]:
        """Return the bytes of the parts that came, in the order of their numbers."""
        parts = [r for r in self.oss.requests if r.action == "UploadPart"]
        return [r.bytes for r in sorted(parts, key=lambda r: r.part_number)]

    def actions(self) -> list[str]:
        return [r.action for r in self.oss.requests]

    def is_untouched(self) -> bool:
        """Return whether nothing was published and no upload was left open."""
        return self.get() is None and not self.oss.uploads(BUCKET)

    def wait_until(self, fact: Callable[[], bool]) -> bool:
        """Wait for what a worker does in the background."""
        end = time.monotonic() + 10
        while not fact() and time.monotonic() < end:
            time.sleep(0.005)
        return fact()


@pytest.fixture(scope="module")
def server() -> Iterator[Emulator]:
    with Emulator() as oss:
        yield oss


@pytest.fixture
def store(server: Emulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    key = server.credentials
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", key.access_key_id)
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", key.access_key_secret.reveal())
    found = Store(server)
    yield found
    for name in list(server.objects(BUCKET)):
        found.fs.rm_file(f"{BUCKET}/{name}")
    assert found.wait_until(lambda: not server.uploads(BUCKET))
    server.clear()


@pytest.fixture(params=["binary", "text", *CODECS])
def opened(request: pytest.FixtureRequest, store: Store) -> Callable[[], object]:
    """A function that opens one kind of file with fs.open."""
    if request.param == "binary":
        return lambda **o: store.fs.open(PATH, "wb", **o)
    if request.param == "text":
        return lambda **o: store.fs.open(PATH, "w", **o)
    return lambda **o: store.fs.open(PATH, "wb", compression=request.param, **o)


def some(file: object, size: int = 3 * PART) -> None:
    """Write something that does not compress, so that parts are sent."""
    if isinstance(file, io.TextIOBase):
        file.write(RANDOM.bytes(size // 2).hex())
    else:
        file.write(RANDOM.bytes(size))


# -- the last part -----------------------------------------------------------------------


def test_failure_that_the_last_part_finds(store):
    """A part that failed between writes is raised by close; nothing is published."""
    store.oss.faults.add(Fault(action="UploadPart", status=403, code="AccessDenied"))
    file = store.fs.open(PATH, "wb")
    file.write(bytes(PART + 1))  # a second part would find the failure of the first
    assert store.wait_until(lambda: file.upload.mode.failure is not None)
    for _ in range(2):
        with pytest.raises(PermissionError):
            file.close()
    assert file.closed
    assert store.is_untouched()


# -- a with block of our own -------------------------------------------------------------


def test_block_that_ends_well_publishes(store, opened):
    """The object appears when the block ends, not before."""
    with opened() as file:
        some(file)
        assert store.get() is None
    assert store.get()
    assert file.closed
    assert file.receipt.size == len(store.get())


def test_block_that_raises_publishes_nothing(store, opened, recwarn):
    """An exception out of our own block discards, stays itself, and has a note of it."""
    with pytest.raises(Boom) as caught, opened() as file:
        some(file)
        raise Boom
    assert store.is_untouched()
    assert file.closed
    assert file.receipt is None
    note = f"{file.path} was not published: an exception left its with block"
    assert caught.value.__notes__ == [note]
    assert caught.value.__context__ is None
    assert not recwarn


def test_error_after_the_end_of_a_file_has_no_note(store, opened):
    """An exception that discards nothing does not say that something was discarded."""
    with pytest.raises(Boom) as caught, opened() as file:
        some(file)
        file.close()
        raise Boom
    assert store.get()
    assert not hasattr(caught.value, "__notes__")
    store.oss.faults.add(Fault(status=403, code="AccessDenied"))
    with pytest.raises(AccessDeniedError) as failed, opened() as file:
        some(file)
        file.close()
    assert not hasattr(failed.value, "__notes__")


@pytest.mark.parametrize(("codec", "decode"), CODECS.items())
def test_compressed_block_publishes_whole_stream(store, codec, decode):
    """The codec's last bytes are in the object, also under a text layer."""
    data = RANDOM.bytes(2 * PART + 2)
    with store.fs.open(PATH, "wb", compression=codec) as file:
        assert isinstance(file, ChainedWriter)
        assert file.writable()
        assert file.write(np.frombuffer(data, "<u2")[:PART:2]) == PART
        file.flush()
        assert file.write(data) == len(data)
        assert file.tell() == PART + len(data)
    assert decode(store.get()).endswith(data)
    with store.fs.open(PATH, "w", compression=codec, encoding="utf-16-le") as file:
        assert isinstance(file, TextWriter)
        file.write("grün")
    assert decode(store.get()).decode("utf-16-le") == "grün"


def test_block_inside_handler_publishes(store, opened):
    """Opened, written and left in an except block: only its own body counts."""
    try:
        raise Boom
    except Boom:
        with opened() as file:
            some(file)
    assert store.get()


def test_block_left_in_handler_publishes(store):
    """A with block decides alone, also when another exception is being handled."""
    stack = contextlib.ExitStack()
    file = stack.enter_context(store.fs.open(PATH, "wb"))
    try:
        raise Boom
    except Boom:
        file.write(b"x")
        stack.close()
    assert store.get() == b"x"


# -- closed by others --------------------------------------------------------------------


def by_fsspec_open(store, **options):
    return fsspec.open(f"osspresigned://{PATH}", **store.options, **options)


def by_closing(store, mode="wb", **options):
    return contextlib.closing(store.fs.open(PATH, mode, **options))


@contextlib.contextmanager
def by_finally(store):
    file = store.fs.open(PATH, "wb")
    try:
        yield file
    finally:
        file.close()


@contextlib.contextmanager
def by_exit_stack(store):
    with contextlib.ExitStack() as stack:
        file = store.fs.open(PATH, "wb")
        stack.callback(file.close)
        yield file


def by_text_wrapper(store):
    return io.TextIOWrapper(store.fs.open(PATH, "wb"), encoding="utf-8")


@contextlib.contextmanager
def by_gzip_file(store):
    raw = store.fs.open(PATH, "wb")
    with contextlib.closing(raw), gzip.GzipFile(fileobj=raw, mode="wb") as file:
        yield file


STRANGERS = {
    "fsspec.open": lambda s: by_fsspec_open(s, mode="wb"),
    "fsspec.open text": lambda s: by_fsspec_open(s, mode="w"),
    **{
        f"fsspec.open {mode} {codec}": lambda s, m=mode, c=codec: by_fsspec_open(
            s, mode=m, compression=c
        )
        for mode, codec in (("wb", "gzip"), ("w", "zip"))
    },
    "closing": by_closing,
    "closing text": lambda s: by_closing(s, "w"),
    "closing gzip": lambda s: by_closing(s, compression="gzip"),
    "closing text zip": lambda s: by_closing(s, "w", compression="zip"),
    "finally in a generator": by_finally,
    "ExitStack callback": by_exit_stack,
    "TextIOWrapper": by_text_wrapper,
    "BufferedWriter": lambda s: io.BufferedWriter(s.fs.open(PATH, "wb")),
    "GzipFile": by_gzip_file,
}


@pytest.fixture(params=STRANGERS.values(), ids=STRANGERS.keys())
def stranger(request: pytest.FixtureRequest, store: Store) -> Callable[[], object]:
    """A function that opens a context manager that only calls close() on our file."""
    return lambda: request.param(store)


def test_stranger_that_raises_publishes_nothing(store, stranger):
    """A wrapper's close during an exception discards, loudly; the exception stays."""
    boom = Boom()
    with (
        pytest.warns(DiscardWarning, match="closed while Boom was in flight"),
        pytest.raises(Boom) as caught,
        stranger() as file,
    ):
        some(file)
        raise boom
    assert caught.value is boom
    assert "was not published; f.commit() publishes" in caught.value.__notes__[0]
    assert caught.value.__context__ is None
    assert store.is_untouched()


def test_stranger_inside_handler_publishes(store, stranger):
    """An exception that was in flight at open does not count at close."""
    try:
        raise Boom
    except Boom:
        with stranger() as file:
            some(file)
    assert store.get()


@pytest.mark.parametrize("is_same", [False, True])
def test_stranger_inside_handler_that_raises_publishes_nothing(store, is_same):
    """Another exception, or again the one that was there at open, leaves the body."""
    try:
        raise Boom
    except Boom as error:
        leaving = error if is_same else Boom()
        with (
            pytest.warns(DiscardWarning),
            pytest.raises(Boom) as caught,
            by_text_wrapper(store) as file,
        ):
            some(file)
            raise leaving from None
    assert caught.value.__notes__
    assert store.is_untouched()


def test_interrupt_through_stranger_publishes_nothing(store, stranger):
    """Ctrl-C through a wrapper discards, and stays Ctrl-C."""
    with (
        pytest.warns(DiscardWarning),
        pytest.raises(KeyboardInterrupt),
        stranger() as f,
    ):
        some(f)
        raise KeyboardInterrupt
    assert store.is_untouched()


# -- handler idioms are loud -------------------------------------------------------------


def in_stop_iteration(file):
    """Close at the end of an iteration."""
    source = iter([b"a", b"b"])
    while True:
        try:
            file.write(next(source))
        except StopIteration:
            file.close()
            return


def in_queue_empty(file):
    """Close when a queue has run dry."""
    source = queue.SimpleQueue()
    source.put(b"ab")
    while True:
        try:
            file.write(source.get_nowait())
        except queue.Empty:
            file.close()
            return


def in_resumed_generator(file):
    """Close inside a generator that a handler resumes."""

    def steps():
        file.write(b"ab")
        yield
        file.close()

    running = steps()
    next(running)
    try:
        raise Boom
    except Boom:
        next(running, None)


HANDLERS = {
    StopIteration: in_stop_iteration,
    queue.Empty: in_queue_empty,
    Boom: in_resumed_generator,
}


@pytest.mark.parametrize(("kind", "idiom"), HANDLERS.items())
def test_close_in_handler_is_loud(store, kind, idiom):
    """A handler that closes a finished file gets its exception back: never a loss."""
    file = store.fs.open(PATH, "wb")
    with pytest.warns(DiscardWarning), pytest.raises(kind) as caught:
        idiom(file)
    assert type(caught.value) is kind
    assert "f.commit() publishes" in caught.value.__notes__[0]
    assert store.is_untouched()
    file.close()
    with pytest.raises(UploadDiscardedError, match="was discarded"):
        file.commit()


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("codec", [None, "gzip"])
def test_commit_in_handler_publishes(store, mode, codec):
    """commit() ends the guessing; what comes after it is harmless."""
    file = store.fs.open(PATH, mode, compression=codec)
    try:
        some(file)
        raise StopIteration
    except StopIteration:
        file.commit()
        file.commit()
        file.close()
    file.discard()
    assert file.closed
    assert store.get()
    assert file.receipt.path == PATH


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("codec", [None, "gzip", "zip"])
def test_publishing_whatever_happens(store, mode, codec):
    """on_exception="publish" is fsspec's own way: every close publishes all bytes."""
    fs = store.filesystem(on_exception="publish")
    with pytest.raises(Boom), fs.open(PATH, mode, compression=codec) as file:
        some(file)
        raise Boom
    decode = CODECS.get(codec, bytes)
    assert len(decode(store.get())) == 3 * PART
    store.fs.pipe_file(PATH, OLD)
    with (
        pytest.raises(Boom),
        contextlib.closing(fs.open(PATH, mode, compression=codec)) as file,
    ):
        some(file)
        raise Boom
    assert len(decode(store.get())) == 3 * PART


# -- close, commit, discard --------------------------------------------------------------


def test_discard_publishes_nothing_and_is_idempotent(store, opened):
    """discard() removes the parts; nothing after it publishes."""
    file = opened()
    some(file)
    file.discard()
    file.discard()
    file.close()
    assert file.closed
    assert store.is_untouched()
    with pytest.raises(UploadDiscardedError, match="was discarded"):
        file.commit()


def test_closed_file_takes_nothing(store, opened):
    """Writing, and entering a block, after close is a ValueError."""
    file = opened()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        some(file)
    with pytest.raises(ValueError, match="closed"), file:
        pass
    with pytest.raises(ValueError, match="closed"):
        file.writable()


# -- one failure poisons -----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("codec", [None, *CODECS])
def test_failed_part_poisons(store, mode, codec):
    """After a failed part every write and close raises that error, and none completes."""
    store.fs.pipe_file(PATH, OLD)
    store.oss.faults.add(Fault(action="UploadPart", part_number=2, status=500))
    file = store.fs.open(PATH, mode, compression=codec)
    with pytest.raises(StoreUnavailableError) as first:
        for _ in range(400):
            some(file, PART)
            time.sleep(0.001)
    with pytest.raises(StoreUnavailableError) as later:
        file.write("x" if mode == "w" else b"x")
    assert later.value is first.value
    for _ in range(2):
        with pytest.raises(StoreUnavailableError) as closing:
            file.close()
        assert closing.value is first.value
        assert file.closed
    for again in (file.commit, lambda: file.__exit__(None, None, None)):
        with pytest.raises(StoreUnavailableError):
            again()
    file.discard()
    assert store.get() == OLD
    assert not store.oss.uploads(BUCKET)
    assert "CompleteMultipartUpload" not in store.actions()


def test_failed_part_reaches_stranger_that_only_closes(store):
    """A stock text layer whose caller swallowed the error still raises it at close."""
    store.oss.faults.add(Fault(action="UploadPart", times=None, status=500))
    raw = store.fs.open(PATH, "wb")
    file = io.TextIOWrapper(raw)
    with contextlib.suppress(OSError):
        for _ in range(400):
            some(file, PART)
            file.flush()
            time.sleep(0.001)
    assert raw.failed
    with pytest.raises(StoreUnavailableError):
        raw.flush()
    with pytest.raises(StoreUnavailableError):
        file.close()
    assert store.is_untouched()


# A zipfile, since Python 3.12 a gzip file, and since 3.14 any file that could not be
# ended complains when it is collected; 3.14 says so in other words.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning"
)
def test_failed_part_passes_through_stranger(store, stranger, monkeypatch):
    """The first error is raised from a wrapper's block, unchanged."""
    # A captured record holds the exception, and through its frames the zipfile.
    monkeypatch.setattr(
        logging.getLogger("fsspec_osspresigned.upload.upload"), "disabled", True
    )
    store.oss.faults.add(Fault(action="UploadPart", times=None, status=500))
    with pytest.raises(StoreUnavailableError), stranger() as file:
        for _ in range(400):
            some(file, PART)
            time.sleep(0.001)
    del file
    gc.collect()
    assert store.is_untouched()


@pytest.mark.parametrize("action", ["PutObject", "CompleteMultipartUpload"])
def test_failed_last_step_poisons(store, opened, action):
    """A close that failed fails again, and the second try sends nothing."""
    store.oss.faults.add(Fault(action=action, status=503))
    file = opened()
    some(file, 10 if action == "PutObject" else 3 * PART)
    with pytest.raises(StoreUnavailableError):
        file.close()
    seen = len(store.oss.requests)
    with pytest.raises(StoreUnavailableError):
        file.close()
    assert len(store.oss.requests) == seen
    assert store.is_untouched()


def test_interrupted_write_poisons(store, opened, monkeypatch):
    """Ctrl-C inside a write may have lost bytes: no close publishes, or hides Ctrl-C."""
    file = opened()

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(PartBuffer, "fill", interrupt)
    with pytest.raises(KeyboardInterrupt), contextlib.closing(file):
        while True:
            some(file, PART)
    monkeypatch.undo()
    assert file.closed
    with pytest.raises(UploadDiscardedError, match="interrupted"):
        some(file)
    with pytest.raises(UploadDiscardedError, match="interrupted"):
        file.close()
    assert store.is_untouched()


def test_interrupted_codec_poisons(store):
    """A codec that broke off has lost bytes: the file under it is not published."""

    class Interrupted(io.BytesIO):
        def write(self, _):
            raise KeyboardInterrupt

    file = ChainedWriter(Interrupted(), store.fs.open(PATH, "wb"))
    with pytest.raises(KeyboardInterrupt):
        file.write(b"x")
    with pytest.raises(UploadDiscardedError):
        file.close()
    assert store.is_untouched()


def test_codec_that_fails_at_its_end_poisons(store):
    """A compressed stream without its end is not published."""

    class Failing:
        def __init__(self, file):
            self.write = file.write

        def close(self):
            raise Boom

    binary = store.fs.open(PATH, "wb")
    file = ChainedWriter(Failing(binary), binary)
    some(file)
    for _ in range(2):
        with pytest.raises(Boom):
            file.close()
    assert store.is_untouched()


# -- bytes and parts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abcdef")[::2],
        array.array("d", [1.5, 2.5]),
        np.arange(6),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array(7.5),
        np.empty((0, 3)),
        np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    ],
    ids=range(11),
)
@pytest.mark.parametrize("codec", [None, "gzip"])
def test_any_buffer_is_written(store, value, codec):
    """Every buffer is written in its logical order, and its bytes are returned."""
    expected = memoryview(value).tobytes()
    with store.fs.open(PATH, "wb", compression=codec) as file:
        assert file.write(value) == len(expected)
    found = store.get()
    assert (gzip.decompress(found) if codec else found) == expected


@pytest.mark.parametrize(
    "encoding", ["utf-16", "UTF_32", "utf-8-sig", "utf-16-le", "utf-8"]
)
def test_text_has_the_byte_order_mark_of_its_encoding(store, encoding):
    """The bytes are those of ``str.encode``; without text there are none."""
    with store.fs.open(PATH, "w", encoding=encoding) as file:
        assert (file.write(""), file.write("ab"), file.write("c")) == (0, 2, 1)
    assert store.get() == "abc".encode(encoding)
    store.fs.open(PATH, "w", encoding=encoding).close()
    assert store.get() == b""


def test_two_threads_that_write_at_once(store):
    """Each thread's bytes arrive whole, large or small."""
    size, count = 8 * 1024, 300
    with store.fs.open(PATH, "wb") as file:

        def write(number):
            kept, copied = bytes([number]) * size, bytearray([number + 1]) * size
            for _ in range(count):
                file.write(kept)
                file.write(copied)

        threads = [threading.Thread(target=write, args=(n,)) for n in (1, 3, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    data = store.get()
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    assert all(block == block[:1] * size for block in blocks)
    assert Counter(block[0] for block in blocks) == dict.fromkeys(range(1, 7), count)


def test_position_counts_and_nothing_seeks(store):
    """tell() counts; seek, fileno and reading are UnsupportedOperation, an OSError."""
    with store.fs.open(PATH, "wb") as file:
        assert (file.writable(), file.readable(), file.seekable()) == (
            True,
            False,
            False,
        )
        assert file.tell() == 0
        file.write(b"abc")
        assert file.tell() == 3
        assert (file.name, file.path, file.mode) == (PATH, PATH, "wb")
        for call in (lambda: file.seek(3), file.fileno, file.read, file.truncate):
            with pytest.raises(io.UnsupportedOperation):
                call()
        with pytest.raises(io.UnsupportedOperation, match="has no file descriptor"):
            file.fileno()
        assert len({file, file}) == 1
    assert file.tell() == 3


# -- never closed ------------------------------------------------------------------------


def broken(*_: object) -> int:
    """Fail, as the source of what is written may."""
    raise ZeroDivisionError


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("codec", [None, *CODECS])
def test_unclosed_file_is_discarded_by_a_worker(store, monkeypatch, mode, codec):
    """Garbage collection warns and uses no network itself; a worker aborts the parts."""
    file = store.fs.open(PATH, mode, compression=codec)
    some(file, 30 * PART if codec == "bz2" else 6 * PART)
    if codec != "xz":  # it keeps megabytes to itself
        assert store.wait_until(lambda: len(store.sizes()) >= 1)
    threads = []
    send = store.fs.client.transport.send

    def spy(*args, **kwargs):
        threads.append(threading.current_thread())
        return send(*args, **kwargs)

    monkeypatch.setattr(store.fs.client.transport, "send", spy)
    with pytest.warns(DiscardWarning, match="never closed and was not published"):
        del file
        gc.collect()
    assert store.wait_until(lambda: not store.oss.uploads(BUCKET))
    assert threading.main_thread() not in threads
    assert store.is_untouched()


def test_file_closed_but_never_committed_is_discarded(store):
    """A file that waits for commit() and is dropped leaves no parts behind."""
    file = store.fs.open(PATH, "wb", autocommit=False)
    some(file)
    file.close()
    with pytest.warns(DiscardWarning, match="never committed"):
        del file
        gc.collect()
    assert store.wait_until(store.is_untouched)


@pytest.mark.parametrize("copy", [pickle.dumps, lambda file: file.__reduce_ex__(2)])
def test_open_file_cannot_be_pickled(store, opened, copy):
    """An upload on its way belongs to one process; the error says what to do."""
    with opened() as file:
        with pytest.raises(TypeError, match="pickle the filesystem"):
            copy(file)
        some(file)
    assert store.get()


# -- known limits ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "codec"), [("wb", None), ("wb", "gzip"), ("w", None), ("w", "gzip")]
)
def test_seek_names_the_remedy(store, mode, codec):
    """A writer that seeks needs a local file; a broken object is not recommended."""
    remedy = f"write to simplecache::osspresigned://{PATH}, a local file"
    file = store.fs.open(PATH, mode, compression=codec)
    with pytest.raises(io.UnsupportedOperation) as caught:
        try:
            file.seek(0)
        finally:
            file.close()
    assert remedy in str(caught.value)
    (note,) = caught.value.__notes__
    assert remedy in note
    assert "commit" not in note
    assert not store.oss.objects("examplebucket")


@pytest.mark.timeout(20)
def test_a_cycle_of_exceptions(store):
    """close() ends if the exceptions in flight refer to each other."""
    file = store.fs.open(PATH, "wb")
    first, second = Boom("a"), Boom("b")
    first.__context__, second.__context__ = second, first
    with pytest.warns(DiscardWarning), pytest.raises(Boom):
        try:
            raise first
        except Boom:
            file.close()
    assert store.is_untouched()


AWAY = [(0, 0), (3, 0), (-1, 1), (-1, 2)]


@pytest.mark.parametrize("ends_by", ["close", "__exit__"])
@pytest.mark.parametrize("codec", [None, "gzip"])
@pytest.mark.parametrize("seek", AWAY)
def test_a_library_that_ignores_a_refused_seek_publishes_nothing(
    store, seek, codec, ends_by
):
    """Its next bytes belong elsewhere, so every later call raises, and names the remedy."""
    store.fs.pipe_file(PATH, OLD)
    file = store.fs.open(PATH, "wb", compression=codec)
    file.write(b"ab")
    with contextlib.suppress(io.UnsupportedOperation):
        file.seek(*seek)
    end = getattr(file, ends_by)
    arguments = (None,) * 3 if ends_by == "__exit__" else ()
    calls = [lambda: file.write(b"header"), file.flush, lambda: end(*arguments)]
    for call in calls:
        with pytest.raises(io.UnsupportedOperation, match="simplecache::"):
            call()
    assert store.get() == OLD
    assert store.wait_until(lambda: not store.oss.uploads(BUCKET))
