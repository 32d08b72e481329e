"""The SDK of Model Studio and this filesystem, at one server of policies of the tests.

That the SDK, unchanged, uploads by that server shows that the server is like the real one.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import partial

import fsspec
import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import Outcome, SignerError, TooLargeError
from tests.contract.interop.conftest import BUCKET, Lazy, kill_during, library
from tests.contract.interop.table import UPLOAD_CLIENTS, UPLOAD_SERVERS
from tests.upload_servers import DashScope

oss_utils = Lazy("dashscope.utils.oss_utils")
sdk_errors = Lazy("dashscope.common.error")

KEY = "sk-CANARYdashscope"
MODEL = "qwen-vl-plus"
URL = re.compile(rf"oss://(dashscope-instant/{MODEL}/[0-9a-f-]{{36}}/photo ü\.jpg)")
UPLOAD = """
import fsspec, json, sys
options, source = json.loads(sys.argv[1])
print(fsspec.filesystem("osspresigned", **options).put_file(source, "a/b").location)
"""
deletes = pytest.mark.filterwarnings("ignore:.*Model Studio deletes")
# Marks a test as a cell of docs/interop.md.
row = partial(pytest.mark.interop, UPLOAD_CLIENTS, "dashscope")
serves = partial(
    pytest.mark.interop, UPLOAD_SERVERS, "server of our tests for Model Studio"
)


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


def filesystem(server, key=KEY, **options):
    """Return this filesystem at *server*."""
    upload_server = {
        "upload_server": f"dashscope+{server.url}",
        "upload_server_options": {"model": MODEL},
    }
    options = {"signer_token": lambda: key, "retries": 0, **options}
    return fsspec.filesystem("osspresigned", **upload_server, **options)


def by_filesystem(server, path, key=KEY):
    """Upload by this filesystem; return the URL for the model."""
    return filesystem(server, key).put_file(path, f"files/{path.name}").location


@row("small files", "one form")
@deletes
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
        # The SDK's error shows its key, so the filesystem gets another one.
        by_sdk(photo, "sk-of-somebody")
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
@deletes
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


def key_of(url):
    """Return the key of the object that a model reads by *url*."""
    return url.removeprefix("oss://")


@serves("small files", "one form each, one policy for many")
@deletes
def test_small_files(oss, server):
    """Each file is one form; a policy that is valid serves all of them."""
    data = {f"files/{n}/a.txt": b"x" * n for n in range(1, 41)}
    receipts = filesystem(server).pipe(data)
    stored = {r.path: oss.objects(BUCKET)[key_of(r.location)] for r in receipts}
    assert stored == data
    assert len(oss.objects(BUCKET)) == 40
    assert server.calls == ["GET /api/v1/uploads"]


@serves("expired URL", "a new policy")
@deletes
def test_expired_policy(oss, server, photo):
    """A policy that ends on the way to the store is replaced by another one."""
    oss.faults.add(Fault(action="PostObject", refuse="expired", times=1))
    url = by_filesystem(server, photo)
    assert oss.objects(BUCKET) == {key_of(url): b"picture"}
    assert server.calls == ["GET /api/v1/uploads"] * 2


@serves("killed client", "nothing is stored; the second run stores it")
def test_killed_client(oss, server, tmp_path, monkeypatch):
    """Half a form is no object; the second run of the same program stores the file."""
    source = tmp_path / "large"
    source.write_bytes(bytes(2**20) * 20)
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    oss.faults.add(Fault(action="PostObject", stall_after=100_000))
    upload_server = {
        "upload_server": f"dashscope+{server.url}",
        "upload_server_options": {"model": MODEL},
    }
    command = [sys.executable, "-W", "ignore", "-c", UPLOAD]
    command.append(json.dumps([upload_server, str(source)]))
    kill_during(command, lambda: oss.held)
    oss.faults.clear()
    assert oss.objects(BUCKET) == {}
    url = subprocess.check_output(command, text=True).strip()
    assert oss.objects(BUCKET) == {key_of(url): source.read_bytes()}


@serves("lost last reply", "unknown")
@pytest.mark.parametrize("retries", [0, 2])
def test_lost_reply(oss, server, photo, retries):
    """Without permission to look, the outcome is unknown, and the form is sent once."""
    oss.faults.add(Fault(action="PostObject", drop_reply=True, times=1))
    with pytest.raises(OSError, match=r"unknown|connection") as caught:
        filesystem(server, retries=retries).put_file(photo, "files/photo.jpg")
    assert caught.value.outcome is Outcome.UNKNOWN
    assert list(oss.objects(BUCKET).values()) == [b"picture"]
