"""One grant file, and nothing else: every verb that stores objects works by it."""

from __future__ import annotations

import json
import os

import pytest

from fsspec_osspresigned.errors import (
    NotCoveredError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from tests.form_signer import grant_of

BUCKET = "examplebucket"
ROOT = f"{BUCKET}/in"
DATA = os.urandom(50_000)


@pytest.fixture
def grant(oss, tmp_path, monkeypatch):
    """Write a grant for ``in/``, and forget the keys; return what makes another one."""
    place = tmp_path / "grant.json"

    def make(**how):
        place.write_text(json.dumps(grant_of(oss, BUCKET, "in/", **how)))
        place.chmod(0o600)
        return str(place)

    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    make()
    return make


@pytest.fixture
def fs(grant):
    """A filesystem by the grant."""
    return OSSPresignedFileSystem(grant=grant(), skip_instance_cache=True)


@pytest.mark.parametrize(
    "verb",
    [
        lambda fs: fs.cat_file(f"{ROOT}/a"),
        lambda fs: fs.rm_file(f"{ROOT}/a"),
        lambda fs: fs.ls(f"{ROOT}/"),
        lambda fs: fs.cp_file(f"{ROOT}/a", f"{ROOT}/b"),
    ],
    ids=["cat", "rm", "ls", "cp"],
)
def test_a_grant_stores_and_does_nothing_else(oss, grant, verb):
    """Other verbs are refused, and nothing is sent."""
    fs = OSSPresignedFileSystem(
        grant=grant(), if_unverifiable="error", skip_instance_cache=True
    )
    with pytest.raises(NotCoveredError, match="is not granted"):
        verb(fs)
    assert not oss.requests


@pytest.mark.parametrize(
    ("path", "how", "words"),
    [
        (f"{BUCKET}/out/a", {}, "starts-with"),
        ("otherbucket/in/a", {}, "otherbucket|examplebucket"),
        (f"{ROOT}/a", {"sizes": (0, 9)}, "content-length-range"),
        (f"{ROOT}/a", {"sizes": (10**6, 10**7)}, "content-length-range"),
        (f"{ROOT}/a", {"content_types": ["image/png"], "kind": "text/csv"}, "type"),
    ],
)
def test_what_the_grant_does_not_allow(oss, grant, path, how, words):
    """It is refused with the condition, before any byte, for values and for streams."""
    kind = how.pop("kind", None)
    fs = OSSPresignedFileSystem(grant=grant(**how), skip_instance_cache=True)
    with pytest.raises(NotCoveredError, match=words):
        fs.pipe_file(path, DATA, content_type=kind)
    with (
        pytest.raises(NotCoveredError, match=words),
        fs.open(path, "wb", content_type=kind) as file,
    ):
        file.write(DATA)
    assert not oss.requests
