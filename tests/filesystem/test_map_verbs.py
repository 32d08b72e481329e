"""One URL map may grant every verb, and each for the paths that it names only."""

from __future__ import annotations

import json

import pytest

from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import (
    ExistenceNotVerifiedWarning,
    NotCoveredError,
    WrongRequestSignedError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action, Operation

ROOT = "examplebucket"


@pytest.fixture
def make(owner, tmp_path):
    """Write a map of these entries and return the filesystem of it."""

    def filesystem(entries):
        place = tmp_path / "urls.json"
        place.write_text(json.dumps({"version": 1, "objects": entries}))
        place.chmod(0o600)
        return OSSPresignedFileSystem(url_map=str(place))

    return filesystem


def lists(owner, prefix, **query):
    """Presign a listing."""
    query = {"list-type": "2", "prefix": prefix, "encoding-type": "url", **query}
    return owner.url("", "GET", query={n: v for n, v in query.items() if v})


def test_a_map_grants_every_verb(make, owner):
    """Reading, listing, copying and deleting, each by a URL of its own."""
    source = {"x-oss-copy-source": f"/{ROOT}/d/a"}
    fs = make(
        {
            f"{ROOT}/d/a": {
                "url": owner.url("d/a"),
                "head": owner.url("d/a", "HEAD"),
                "get": owner.url("d/a", "GET"),
                "delete": owner.url("d/a", "DELETE"),
            },
            f"{ROOT}/d/b": {
                "copy": {"url": owner.url("d/b", headers=source), "headers": source},
                "head": owner.url("d/b", "HEAD"),
                "get": owner.url("d/b", "GET"),
            },
            f"{ROOT}/d/": {"ls": lists(owner, "d/", delimiter="/")},
            f"{ROOT}/d/tree/": {"ls": lists(owner, "d/tree/")},
        }
    )
    fs.pipe_file(f"{ROOT}/d/a", b"12345")
    assert fs.info(f"{ROOT}/d/a")["size"] == 5
    assert fs.cat_file(f"{ROOT}/d/a", 1, 3) == b"23"
    with fs.open(f"{ROOT}/d/a") as file:
        assert file.read() == b"12345"
    fs.cp_file(f"{ROOT}/d/a", f"{ROOT}/d/b")
    assert fs.cat_file(f"{ROOT}/d/b") == b"12345"
    assert fs.ls(f"{ROOT}/d", detail=False) == [f"{ROOT}/d/a", f"{ROOT}/d/b"]
    assert fs.find(f"{ROOT}/d", maxdepth=1) == [f"{ROOT}/d/a", f"{ROOT}/d/b"]
    assert fs.glob(f"{ROOT}/d/*") == [f"{ROOT}/d/a", f"{ROOT}/d/b"]
    # The map signs no call that shows whether it is an object.
    with pytest.warns(ExistenceNotVerifiedWarning):
        assert fs.find(f"{ROOT}/d/tree") == []
    fs.rm_file(f"{ROOT}/d/a")
    assert owner.stored() == {"d/b": b"12345"}
    other = Operation(action=Action.DeleteObject, bucket=ROOT, key="d/b")
    with pytest.raises(NotCoveredError, match="no URL for it was provided"):
        run(fs.client.call, other)
    assert fs.sign(f"{ROOT}/d/b").startswith(owner.oss.url)


def test_a_listing_url_lists_just_what_it_was_signed_for(make, owner):
    """Another prefix, delimiter or page is no answer to the question."""
    fs = make(
        {
            f"{ROOT}/d/": {"ls": lists(owner, "d/", delimiter="/")},
            f"{ROOT}/d/x": owner.url("d/x"),
        }
    )
    fs.pipe_file(f"{ROOT}/d/x", b"x")
    owner.oss.clear()
    with pytest.warns(
        ExistenceNotVerifiedWarning, match="only objects that this process"
    ):
        assert fs.find(f"{ROOT}/d") == [f"{ROOT}/d/x"]  # from memory
    assert not owner.actions()
    wrong = make({f"{ROOT}/e/": {"ls": lists(owner, "d/", delimiter="/")}})
    with pytest.warns(ExistenceNotVerifiedWarning), pytest.raises(FileNotFoundError):
        wrong.ls(f"{ROOT}/e")


def test_a_listing_url_shows_one_page(make, owner, fs):
    """A listing of more than one page raises an error."""
    fs.pipe({f"{ROOT}/d/{n}": b"" for n in range(3)})
    url = lists(owner, "d/", delimiter="/", **{"max-keys": "2"})
    mapped = make({f"{ROOT}/d/": {"ls": url}})
    with pytest.raises(NotCoveredError, match="first page only"):
        mapped.ls(f"{ROOT}/d")


def test_the_root_of_a_bucket_may_be_listed(make, owner, fs):
    """Its entry is the bucket with a slash."""
    fs.pipe_file(f"{ROOT}/a", b"x")
    mapped = make({f"{ROOT}/": {"ls": lists(owner, "", delimiter="/")}})
    assert mapped.ls(ROOT, detail=False) == [f"{ROOT}/a"]


def test_a_path_beside_the_url_of_another_object(owner):
    """Nothing is stored under another name, unless the map is trusted."""
    options = {"url_map": {f"{ROOT}/a": owner.url("b")}}
    with pytest.raises(WrongRequestSignedError, match="names another object"):
        OSSPresignedFileSystem(**options).pipe_file(f"{ROOT}/a", b"x")
    assert not owner.stored()
    OSSPresignedFileSystem(**options, allow_path_mismatch=True).pipe_file(
        f"{ROOT}/a", b"x"
    )
    assert owner.stored() == {"b": b"x"}
