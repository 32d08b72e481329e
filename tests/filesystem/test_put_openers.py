"""Tools that close a file alike after success and failure, or append later."""

from __future__ import annotations

import warnings

import fsspec
import pytest

from fsspec_osspresigned.errors import ConfigurationError, DiscardWarning

ROOT = "osspresigned://examplebucket"
KEYS = {"signer": "keys"}
CACHED = {"osspresigned": KEYS}

caches = pytest.mark.parametrize("cache", ["simplecache", "filecache"])


class Boom(Exception):  # noqa: N818 - it stands for anything
    """The exception of a user's body."""


@pytest.mark.parametrize("mode", ["ab", "at", "ta", "w+b"])
@pytest.mark.parametrize("chain", ["", "simplecache::", "dir://b.csv::"])
def test_appending_is_refused_before_anything_is_written(fs, owner, chain, mode):
    """The library dask asks for its file that appends before it writes the first partition."""
    with pytest.raises(ValueError, match="cannot be changed in place"):
        fsspec.open(f"{chain}{ROOT}/a.csv", mode, **(CACHED if chain else KEYS))
    fs.makedirs("examplebucket/a")  # by the user
    assert owner.actions() == []


def test_zip_is_refused_for_writing(fs, owner):
    """It would publish after an exception, and its errors are lost; reading works."""
    url = f"zip://one.txt::{ROOT}/a.zip"
    with (
        pytest.raises(ConfigurationError, match=r"zipfile\.ZipFile") as caught,
        fsspec.open(url, "wb", zip={"mode": "w"}, osspresigned=KEYS),
    ):
        pass
    assert caught.value.filename == "examplebucket/a.zip"
    with pytest.raises(ConfigurationError):
        fsspec.filesystem(
            "zip", fo=f"{ROOT}/a.zip", mode="w", target_options={"signer": "keys"}
        )
    assert owner.actions() == []


def cached(cache, tmp_path, **options):
    """Open a file of a cache of this test's own."""
    place = {"cache_storage": str(tmp_path / "cache")}
    options = {"osspresigned": {**KEYS, **options}, cache: place}
    return fsspec.open(f"{cache}::{ROOT}/a.bin", "wb", **options)


@caches
def test_exception_in_the_block_of_a_cached_file(fs, owner, tmp_path, cache):
    """Nothing is put; the exception says so, with a warning at the user's line."""
    fs.pipe_file(f"{ROOT}/a.bin", b"older")
    with (
        pytest.warns(DiscardWarning, match=r"a\.bin was not published") as warned,
        pytest.raises(Boom) as caught,
        cached(cache, tmp_path) as file,
    ):
        file.write(b"half")
        raise Boom
    assert "a.bin was not published" in caught.value.__notes__[0]
    assert warned[0].filename == __file__
    assert owner.stored() == {"a.bin": b"older"}


@caches
def test_cached_file_that_is_closed_while_an_exception_passes(
    fs, owner, tmp_path, cache
):
    """Without a block, what is being handled counts; warnings may be errors."""
    file = cached(cache, tmp_path).open()

    def write():
        try:
            file.write(b"half")
            raise Boom
        finally:
            file.close()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(Boom):
            write()
    assert owner.stored() == {}


def test_several_cached_files(fs, owner, tmp_path):
    """They are put together, or not at all."""
    options = CACHED | {"simplecache": {"cache_storage": str(tmp_path / "cache")}}
    opened = fsspec.open_files(f"simplecache::{ROOT}/*.bin", "wb", num=2, **options)
    with (
        pytest.warns(DiscardWarning, match=r"0\.bin, examplebucket/1\.bin"),
        pytest.raises(Boom),
        opened as files,
    ):
        files[0].write(b"half")
        raise Boom
    for file in files:  # fsspec leaves them open
        file.discard()
    assert owner.stored() == {}
