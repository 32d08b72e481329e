"""Trees: what is walked, what is left out, what fails, and how little is held."""

from __future__ import annotations

import inspect
import itertools
import os
import socket
import sys
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import other_paths

from fsspec_osspresigned.errors import ConfigurationError, PublishWarning
from fsspec_osspresigned.filesystem import destinations as local_tree
from fsspec_osspresigned.filesystem.destinations import (
    Destination,
    Kind,
    local_entries,
    local_name_problem,
    refuse_escapes,
)
from fsspec_osspresigned.owner.sign import local_objects

ROOT = "examplebucket"


@pytest.fixture
def tree(tmp_path):
    """Two levels of directories, five files."""
    top = tmp_path / "src"
    for name in ("a", "b.txt", "sub/c", "sub/d.txt", "sub/deep/e"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(name.encode())
    (top / "empty").mkdir()
    return top


def never(_):
    return False


def of(lpath, rpath="dst", *, recursive=True, maxdepth=None, is_directory=never):
    """Return what goes where, as a mapping without directories."""
    found = local_entries(
        lpath,
        rpath,
        recursive=recursive,
        maxdepth=maxdepth,
        is_directory=is_directory,
    )
    return {one.local: one.path for one in found if one.kind is Kind.FILE}


def by_fsspec(lpath, rpath, *, recursive, maxdepth, dest_is_dir):
    """Return what stock fsspec would send where (AsyncFileSystem._put, restated)."""
    local = LocalFileSystem()
    one = isinstance(lpath, str)
    found = local.expand_path(lpath, recursive=recursive, maxdepth=maxdepth)
    if one and (not recursive or maxdepth is not None):
        found = [path for path in found if not os.path.isdir(path)]
    if not found:
        return {}
    is_magic = one and "*" in lpath
    exists = one and (
        (is_magic and len(found) == 1)
        or (not is_magic and dest_is_dir and not lpath.endswith("/"))
    )
    targets = other_paths(found, rpath.rstrip("/"), exists=exists, flatten=not one)
    both = zip(found, targets, strict=True)
    return {path: target for path, target in both if not os.path.isdir(path)}


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize(
    "what",
    ["", "/", "/a", "/*", "/s*", "/sub*", "/**", "/*.txt", "/sub", "/empty", "list"],
)
def test_the_layout_is_that_of_fsspec(tree, what, recursive):
    """Every combination gives the destinations that stock fsspec computes."""
    lpath = f"{tree}{what}" if what != "list" else [f"{tree}/sub", f"{tree}/a"]
    for rpath, maxdepth, dest_is_dir in itertools.product(
        ("dst", "dst/"), (None, 1, 2, 3), (False, True)
    ):
        found = of(
            lpath,
            rpath,
            recursive=recursive,
            maxdepth=maxdepth,
            is_directory=lambda _, known=dest_is_dir: known,
        )
        is_dir = dest_is_dir or rpath.endswith("/")
        assert found == by_fsspec(
            lpath, rpath, recursive=recursive, maxdepth=maxdepth, dest_is_dir=is_dir
        ), (rpath, maxdepth, dest_is_dir)


def test_levels_begin_at_one(tree):
    """No level at all is a mistake."""
    with pytest.raises(ValueError, match="maxdepth must be at least 1"):
        of(str(tree), maxdepth=0)


def test_a_directory_that_cannot_be_read_is_a_failure(tree, blind, owner, monkeypatch):
    """An unreadable directory raises an error; fsspec itself skips it silently."""
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/sub"):
            raise PermissionError(13, "no", str(path))
        return scandir(path)

    monkeypatch.setattr(local_tree.os, "scandir", refuse)
    with pytest.raises(PermissionError, match="src/sub"):
        blind.put(str(tree), f"{ROOT}/t", recursive=True)
    with pytest.raises(PermissionError, match="src/sub"):
        local_objects([str(tree)], "to/")
    with pytest.raises(PermissionError, match="src/sub"):
        blind.put(str(tree / "sub"), f"{ROOT}/v", recursive=True)
    found = blind.put(
        str(tree), f"{ROOT}/u", recursive=True, maxdepth=9, on_error="return"
    )
    assert [type(one).__name__ for one in found] == [
        "Receipt",
        "Receipt",
        "PermissionError",
    ]
    assert {key for key in owner.stored() if key.startswith("u/")} == {"u/a", "u/b.txt"}


def test_a_deep_tree_is_walked_whatever_the_limit_of_recursion(tmp_path):
    """Its depth costs no frames of Python."""
    names = ["a"] * 200
    tmp_path.joinpath(*names).mkdir(parents=True)
    tmp_path.joinpath(*names, "f").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = of(str(tmp_path))
    finally:
        sys.setrecursionlimit(limit)
    assert [*found.values()] == ["/".join(["dst", *names, "f"])]


def test_links_in_a_tree(tree, blind, owner, tmp_path):
    """A link to a file is uploaded; one to a directory is skipped with a warning."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    os.symlink(tree / "a", tree / "to_file")
    os.symlink(outside, tree / "to_dir")
    os.symlink(tree, tree / "sub" / "round")
    with pytest.warns(
        PublishWarning, match=r"left out .* \(link to a dir.* and 1 more"
    ):
        blind.put(str(tree), f"{ROOT}/t", recursive=True)
    keys = set(owner.stored())
    assert "t/to_file" in keys
    assert not any("secret" in key or "round" in key for key in keys)
    # Named outright, a link is followed.
    blind.put(str(tree / "to_dir"), f"{ROOT}/named", recursive=True)
    assert owner.stored()["named/secret"] == b"s"


def test_broken_links_and_loops_are_failures(tree, blind, owner):
    """An unreadable file is an error with its local name; the others are stored."""
    os.symlink(tree / "none", tree / "broken")
    os.symlink(tree / "loop", tree / "loop")
    found = blind.put(str(tree), f"{ROOT}/t", recursive=True, on_error="return")
    failed = [one for one in found if isinstance(one, Exception)]
    assert sorted(Path(one.filename).name for one in failed) == ["broken", "loop"]
    assert len(found) == 7
    assert len(owner.stored()) == 5


def test_pipes_and_sockets_in_a_tree_are_left_out(tree, blind, owner, monkeypatch):
    """A pipe in a tree or a pattern is skipped, because reading it could wait forever."""
    os.mkfifo(tree / "fifo")
    monkeypatch.chdir(tree)  # a socket's name must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("sock")
        with pytest.warns(
            PublishWarning, match=r"fifo \(pipe, socket or device\) and 1"
        ):
            blind.put(str(tree), f"{ROOT}/t", recursive=True)
        with pytest.warns(PublishWarning, match="and 1 more"):
            blind.put(f"{tree}/*", f"{ROOT}/p")
        with pytest.warns(PublishWarning, match="fifo"):
            blind.put([f"{tree}/f*"], f"{ROOT}/l")
        with pytest.raises(OSError, match="sock"):
            blind.put_file(tree / "sock", f"{ROOT}/s")
    os.symlink("none", tree / "*broken")
    with pytest.raises(FileNotFoundError):
        blind.put(f"{tree}/?broke*", f"{ROOT}/q")
    assert len(owner.stored()) == 7
    assert not {key for key in owner.stored() if "fifo" in key or "sock" in key}


@pytest.mark.parametrize(
    ("name", "fits", "on_windows"),
    [
        ("a.csv", True, True),
        ("a b/.hidden/c", True, True),
        ("console/x", True, True),
        ("../a", False, False),
        ("a\0", False, False),
        ("C:/a", True, False),
        ("C:a", True, False),
        ("a.csv:stream", True, False),
        ("x/..\\..\\..\\Startup\\evil.bat", True, False),
        ("a/nul.txt", True, False),
        ("a/NUL .txt", True, False),
        ("COM1/x", True, False),
        ("com²", True, False),
        ("CONIN$", True, False),
        ("a./b", True, False),
        ("what?", True, False),
    ],
)
def test_keys_that_are_no_names_of_files(name, fits, on_windows):
    """Windows has drives, backslashes and devices; get refuses what sync refuses."""
    places = [Destination("b/ok", "C:/t/ok"), Destination(f"b/{name}", f"C:/t/{name}")]
    for windows, is_valid in ((False, fits), (True, on_windows)):
        assert (local_name_problem(name, windows=windows) is None) == is_valid
        if is_valid:
            refuse_escapes(places, "C:/t/", windows=windows)
            continue
        with pytest.raises(ConfigurationError, match="get it alone") as caught:
            refuse_escapes(places, "C:/t/", windows=windows)
        assert len(caught.value.problems) == 1
