"""Paths of universal_pathlib: registered, keys untouched, and nothing lost by them."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from upath import UPath

from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem.upath import OSSPresignedPath
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.signers.keys import KeySigner


class Writes:
    """Signs with the owner's keys, but writing only."""

    remote = False

    def __init__(self, keys: KeySigner) -> None:
        self._keys = keys

    def sign(self, operations):
        """Sign, or refuse as a policy does."""
        if any(one.action is not Action.PutObject for one in operations):
            msg = "not granted"
            raise NotCoveredError(msg)
        return self._keys.sign(operations)


@pytest.fixture
def root(oss):
    """A folder in the bucket, for who may do everything."""
    return UPath("osspresigned://examplebucket/data", signer="keys")


def test_class_is_found_by_its_entry_point():
    """The library finds the class, and does not warn of a protocol it cannot know."""
    (found,) = entry_points(
        group="universal_pathlib.implementations", name="osspresigned"
    )
    assert found.load() is OSSPresignedPath
    program = (
        "from upath import UPath; "
        "print(type(UPath('osspresigned://b/k', url_map={})).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "OSSPresignedPath\n"


def test_a_directory_is_made_once(root):
    """As paths on a disk: a second time only if that is no matter."""
    folder = root / "d"
    folder.mkdir()
    (folder / "a").touch()
    for place in (folder, folder / "a"):
        with pytest.raises(FileExistsError):
            place.mkdir()
        with pytest.raises(FileExistsError):
            place.mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    "name", ["a b", "a#1", "a?x=1", "%20", "a+b", "\N{GREEK SMALL LETTER OMEGA}", "a:b"]
)
def test_odd_keys_arrive_as_they_are(root, oss, name):
    """Characters with a meaning in URLs have none in a path."""
    (root / name).write_bytes(b"x")
    assert set(oss.objects("examplebucket")) == {f"data/{name}"}


def test_touch_keeps_what_is_there(root, oss):
    """An existing object stays, also with write-only permission."""
    (root / "there").write_bytes(b"abc")
    (root / "there").touch()
    with pytest.raises(FileExistsError):
        (root / "there").touch(exist_ok=False)
    writes = Writes(KeySigner.from_options())
    blind = UPath("osspresigned://examplebucket/data", signer=writes)
    with pytest.warns(match="reported as missing"):
        assert not (blind / "there").exists()
    (blind / "there").touch()
    (blind / "new").touch(exist_ok=False)
    stored = oss.objects("examplebucket")
    assert bytes(stored["data/there"]) == b"abc"
    assert bytes(stored["data/new"]) == b""
