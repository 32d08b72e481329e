"""Paths as callers write them."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import fsspec
import pytest

ROOT = "examplebucket"


def test_paths_lose_their_protocol_one_or_many(fs):
    """Fsspec strips single paths and lists alike."""
    paths = [f"osspresigned://{ROOT}/a/", f"{ROOT}/b"]
    assert fs._strip_protocol(paths) == [f"{ROOT}/a", f"{ROOT}/b"]


@pytest.mark.parametrize("front", ["/", "osspresigned:///"])
def test_a_leading_slash_means_nothing(fs, owner, tmp_path, front):
    """Other filesystems take and return such names; ours are always without."""
    root = f"{front}{ROOT}"
    fs.pipe_file(f"{root}/d/a", b"a")
    with fs.open(f"{root}/d/b", "wb") as file:
        file.write(b"b")
    (tmp_path / "c").write_bytes(b"c")
    fs.put(str(tmp_path / "c"), f"{root}/d/")
    fs.cp(f"{root}/d/a", f"{root}/d/e")
    names = [f"{ROOT}/d/{key}" for key in "abce"]
    assert [ROOT + "/" + key for key in sorted(owner.stored())] == names
    assert fs.find(f"{root}/d") == fs.glob(f"{root}/d/*") == names
    assert fs.ls(f"{root}/d", detail=False) == names
    assert fs.info(f"{root}/d/a")["name"] == names[0]
    assert fs.cat([f"{root}/d/a", names[1]]) == {names[0]: b"a", names[1]: b"b"}
    assert fs.cat_file(f"{root}/d/a") == fs.cat(f"{root}/d/a") == b"a"
    fs.get(f"{root}/d/", str(tmp_path / "got"), recursive=True)
    assert sorted(os.listdir(tmp_path / "got")) == ["a", "b", "c", "e"]
    fs.rm(f"{root}/d", recursive=True)
    assert not owner.stored()


def test_a_catalogue_that_drops_the_host_of_a_url(fs, owner, environment):
    """Kedro keeps the path of a URL: with three slashes the bucket is part of it."""
    path = PurePosixPath(urlsplit(f"osspresigned:///{ROOT}/k/a.csv").path)
    for version in ("2026-01-01", "2026-01-02"):
        place = path / version / path.name
        assert not fs.exists(str(place))
        with fsspec.open(f"osspresigned://{place}", "w", signer="keys") as file:
            file.write(version)
        fs.invalidate_cache(str(path))
    found = max(fs.glob(str(path / "*" / path.name)))
    assert fs.exists(found)
    assert PurePosixPath(found).parent.name == "2026-01-02"
    assert fs.cat_file(found) == b"2026-01-02"
    assert set(owner.stored()) == {f"k/a.csv/2026-01-0{n}/a.csv" for n in (1, 2)}
