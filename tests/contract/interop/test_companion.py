"""Uploads through Companion of Uppy, unchanged, in front of a store that verifies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial

import fsspec
import pytest

from fsspec_osspresigned.errors import NotCoveredError, OutcomeUnknownError
from tests.contract.interop.conftest import BUCKET, made
from tests.contract.interop.table import UPLOAD_SERVERS

MIB = 1024 * 1024
PART = 5 * MIB  # the smallest of S3
LARGE = memoryview(os.urandom(2 * PART + 12_345))
# Ends by itself, as if killed, when two of the parts are stored.
KILLED = """
import json, os, signal, sys
import fsspec

class Kill(fsspec.Callback):
    def call(self, *_, **__):
        if self.value >= 2 * 5 * 1024 * 1024:
            os.kill(os.getpid(), signal.SIGKILL)

options, source, path = json.loads(sys.argv[1])
fs = fsspec.filesystem("osspresigned", **options)
fs.put_file(source, path, callback=Kill())
"""
# Marks a test as a cell of docs/interop.md.
row = partial(pytest.mark.interop, UPLOAD_SERVERS, "@uppy/companion, seaweedfs")


@pytest.fixture(scope="module")
def store(seaweedfs):
    """boto3 as the owner of the store."""
    return made(seaweedfs, "S3RVER", "s3v4")


@pytest.fixture
def companion(node_server, seaweedfs, tmp_path):
    """Start Companion; return the options of a filesystem that uploads through it."""

    def start(expires=800, checksums="WHEN_REQUIRED", **faults):
        s3 = {
            "key": "S3RVER",
            "secret": "S3RVER",
            "bucket": BUCKET,
            "region": "us-east-1",
            "endpoint": seaweedfs,
            "forcePathStyle": True,
            "expires": expires,
            "awsClientOptions": {"requestChecksumCalculation": checksums},
        }
        place = {"folder": str(tmp_path), "s3": s3}
        url = node_server("companion.mjs", "@uppy/companion", **place, **faults)
        return {"upload_server": f"companion+{url}", "part_size": PART, "retries": 3}

    return start


def filesystem(options, **more):
    """Return a filesystem that shares nothing with others."""
    return fsspec.filesystem(
        "osspresigned", **{**options, **more, "skip_instance_cache": True}
    )


def content(store, key):
    """Return the bytes of an object."""
    return store.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def keys(store, path):
    """Return the keys that Companion has given to objects at *path*."""
    listed = store.list_objects_v2(Bucket=BUCKET).get("Contents", ())
    return [o["Key"] for o in listed if o["Key"].endswith(f"-{path}")]


def open_uploads(store, path):
    """Return the IDs of the uploads of *path* that are neither completed nor aborted."""
    listed = store.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
    return [u["UploadId"] for u in listed if u["Key"].endswith(f"-{path}")]


@row("small files", "one form each")
def test_small_files(store, companion):
    """Each file is one form, and has a key of its own with its name and type."""
    fs = filesystem(companion())
    data = {f"small/ü +{n} (1).csv": b"x" * n for n in range(60)}
    receipts = fs.pipe(data)
    assert len({receipt.location for receipt in receipts}) == 60
    for receipt in receipts:
        name = re.escape(receipt.path)
        assert re.fullmatch(rf"[0-9a-f-]{{36}}-{name}", receipt.location)
        assert content(store, receipt.location) == data[receipt.path]
        assert fs.url(receipt.path) == receipt.location
    head = store.head_object(Bucket=BUCKET, Key=receipts[0].location)
    assert head["ContentType"] == "text/csv"


@row("parts", "with WHEN_REQUIRED, see below")
def test_parts(store, companion, tmp_path):
    """A file and a stream are stored whole, and each part is compared by its MD5."""
    (tmp_path / "large").write_bytes(LARGE)
    fs = filesystem(companion())
    receipt = fs.put_file(tmp_path / "large", "parts/ü +.csv")
    assert content(store, receipt.location) == LARGE
    assert receipt.verified == "md5"
    assert [part.size for part in receipt.parts] == [PART, PART, 12_345]
    head = store.head_object(Bucket=BUCKET, Key=receipt.location)
    assert head["ContentType"] == "text/csv"
    with fs.open("parts/stream", "wb") as file:
        for start in range(0, len(LARGE), MIB):
            file.write(LARGE[start : start + MIB])
    assert content(store, file.receipt.location) == LARGE


@row("expired URL", "signed again")
def test_expired_url(store, companion):
    """URLs that expire on their way are asked for again, and no part is missing."""
    fs = filesystem(companion(expires=5, late=5500))
    receipt = fs.pipe_file("expired/a", LARGE)
    assert content(store, receipt.location) == LARGE


@row("killed client", "another process resumes")
def test_killed_client(store, companion, tmp_path):
    """A later process asks which parts are stored, and sends only the others."""
    source = tmp_path / "large"
    source.write_bytes(LARGE)
    options = {
        **companion(),
        "resume_dir": str(tmp_path / "journals"),
        "max_concurrency": 1,
    }
    given = json.dumps([options, str(source), "killed/a"])
    command = [sys.executable, "-c", KILLED, given]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert keys(store, "killed/a") == []
    (upload_id,) = open_uploads(store, "killed/a")
    receipt = filesystem(options).put_file(source, "killed/a")
    assert upload_id in receipt.upload_id
    assert keys(store, "killed/a") == [receipt.location]
    assert content(store, receipt.location) == LARGE
    assert open_uploads(store, "killed/a") == []


@row("lost last reply", "repeated; unknown if that fails too")
@pytest.mark.parametrize("lost", [1, 9])
def test_lost_last_reply(store, companion, lost):
    """The last call is repeated, and never called a failure: the object is stored."""
    fs, path = filesystem(companion(lost=lost), retries=1), f"lost/{lost}"
    if lost == 1:
        fs.pipe_file(path, LARGE)
    else:
        with pytest.raises(OutcomeUnknownError):
            fs.pipe_file(path, LARGE)
    (key,) = keys(store, path)
    assert content(store, key) == LARGE


@row("abort")
def test_abort(store, companion):
    """An exception in the block publishes nothing, and no part is left."""
    fs = filesystem(companion())
    with pytest.raises(ZeroDivisionError), fs.open("aborted/a", "wb") as file:
        file.write(LARGE)
        raise ZeroDivisionError
    assert keys(store, "aborted/a") == []
    assert open_uploads(store, "aborted/a") == []


@row("refusals", "metadata, reading and listing do not exist")
def test_refusals(store, companion):
    """Operations that Companion does not offer are refused before the first byte."""
    fs = filesystem(companion())
    with pytest.raises(NotCoveredError, match="x-oss-meta-a"):
        fs.pipe_file("refused/a", LARGE, metadata={"a": "b"})
    with pytest.raises(FileNotFoundError, match="ListObjectsV2 is not granted"):
        fs.ls("refused")
    assert keys(store, "refused/a") == []


def test_checksum_of_nothing(store, companion):
    """By default, Companion signs the checksum of an empty part, which a store refuses.

    The error says what Companion needs, and no part is left.
    """
    fs = filesystem(companion(checksums="WHEN_SUPPORTED"))
    with pytest.raises(NotCoveredError, match="WHEN_REQUIRED"):
        fs.pipe_file("refused/b", LARGE)
    assert keys(store, "refused/b") == []
    assert open_uploads(store, "refused/b") == []
