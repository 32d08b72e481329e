"""Calls of fsspec's callbacks."""

from __future__ import annotations

import contextlib

import pytest
from fsspec.callbacks import Callback, NoOpCallback

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.filesystem.callbacks import SharedCallback
from tests.filesystem.conftest import BUCKET


@contextlib.contextmanager
def file_of(shared):
    """The callback of a file, as a transfer on the engine's loop has it."""
    context = shared.of_file("a", "b")
    yield run(context.__aenter__)
    run(context.__aexit__, None, None, None)


def test_a_callback_without_branches_is_told_the_bytes_of_all_files():
    """Known sizes are added once; unknown ones as each file begins."""
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


@pytest.mark.parametrize("limit", [1, 4])
def test_a_callback_may_call_its_own_filesystem(environment, tmp_path, limit):
    """All threads and permissions may wait for the callback, so its calls need neither."""
    fs = OSSPresignedFileSystem(
        signer="keys", part_size=100 * 1024, max_concurrency=limit
    )
    for number in range(5):
        (tmp_path / "out" / f"{number}").parent.mkdir(exist_ok=True)
        (tmp_path / "out" / f"{number}").write_bytes(bytes(300 * 1024))
    notes = {f"examplebucket/notes/{number}": b"x" for number in range(2)}

    class Notes(Callback):
        def relative_update(self, inc=1):
            fs.pipe(notes)
            assert fs.cat(list(notes)) == notes

    fs.put(tmp_path / "out", "examplebucket/a", recursive=True, callback=Notes())
    fs.get("examplebucket/a", tmp_path / "in", recursive=True, callback=Notes())
    assert len(list((tmp_path / "in").iterdir())) == 5


class Raises(Callback):
    """A callback that ends every transfer."""

    def relative_update(self, inc=1):
        raise KeyError("user")


def test_a_callback_that_raises_hides_no_stored_object(blind, owner, tmp_path):
    """A small object is stored before its bytes are counted, and the record knows it."""
    blind.pipe_file(f"{BUCKET}/a", b"before")
    file = tmp_path / "file"
    file.write_bytes(b"after")
    with pytest.raises(KeyError) as caught:
        blind.put_file(file, f"{BUCKET}/a", callback=Raises())
    assert caught.value.__notes__ == [
        f"the PUT of {BUCKET}/a was answered with HTTP 200"
    ]
    assert owner.stored() == {"a": b"after"}
    with pytest.raises(PermissionError):
        blind.cat_file(f"{BUCKET}/a")
