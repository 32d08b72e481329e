"""Bytes on the way, drawn for people."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest
from fsspec.callbacks import DEFAULT_CALLBACK, Callback, NoOpCallback

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem, callbacks
from fsspec_osspresigned.filesystem.callbacks import BytesProgress, SharedCallback


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Notebook(io.StringIO):
    """A stream of a kernel, as far as its class tells."""

    __module__ = "ipykernel.iostream"


def test_nobody_is_told_when_nobody_listens():
    """The default callback costs nothing."""
    assert not SharedCallback(DEFAULT_CALLBACK).is_heard
    assert not SharedCallback(NoOpCallback()).is_heard


def test_a_callback_is_told_size_and_bytes():
    """Negative numbers take back a failed try."""
    callback = Callback()
    told = SharedCallback(callback)
    told.set_size(10)
    for sent in (6, -6, 10):
        told.add(sent)
    assert (callback.size, callback.value) == (10, 10)


@contextlib.contextmanager
def file_of(shared):
    """The callback of a file, as a transfer on the engine's loop has it."""
    context = shared.of_file("a", "b")
    yield run(context.__aenter__)
    run(context.__aexit__, None, None, None)


def test_a_callback_without_branches_is_told_the_bytes_of_all_files():
    """What is known is not added again; what is not, is told as files begin."""
    known, unknown = Callback(), Callback()
    for callback, size in ((known, 4096), (unknown, None)):
        shared = SharedCallback(callback)
        shared.expect(2, size)
        for of_file in (3072, 1024):
            with file_of(shared) as file:
                file.set_size(None)
                file.set_size(of_file)
                file.set_size(of_file)
                file.add(of_file)
        assert (callback.size, callback.value) == (4096, 4096)


@pytest.mark.parametrize("name", ["branched", "branch"])
def test_a_callback_with_branches_is_told_files(name):
    """It may make them by either of fsspec's two methods."""

    def branched(self, path_1, path_2, **kwargs):
        return NoOpCallback()

    def branch(self, path_1, path_2, kwargs):
        kwargs["callback"] = NoOpCallback()

    callback = type("Own", (Callback,), {name: {**locals()}[name]})()
    shared = SharedCallback(callback)
    shared.expect(2, 4096)
    with file_of(shared) as file:
        file.set_size(3)
        file.add(3)
    assert (callback.size, callback.value) == (2, 1)


def test_one_file_is_counted_at_the_root():
    """``put_file`` has no branches."""
    bar = BytesProgress(io.StringIO())
    bar.set_size(None)
    bar.set_size(10)
    bar.relative_update(4)
    bar.absolute_update(9)
    assert (bar.total, bar.done, bar.value) == (10, 9, 9)


def test_a_terminal_sees_it_move():
    """The line is drawn over itself, without remains of a longer one."""
    stream = Terminal()
    bar = BytesProgress(stream, every=0)
    bar.set_size(4 * 1024**3)
    bar.relative_update(1024**3)
    bar.relative_update(1024**3 * 3)
    bar.close()
    lines = stream.getvalue().split("\r")
    assert len(lines) == 4
    assert "  25% 1.0 GiB of 4.0 GiB" in lines[1]
    assert all(len(line.rstrip("\n")) >= 60 for line in lines[1:])


def test_a_terminal_is_not_drawn_on_all_the_time():
    """Drawing is rarer than blocks are."""
    stream = Terminal()
    bar = BytesProgress(stream, every=1000)
    bar.set_size(11)
    for _ in range(10):
        bar.relative_update(1)
    assert stream.getvalue().count("\r") <= 1
    bar.relative_update(1)
    assert "100%" in stream.getvalue()


def test_a_file_gets_a_line_now_and_then(monkeypatch):
    """A log grows by a line every 10 seconds."""
    now = [100.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with BytesProgress(stream, label="up ") as bar:
        bar.set_size(4096)
        for _ in range(4):
            bar.relative_update(1024)
            now[0] += 6
    first, second = stream.getvalue().splitlines()
    assert first.startswith("up [")
    assert " 75% 3.0 KiB of 4.0 KiB, 256 B/s" in first
    assert second.startswith(f"up [{'#' * 24}] 100% 4.0 KiB of 4.0 KiB, ")


@pytest.mark.parametrize("done", [0, 5, 20])
def test_odd_totals_are_drawn(done):
    """An unknown or exceeded total is no error."""
    stream = io.StringIO()
    bar = BytesProgress(stream)
    bar.relative_update(done)
    bar.close()
    assert "100%" in stream.getvalue()


@pytest.mark.parametrize("kind", [Terminal, Notebook])
def test_tqdm_draws_where_it_is_installed(kind, monkeypatch):
    """It is told sizes that grow, and tries that are taken back."""
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    bar = BytesProgress(label="up: ", every=0)
    bar.set_size(2048)
    bar.relative_update(1024)
    bar.relative_update(-512)
    bar.set_size(4096)
    bar.relative_update(512)
    bar.relative_update(3072)
    bar.close()
    shown = stream.getvalue()
    assert "up:  50%" in shown
    assert "25%" in shown
    assert "4.00k/4.00k" in shown.rpartition("\r")[2]
    assert shown.endswith("\n")


def test_first_rate_of_tqdm_is_that_since_the_start(monkeypatch):
    """The time before the first drawing counts: 1 KiB in 1000 s is a byte a second."""
    now, stream = [100.0], Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    with BytesProgress(every=0) as bar:
        bar.set_size(2048)
        now[0] += 1000
        bar.relative_update(1024)
    assert ", 1.02B/s]" in stream.getvalue()


@pytest.mark.parametrize("kind", [Terminal, Notebook])
def test_without_tqdm_it_draws_itself(kind, monkeypatch):
    """A notebook gets the same bar as a terminal."""
    stream = kind()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with BytesProgress(every=0) as bar:
        bar.set_size(2048)
        bar.relative_update(1024)
        bar.relative_update(1024)
    assert " 50% 1.0 KiB of 2.0 KiB" in stream.getvalue().split("\r")[1]


@pytest.mark.parametrize("limit", [None, 1, 4])
def test_a_callback_may_call_its_own_filesystem(environment, tmp_path, limit):
    """All threads and permissions may wait for the callback, so its calls need neither."""
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=100 * 1024, max_concurrency=limit
    )
    for number in range(12):
        (tmp_path / "out" / f"{number}").parent.mkdir(exist_ok=True)
        (tmp_path / "out" / f"{number}").write_bytes(bytes(1024 * 1024))
    notes = {f"examplebucket/notes/{number}": b"x" for number in range(3)}

    class Notes(Callback):
        def relative_update(self, inc=1):
            fs.pipe(notes)
            assert fs.cat(list(notes)) == notes

    fs.put(tmp_path / "out", "examplebucket/a", recursive=True, callback=Notes())
    fs.get("examplebucket/a", tmp_path / "in", recursive=True, callback=Notes())
    assert len(list((tmp_path / "in").iterdir())) == 12
