"""An upload that must fail is refused before the first byte."""

from __future__ import annotations

import json
import time

import pytest

from fsspec_osspresigned.client.operations import OSSCalls
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.signing import PresignRequest

BUCKET = "examplebucket"
TYPED = {"Content-Type": "text/csv"}


@pytest.fixture
def filesystem_of(tmp_path):
    """Return a maker of filesystems for one map entry of ``examplebucket/a``."""

    def make(entry, **options):
        place = tmp_path / "urls.json"
        place.write_text(json.dumps({f"{BUCKET}/a": entry}))
        place.chmod(0o600)
        return OSSPresignedFileSystem(url_map=str(place), **options)

    return make


@pytest.fixture
def owners_upload(oss, owner):
    """Return the entry of a multipart upload that its owner has initiated."""

    def make(**more):
        fs = OSSPresignedFileSystem(signer="keys")
        target = Target(path=f"{BUCKET}/a")
        upload_id, _ = run(OSSCalls(fs.client, target).initiate)
        oss.clear()
        part = {"partNumber": "1", "uploadId": upload_id}
        return {
            "upload_id": upload_id,
            "part_size": 100 * 1024,
            "parts": [owner.url("a", query=part)],
            "complete": {
                "url": owner.url("a", "POST", query={"uploadId": upload_id}),
                "headers": {},
            },
            **more,
        }

    return make


def test_stream_with_a_header_that_is_not_signed(filesystem_of, owner):
    """A conflict with the map's headers is an error at open, not at close."""
    fs = filesystem_of({"url": owner.url("a", headers=TYPED), "headers": TYPED})
    with pytest.raises(NotCoveredError, match="Content-Type"):
        fs.open(f"{BUCKET}/a", "wb", content_type="text/plain")
    with fs.open(f"{BUCKET}/a", "wb", content_type="text/csv") as file:
        file.write(b"x")
    assert owner.stored() == {"a": b"x"}
    assert len(owner.actions()) == 1


def test_url_demands_a_header_that_nobody_gives(filesystem_of, owner, oss, monkeypatch):
    """A V4 URL names its additional headers; without them OSS would answer 400."""
    url = (
        PresignRequest(
            oss.credentials,
            oss.endpoint,
            method="PUT",
            bucket=BUCKET,
            key="a",
            headers={"Content-Disposition": "inline"},
            additional_headers=("content-disposition",),
            region="cn-hangzhou",
            now=time.time(),
            expires_in=600,
        )
        .url()
        .reveal()
    )
    monkeypatch.setenv("UPLOAD_URL", url)
    for fs in (OSSPresignedFileSystem(url="env:UPLOAD_URL"), filesystem_of(url)):
        with pytest.raises(
            NotCoveredError, match="content-disposition, which is not given"
        ):
            fs.open(f"{BUCKET}/a", "wb")
        with pytest.raises(
            NotCoveredError, match="content-disposition, which is not given"
        ):
            fs.pipe_file(f"{BUCKET}/a", b"x")
    assert owner.actions() == []
    given = {"headers": {"Content-Disposition": "inline"}}
    fs.pipe_file(f"{BUCKET}/a", b"x", **given)
    assert owner.stored() == {"a": b"x"}


def test_end_of_an_owners_upload_is_checked_first(
    filesystem_of, owners_upload, owner, monkeypatch
):
    """Before parts are sent it is known that Complete will take the headers."""
    entry = owners_upload()
    fs = filesystem_of(entry)
    private = {"headers": {"x-oss-object-acl": "private"}}
    with pytest.raises(NotCoveredError, match="CompleteMultipartUpload"):
        fs.pipe_file(f"{BUCKET}/a", bytes(1000), **private)
    with pytest.raises(NotCoveredError, match="CompleteMultipartUpload"):
        fs.open(f"{BUCKET}/a", "wb", **private)
    assert owner.actions() == []
    with fs.open(f"{BUCKET}/a", "wb") as file:
        file.write(b"x")
    assert owner.stored() == {"a": b"x"}
