"""Paths as callers write them."""

from __future__ import annotations

import logging
import os
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import fsspec
import pytest

from fsspec_osspresigned import ConfigurationError, sync

ROOT = "examplebucket"


@pytest.mark.parametrize("front", ["/", "osspresigned:///", "oss://"])
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


def test_a_scheme_of_another_store_is_named(fs, owner):
    """It is no bucket, and nothing is sent."""
    words = "s3:// is no scheme here: write bucket/key"
    for call in (lambda path: fs.pipe_file(path, b"a"), fs.ls, fs.open):
        with pytest.raises(ConfigurationError, match=words):
            call(f"s3://{ROOT}/a")
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


_QUERY = "OSSAccessKeyId=LTAIx&Expires=1900000000&Signature=c2VjcmV0%3D"
_V4 = "x-oss-credential=c2VjcmV0&x-oss-signature=c2VjcmV0"
URL = f"https://{ROOT}.oss-cn-hangzhou.aliyuncs.com/a.csv?{_QUERY}"
VERBS = {
    "pipe_file": lambda fs, path, _: fs.pipe_file(path, b"x"),
    "pipe": lambda fs, path, _: fs.pipe({path: b"x"}),
    "open": lambda fs, path, _: fs.open(path, "wb"),
    "fsspec": lambda _, path, __: fsspec.open(f"osspresigned://{path}", "wb", signer="keys").open(),
    "touch": lambda fs, path, _: fs.touch(path),
    "put_file": lambda fs, path, local: fs.put_file(local, path),
    "put": lambda fs, path, local: fs.put(local, path),
    "put many": lambda fs, path, local: fs.put([local], [path]),
    "get": lambda fs, path, local: fs.get(path, f"{local}.got"),
    "cat": lambda fs, path, _: fs.cat(path),
    "ls": lambda fs, path, _: fs.ls(path),
    "glob": lambda fs, path, _: fs.glob(f"{path}*"),
    "exists": lambda fs, path, _: fs.exists(path),
    "cp to": lambda fs, path, _: fs.cp_file(f"{ROOT}/a", path),
    "mv": lambda fs, path, _: fs.mv(path, f"{ROOT}/b"),
    "rm": lambda fs, path, _: fs.rm(path),
    "sign": lambda fs, path, _: fs.sign(path),
    "sync": lambda fs, path, local: sync(os.path.dirname(local), path, filesystem=fs),
}  # fmt: skip


ALIKE = [
    URL.partition("?")[0],
    URL.replace("https://", "HTTP:/"),
    f"{ROOT}/a.csv?{_QUERY}",
    f"{ROOT}/a.csv?{_V4}",
]


@pytest.mark.parametrize(
    ("verb", "path"),
    [*((verb, URL) for verb in VERBS), *(("pipe_file", path) for path in ALIKE)],
)
def test_a_url_is_no_path(fs, owner, tmp_path, caplog, verb, path):
    """The error says to use ``presigned_url=``; nothing of the URL is shown or sent."""
    caplog.set_level(logging.DEBUG, "fsspec_osspresigned")
    (tmp_path / "local").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="as presigned_url=") as caught:
        VERBS[verb](fs, path, str(tmp_path / "local"))
    assert "c2VjcmV0" not in str(caught.value)
    assert ROOT not in str(caught.value)
    assert not [one for one in caplog.records if one.name != "asyncio"]
    assert not owner.oss.requests
