"""Verbs: a plain method and a coroutine function of one definition."""

from __future__ import annotations

import asyncio
import os
import threading
from inspect import signature

import pytest
from fsspec.asyn import AsyncFileSystem

from fsspec_osspresigned.engine.engine import awaited, verb
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem

ROOT = "examplebucket"


@pytest.fixture
def fs(oss):
    """A filesystem that may do everything."""
    return OSSPresignedFileSystem(signer="keys", max_concurrency=1)


def test_both_forms_of_copy_take_the_same_arguments():
    """The order is fsspec's, which differs for ``_copy``; all others have one function."""
    plain = signature(OSSPresignedFileSystem.copy).parameters
    other = signature(OSSPresignedFileSystem._copy).parameters
    assert dict(plain) == dict(other)
    theirs = [*signature(AsyncFileSystem._copy).parameters]
    assert [*other][:6] == theirs[:6]


def test_the_own_code_of_a_verb_runs_where_it_is_called():
    """Only what it awaits runs on the loop of the engine."""
    main = threading.get_ident()

    async def on_loop():
        return threading.get_ident()

    @verb
    async def threads(number):
        before = threading.get_ident()
        there = await awaited(on_loop), await awaited(on_loop)
        return number, before, *there, threading.get_ident()

    for number, before, first, second, after in (
        threads(1),
        asyncio.run(threads.coroutine(1)),
    ):
        assert number == 1
        assert before == after == main != first == second


class Asking(os.PathLike):
    """A path that calls the filesystem, in each way, before it returns its text."""

    def __init__(self, fs, path):
        self.fs, self.path = fs, path
        self.threads = set()

    def __fspath__(self):
        self.threads.add(threading.get_ident())
        assert self.fs.exists(f"{ROOT}/a")
        return str(self.path)


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_code_of_the_user_may_call_the_filesystem(fs, tmp_path, form):
    """Paths, iterables and mappings are read in the thread of the caller."""

    def call(name, *args, **options):
        if form == "plain":
            return getattr(fs, name)(*args, **options)
        return asyncio.run(getattr(fs, f"_{name}")(*args, **options))

    fs.pipe_file(f"{ROOT}/a", b"a")
    (tmp_path / "f").write_bytes(b"f")
    names = [f"{ROOT}/{name}" for name in "bcde"]

    def asked(paths):
        return (path for path in paths if fs.exists(f"{ROOT}/a"))

    local, target = Asking(fs, tmp_path / "f"), Asking(fs, tmp_path / "g")
    call("put_file", local, names[0])
    call("put", [local], [names[1]])
    call("copy", asked(names[:2]), names[2:])
    assert call("cat", asked(names)) == dict.fromkeys(names, b"f")
    call("get_file", names[0], target)
    call("get", asked(names[:1]), [target])
    assert (tmp_path / "g").read_bytes() == b"f"
    assert target.threads == {threading.get_ident()}
    call("rm", asked(names))
    assert fs.find(ROOT) == [f"{ROOT}/a"]
