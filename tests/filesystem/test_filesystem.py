"""Keys full of what other tools trip over arrive as they are, verified by signature."""

from __future__ import annotations

import contextlib
from inspect import Parameter, signature

import fsspec
import pytest
from fsspec.spec import AbstractFileSystem

from fsspec_osspresigned import OSSPresignedFileSystem
from fsspec_osspresigned.errors import ConfigurationError

BUCKET = "examplebucket"
ODD = [
    "with space",
    "per%20cent",
    "hash#mark",
    "question?x=1",
    "plus+plus",
    "ünïcode-日本-🦊",
    "star*",
    "brackets[1]",
    "and&and",
    "inner\\backslash",
    "co:lon",
    "double//slash",
    "dots...",
    "./dot/./segments",
    "up/../segments",
    "tilde~'()!",
    "{braces}|pipe^",
    "%2F%zz",
]


@pytest.mark.parametrize("key", ODD)
def test_every_way_to_write_keeps_an_odd_key(fs, owner, tmp_path, key):
    """Each verb stores, and reads back, under exactly the key that was given."""
    path = f"{BUCKET}/d/{key}"
    local = tmp_path / "local[1] file"
    local.write_bytes(b"local")
    everything = {f"d/{key}"}

    with fsspec.open(f"osspresigned://{path}", "wb", signer="keys") as file:
        file.write(b"1")
    assert owner.stored() == {f"d/{key}": b"1"}
    with fs.open(path, "wb") as file:
        file.write(b"2")
    assert fs.cat_file(path) == b"2"
    fs.pipe({path: b"3"})
    assert fs.cat_file(f"osspresigned://{path}") == b"3"
    fs.put_file(local, path)
    assert fs.open(path).read() == b"local"
    fs.pipe(path, b"4")
    fs.put(str(local), path)
    fs.put([str(local)], [path])
    assert fs.cat_file(path, 1, 3) == b"oc"
    assert fs.find(BUCKET) == [path]
    assert fs.info(path)["size"] == fs.size(path) == 5
    assert fs.isfile(path)
    fs.get_file(path, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"local"
    assert set(owner.stored()) == everything
    fs.rm_file(path)
    assert not owner.stored()


def test_a_double_colon_is_refused_where_fsspec_would_chain(environment, owner):
    """Fsspec cuts such a path in two: that must not become an object of another name."""
    options = {"signer": "keys"}
    with pytest.raises(ConfigurationError, match=r"'::' in a path .* fs\.open"):
        fsspec.open(f"osspresigned://{BUCKET}/a::file://b", "wb", **options)
    assert not owner.stored()


@pytest.mark.parametrize("key", ["/leading", "\\leading"])
def test_a_key_that_oss_refuses_is_refused_before_the_first_byte(fs, owner, key):
    """A key that OSS does not accept raises an error that says so."""
    with pytest.raises(ConfigurationError):
        fs.pipe(f"{BUCKET}/{key}", b"x")
    with contextlib.suppress(ConfigurationError):
        fs.exists(f"{BUCKET}/{key}")
    assert not owner.actions()


@pytest.mark.parametrize(
    "verb", ["find", "copy", "mv", "rm", "cat", "get", "put", "info", "ls", "glob"]
)
def test_arguments_come_in_the_order_of_fsspec(verb):
    """Parameters of fsspec can be passed by position."""
    declared = getattr(AbstractFileSystem, verb)
    theirs = [
        name
        for name, one in signature(declared).parameters.items()
        if one.kind is Parameter.POSITIONAL_OR_KEYWORD
    ]
    ours = list(signature(getattr(OSSPresignedFileSystem, verb)).parameters)
    assert ours[: len(theirs)] == theirs
