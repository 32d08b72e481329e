"""The two walks of docs/architecture.md enter the modules that the page names."""

from __future__ import annotations

import operator
import re
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

import fsspec_osspresigned
from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.engine import engine

PACKAGE = Path(fsspec_osspresigned.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
WALKS = PAGE.partition("## Two uploads step by step")[2].partition("\n## ")[0]
VERB = "filesystem/filesystem"


class Entry(NamedTuple):
    """A call of one function of the package."""

    module: str
    function: str
    thread: str


def entered(run: Callable[[], object], patch: pytest.MonkeyPatch) -> list[Entry]:
    """Return the calls that *run* makes in all threads, in order; not the store's.

    The threads are the caller's, and those of a new engine.
    """
    calls: list[Entry] = []

    def enter(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        file = Path(code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            name = file.relative_to(PACKAGE).with_suffix("").as_posix()
            if not name.startswith(("emulator/", "asgi")):
                thread = threading.current_thread().name
                calls.append(Entry(name, code.co_qualname, thread))

    patch.setattr(engine, "_engine", engine.Engine())
    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def walk(title: str) -> tuple[list[tuple[str, str]], set[str]]:
    """Return module and function of each step, and all modules that the page names."""
    text = WALKS.partition(f"**{title}**")[2].partition("\n**")[0]
    steps = re.findall(r"^\d\. `([\w/]+)` \(`([\w.]+)`\)", text, re.MULTILINE)
    names = {
        name
        for name in re.findall(r"`([\w/]+)`", text)
        if (PACKAGE / f"{name}.py").is_file()
    }
    return steps, names


def first_put(oss: object, tmp_path: Path, size: int) -> Callable[[], object]:
    """Return an upload of *size* bytes by a filesystem that has loaded its modules."""
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=4)
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(size))
    fs.pipe_file("examplebucket/before", b"loads what is loaded once")
    if size > 1024:
        return lambda: fs.put_file(str(file), "examplebucket/big")
    return lambda: fs.pipe_file("examplebucket/small", file.read_bytes())


@pytest.mark.parametrize(
    ("title", "size", "sender"),
    [
        ("One small PUT", 1, "osspresigned-engine"),
        ("One large file", 17 << 20, "osspresigned-worker"),
    ],
)
def test_a_walk_enters_what_the_page_names(
    oss, tmp_path, monkeypatch, title, size, sender
):
    """The steps come in the order of the page, and nothing else is entered.

    All run in the engine's thread, but a large body is sent by a worker thread.
    """
    steps, names = walk(title)
    if title == "One large file":
        names |= walk("One small PUT")[1]
    for _ in range(3):  # on a busy machine, a timer or a lost connection enters more
        calls = entered(first_put(oss, tmp_path, size), monkeypatch)
        if {call.module for call in calls} == {VERB, *names}:
            break
    left = iter(calls)
    threads = [
        next((call.thread for call in left if call[:2] == step), f"{step}: not there")
        for step in steps
    ]
    assert next(call.thread for call in calls if call.module == VERB) == "MainThread"
    assert set(threads[:-1]) == {"osspresigned-engine"}
    assert threads[-1].startswith(sender)
    assert {call.module for call in calls} == {VERB, *names}


def test_functions_of_the_walks_exist():
    """Each file comes with the function to begin reading at."""
    steps = [*walk("One small PUT")[0], *walk("One large file")[0]]
    assert len(steps) == 13
    for module, name in steps:
        place = f"fsspec_osspresigned.{module.replace('/', '.')}"
        assert callable(operator.attrgetter(name)(import_module(place)))
