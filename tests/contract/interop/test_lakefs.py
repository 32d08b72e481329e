"""Clients of lakeFS and this filesystem, at one server of the tests.

That the clients, unchanged, upload by that server shows that it is like the real one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial

import fsspec
import pytest
import requests

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import OutcomeUnknownError
from tests.contract.interop.conftest import BUCKET, Lazy, kill_during
from tests.contract.interop.table import UPLOAD_CLIENTS, UPLOAD_SERVERS
from tests.upload_servers import LakeFS, basic

lakefs_sdk = Lazy("lakefs_sdk")
lakefs_spec = Lazy("lakefs_spec")

SECRET = "CANARYsecretOfLakeFS"
PART = 5 * 1024 * 1024
LARGE = memoryview(os.urandom(PART + 12_345))
LINK = "PUT /api/v1/repositories/repo/branches/main/staging/backing"
FINISH = "PUT /api/v1/repositories/repo/branches/main/staging/pmpu/"
UPLOAD = """
import fsspec, json, sys
options, source, path = json.loads(sys.argv[1])
fsspec.filesystem("osspresigned", **options).put_file(source, path)
"""
# Marks a test as a cell of docs/interop.md.
row = partial(pytest.mark.interop, UPLOAD_CLIENTS)
serves = partial(pytest.mark.interop, UPLOAD_SERVERS, "server of our tests for lakeFS")


@pytest.fixture
def server(oss):
    """A server that wants an access key and its secret."""
    with LakeFS(oss) as server:
        server.token = basic(f"key:{SECRET}")
        yield server


@pytest.fixture
def sdk(server):
    """The client that is generated from the description of the API."""
    settings = lakefs_sdk.Configuration(
        host=f"{server.url}/api/v1", username="key", password=SECRET
    )
    with lakefs_sdk.ApiClient(settings) as client:
        yield client


@pytest.fixture
def spec(server):
    """The filesystem of lakefs-spec, with presigned URLs."""
    return lakefs_spec.LakeFSFileSystem(
        host=server.url,
        username="key",
        password=SECRET,
        create_branch_ok=False,
        pre_sign=True,
        skip_instance_cache=True,
    )


@pytest.fixture
def options(server, monkeypatch):
    """Options of this filesystem, also for child processes."""
    monkeypatch.setenv("OSSPRESIGNED_LAKEFS", f"key:{SECRET}")
    upload_server = {
        "upload_server": f"lakefs+{server.url}",
        "signer_token": "env:OSSPRESIGNED_LAKEFS",
    }
    return {**upload_server, "part_size": PART, "retries": 0, "max_concurrency": 1}


@pytest.fixture
def fs(options):
    """This filesystem, without retries."""
    return fsspec.filesystem("osspresigned", **options)


def steps(server):
    """Return the calls on uploads, without the IDs in them."""
    calls = [call for call in server.calls if "/staging/" in call]
    server.calls.clear()
    return [re.sub(r"/pmpu/[^/]+", "/pmpu/ID", call) for call in calls]


def linked(oss, server, path):
    """Return the bytes that are visible at *path*, and what the last call has said."""
    key, about = server.linked[path]
    return oss.objects(BUCKET)[key], about


@row("lakefs-spec", "small files")
def test_link(oss, server, spec, fs):
    """Both store the same bytes by one PUT, and link them by the same calls."""
    with spec.open("repo/main/a b/spec", "wb") as file:
        file.write(b"same")
    calls = steps(server)
    fs.pipe_file("repo/main/a b/ours", b"same")
    assert steps(server) == calls
    data, theirs = linked(oss, server, "repo/main/a b/spec")
    same, ours = linked(oss, server, "repo/main/a b/ours")
    assert data == same == b"same"
    assert theirs["checksum"].lower() == ours["checksum"].lower()
    assert theirs["size_bytes"] == ours["size_bytes"] == 4


@row("lakefs-spec", "create only")
def test_create_only(oss, server, spec, fs):
    """Neither client replaces an existing object, and each sees the other's objects."""
    with spec.open("repo/main/a", "xb") as file:
        file.write(b"old")
    with pytest.raises(FileExistsError):
        fs.pipe_file("repo/main/a", b"new", overwrite=False)
    fs.pipe_file("repo/main/b", b"old", overwrite=False)
    with pytest.raises(FileExistsError), spec.open("repo/main/b", "xb") as file:
        file.write(b"new")
    for name in ("a", "b"):
        assert linked(oss, server, f"repo/main/{name}")[0] == b"old"


def put(url, data):
    """Send one part; return its ETag."""
    reply = requests.put(url, bytes(data), timeout=30)
    reply.raise_for_status()
    return reply.headers["ETag"]


@row("lakefs-sdk", "parts")
@serves("parts")
def test_parts(oss, server, sdk, fs):
    """The calls of an upload in parts are those of the API, and so are the replies."""
    api = lakefs_sdk.ExperimentalApi(sdk)
    place = ("repo", "main")
    upload = api.create_presign_multipart_upload(*place, "sdk/a")
    address = lakefs_sdk.UploadPartFrom(physical_address=upload.physical_address)
    parts = []
    for number, begin in enumerate(range(0, len(LARGE), PART), 1):
        target = api.upload_part(*place, upload.upload_id, "sdk/a", number, address)
        etag = put(target.presigned_url, LARGE[begin : begin + PART])
        parts.append(lakefs_sdk.UploadPart(part_number=number, etag=etag))
    whole = lakefs_sdk.CompletePresignMultipartUpload(
        physical_address=upload.physical_address,
        parts=parts,
        content_type="application/octet-stream",
    )
    api.complete_presign_multipart_upload(*place, upload.upload_id, "sdk/a", whole)
    calls = steps(server)
    fs.pipe_file("repo/main/sdk/b", LARGE)
    assert sorted(steps(server)) == sorted(calls)
    theirs, ours = (linked(oss, server, f"repo/main/sdk/{name}") for name in "ab")
    assert theirs[0] == ours[0] == LARGE
    assert theirs[1].keys() == ours[1].keys()
    assert theirs[1]["parts"] == ours[1]["parts"]


@row("lakefs-sdk", "abort")
@serves("abort")
def test_abort(oss, server, sdk, fs):
    """Both remove the parts by the same call."""
    api = lakefs_sdk.ExperimentalApi(sdk)
    place = ("repo", "main")
    upload = api.create_presign_multipart_upload(*place, "a", parts=2)
    put(upload.presigned_urls[0], LARGE[:PART])
    address = upload.physical_address
    given = lakefs_sdk.AbortPresignMultipartUpload(physical_address=address)
    api.abort_presign_multipart_upload(*place, upload.upload_id, "a", given)
    assert oss.uploads(BUCKET) == []
    last = steps(server)[-1]
    with pytest.raises(ZeroDivisionError), fs.open("repo/main/a", "wb") as file:
        file.write(LARGE)
        raise ZeroDivisionError
    assert oss.uploads(BUCKET) == []
    assert last in steps(server)  # it may overtake a request for URLs


@serves("small files", "one PUT and one link each")
def test_small_files(oss, server, fs):
    """Each file is linked once, with its bytes."""
    data = {f"repo/main/small/ü +{n} (1).csv": b"x" * n for n in range(1, 41)}
    receipts = fs.pipe(data)
    assert [receipt.location for receipt in receipts] == [f"lakefs://{p}" for p in data]
    assert {path: linked(oss, server, path)[0] for path in server.linked} == data
    assert server.calls.count(LINK) == 40


@serves("expired URL", "a part: signed again")
def test_expired_url(oss, server, fs):
    """URLs that expire while an earlier part is sent are asked for again."""
    server.life = 2
    oss.faults.add(Fault(action="UploadPart", part_number=1, delay=3, times=1))
    receipt = fs.pipe_file("repo/main/a", LARGE)
    assert linked(oss, server, "repo/main/a")[0] == LARGE
    assert receipt.verified == "crc64"


@serves("killed client", "starts over; its parts stay in the store")
def test_killed_client(oss, server, options, tmp_path):
    """Nothing is visible; the second run of the same program stores the file whole."""
    source = tmp_path / "large"
    source.write_bytes(LARGE)
    oss.faults.add(Fault(action="UploadPart", part_number=2, stall_after=1000))
    given = json.dumps([options, str(source), "repo/main/a"])
    command = [sys.executable, "-c", UPLOAD, given]
    kill_during(command, lambda: any(upload.parts for upload in oss.uploads(BUCKET)))
    oss.faults.clear()
    assert server.linked == {}
    subprocess.run(command, check=True)
    assert linked(oss, server, "repo/main/a")[0] == LARGE
    assert len(oss.uploads(BUCKET)) == 1  # the server has no call that lists it


@serves("lost last reply", "a link: repeated; of parts: unknown")
def test_lost_link(oss, server, options):
    """To link the same address once more does no harm."""
    server.lose(LINK)
    fsspec.filesystem("osspresigned", **{**options, "retries": 1}).pipe_file(
        "repo/main/a", b"1"
    )
    assert server.calls.count(LINK) == 2
    assert linked(oss, server, "repo/main/a")[0] == b"1"


@pytest.mark.parametrize("retries", [0, 2])
def test_lost_end_of_parts(oss, server, options, retries):
    """The server does not know a finished upload, so no outcome is claimed."""
    server.lose(re.compile(rf"{FINISH}[^/]+$"))
    fs = fsspec.filesystem("osspresigned", **{**options, "retries": retries})
    with pytest.raises(OutcomeUnknownError):
        fs.pipe_file("repo/main/a", LARGE)
    assert linked(oss, server, "repo/main/a")[0] == LARGE
    fs.pipe_file("repo/main/a", LARGE)
    assert linked(oss, server, "repo/main/a")[0] == LARGE
