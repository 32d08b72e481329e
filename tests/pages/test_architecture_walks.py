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

import pytest

import fsspec_osspresigned
from fsspec_osspresigned import OSSPresignedFileSystem

PACKAGE = Path(fsspec_osspresigned.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text("utf-8")
VERB = "filesystem/filesystem"


def entered(run: Callable[[], object]) -> list[str]:
    """Return the modules that *run* enters in all threads, in order; not the store's."""
    found: dict[str, None] = {}

    def enter(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(PACKAGE):
            found[file.relative_to(PACKAGE).with_suffix("").as_posix()] = None

    threading.setprofile(enter)
    sys.setprofile(enter)
    try:
        run()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return [name for name in found if not name.startswith(("emulator/", "asgi"))]


def walk(title: str) -> tuple[list[str], set[str]]:
    """Return the five files of a walk, and all modules that the page names for it."""
    walks = PAGE.partition("## Two uploads step by step")[2].partition("\n## ")[0]
    text = walks.partition(f"**{title}**")[2].partition("\n**")[0]
    stations = re.findall(r"^\d\. `([\w/]+)`", text, re.MULTILINE)
    names = {
        name
        for name in re.findall(r"`([\w/]+)`", text)
        if (PACKAGE / f"{name}.py").is_file()
    }
    return stations, names


def first_put(oss: object, tmp_path: Path, size: int) -> Callable[[], object]:
    """Return an upload of *size* bytes by a filesystem that starts its own threads."""
    fs = OSSPresignedFileSystem(signer="keys", max_concurrency=4)
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(size))
    fs.pipe_file("examplebucket/before", b"loads what is loaded once")
    if size > 1024:
        return lambda: fs.put_file(str(file), "examplebucket/big")
    return lambda: fs.pipe_file("examplebucket/small", file.read_bytes())


@pytest.mark.parametrize(
    ("title", "size"), [("One small PUT", 1), ("One large file", 17 << 20)]
)
def test_a_walk_enters_what_the_page_names(oss, tmp_path, title, size):
    """The files come in the order of the page, and nothing else is entered."""
    run = first_put(oss, tmp_path, size)
    found = entered(run)
    stations, names = walk(title)
    if title == "One large file":
        names |= walk("One small PUT")[1]
    assert [name for name in found if name in {VERB, *stations}] == [VERB, *stations]
    assert set(found) == {VERB, *names}


def test_functions_of_the_walks_exist():
    """Each file comes with the function to begin reading at."""
    walks = PAGE.partition("## Two uploads step by step")[2].partition("\n## ")[0]
    steps = re.findall(r"^\d\. `([\w/]+)` \(`([\w.]+)`\)", walks, re.MULTILINE)
    assert len(steps) == 10
    for module, name in steps:
        place = f"fsspec_osspresigned.{module.replace('/', '.')}"
        assert callable(operator.attrgetter(name)(import_module(place)))
