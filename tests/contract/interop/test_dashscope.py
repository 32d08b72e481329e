"""The SDK of Model Studio and this filesystem, at one server of policies of the tests.

That the SDK, unchanged, uploads by that server shows that the server is like the real one.
"""

from __future__ import annotations

import re

import fsspec
import pytest

from fsspec_osspresigned.errors import SignerError, TooLargeError
from tests.contract.interop.conftest import BUCKET, Lazy, library
from tests.contract.interop.table import UPLOAD_CLIENTS
from tests.upload_servers import DashScope

oss_utils = Lazy("dashscope.utils.oss_utils")
sdk_errors = Lazy("dashscope.common.error")

KEY = "sk-CANARYdashscope"
MODEL = "qwen-vl-plus"
URL = re.compile(rf"oss://(dashscope-instant/{MODEL}/[0-9a-f-]{{36}}/photo ü\.jpg)")


@pytest.fixture
def server(oss, monkeypatch):
    """A server of policies, which the SDK takes for that of Model Studio."""
    with DashScope(oss) as server:
        monkeypatch.setattr(
            library("dashscope"), "base_http_api_url", f"{server.url}/api/v1"
        )
        yield server


@pytest.fixture
def photo(tmp_path):
    """A file to upload."""
    path = tmp_path / "photo ü.jpg"
    path.write_bytes(b"picture")
    return path


def by_sdk(path, key=KEY, **options):
    """Upload by the SDK; return the URL for the model, and the policy."""
    return oss_utils.OssUtils.upload(MODEL, str(path), key, **options)


def by_filesystem(server, path, key=KEY):
    """Upload by this filesystem; return the URL for the model."""
    fs = fsspec.filesystem(
        "osspresigned",
        broker=f"dashscope+{server.url}",
        broker_options={"model": MODEL},
        signer_token=lambda: key,
        retries=0,
    )
    return fs.put_file(path, f"files/{path.name}").location


def row(what, note=""):
    """Give a test a cell of docs/interop.md."""
    return pytest.mark.interop(UPLOAD_CLIENTS, "dashscope", what, note=note)


@row("small files", "one form")
@pytest.mark.filterwarnings("ignore:Model Studio deletes")
def test_same_upload(oss, server, photo):
    """Both ask for the same policy, and store the same object with the same headers."""
    stored = []
    for url in (by_sdk(photo)[0], by_filesystem(server, photo)):
        key = URL.fullmatch(url)[1]
        assert oss.objects(BUCKET)[key] == b"picture"
        stored.append(oss.store.buckets[BUCKET].objects[key].headers["content-type"])
    assert stored == ["image/jpeg"] * 2
    assert server.calls == ["GET /api/v1/uploads"] * 2
    assert [r.status for r in oss.requests if r.action == "PostObject"] == [200] * 2


@row("refusals")
def test_refusals(oss, server, photo):
    """Both report a wrong key, a busy server, and a file that is too large."""
    upload_error = sdk_errors.UploadFileException
    with pytest.raises(upload_error, match="wrong"):
        by_sdk(photo, "sk-CANARYwrong")
    with pytest.raises(SignerError, match="HTTP 401"):
        by_filesystem(server, photo, "sk-CANARYwrong")
    busy = {"code": "Throttling.RateQuota", "message": "too many requests"}
    server.refuse("uploads", 429, times=9, document=busy)
    with pytest.raises(upload_error, match="too many requests"):
        by_sdk(photo)
    with pytest.raises(SignerError, match="too many requests"):
        by_filesystem(server, photo)
    server.refused.clear()
    server.largest_mb = 1
    photo.write_bytes(bytes(2**20 + 1))
    with pytest.raises(upload_error, match="EntityTooLarge"):
        by_sdk(photo)
    with pytest.raises(TooLargeError, match="at most 1048576 bytes"):
        by_filesystem(server, photo)
    assert oss.objects(BUCKET) == {}


@row("one policy for several files")
@pytest.mark.filterwarnings("ignore:Model Studio deletes")
def test_same_name(oss, server, photo):
    """A policy stores other files, and does not replace what it has stored."""
    url, policy = by_sdk(photo)
    with pytest.raises(sdk_errors.UploadFileException, match="FileAlreadyExists"):
        by_sdk(photo, upload_certificate=policy)
    other = photo.with_name("other.jpg")
    other.write_bytes(b"another")
    again, _ = by_sdk(other, upload_certificate=policy)
    assert url.rpartition("/")[0] == again.rpartition("/")[0]
    assert sorted(oss.objects(BUCKET).values()) == [b"another", b"picture"]
