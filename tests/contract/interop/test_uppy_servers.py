"""This filesystem uploads through `osspresigned serve --uppy`, as Uppy does."""

from __future__ import annotations

import os
from functools import partial

import fsspec
import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import OutcomeUnknownError, SignerError
from tests.contract.interop.conftest import BUCKET
from tests.contract.interop.table import UPLOAD_SERVERS
from tests.owner.service.conftest import TOKEN

MIB = 1024 * 1024
LARGE = memoryview(os.urandom(11 * MIB))
# Marks a test as a cell of docs/interop.md.
cell = partial(
    pytest.mark.interop, UPLOAD_SERVERS, "`osspresigned serve --uppy` by `uppy-sign`"
)


@pytest.fixture
def filesystem(served):
    """Make filesystems of one service; *lines* are further ones of its policy."""
    urls = []

    def made(*lines, token=TOKEN, **options):
        if not urls:
            urls.append(served(*lines))
        usual = {
            "upload_server": f"uppy-sign+{urls[0]}/s3/presign",
            "part_size": 5 * MIB,
            "retries": 2,
        }
        options = {"signer_token": lambda: token, **usual, **options}
        return fsspec.filesystem("osspresigned", skip_instance_cache=True, **options)

    return made


def called(oss, action):
    """Return the status of each call of *action*."""
    return [record.status for record in oss.requests if record.action == action]


def check(oss, receipt, data):
    """Compare one object with what was sent; its key is the location of the receipt."""
    key = receipt.location
    assert key == f"data/{receipt.path}"
    assert oss.objects(BUCKET)[key] == data
    assert oss.get(BUCKET, key).headers["content-type"] == "text/csv"
    assert receipt.verified == "crc64"


@cell("small files", "one PUT each")
def test_small_files(oss, filesystem):
    """Each file is stored below the prefix of the token, with its type."""
    data = {f"a/ü +{n} (1).csv": b"x" * n for n in range(20)}
    for receipt in filesystem().pipe(data):
        check(oss, receipt, data[receipt.path])
    assert len(oss.objects(BUCKET)) == 20


@cell("parts")
def test_parts(oss, filesystem):
    """A file and a stream are stored whole."""
    fs = filesystem()
    check(oss, fs.pipe_file("a/large.csv", LARGE), LARGE)
    with fs.open("a/stream.csv", "wb") as file:
        for start in range(0, len(LARGE), MIB):
            file.write(LARGE[start : start + MIB])
    check(oss, file.receipt, LARGE)
    assert oss.uploads(BUCKET) == []


@cell("expired URL", "signed again")
def test_expired_url(oss, filesystem):
    """A URL that the store refuses as expired is requested again once."""
    oss.faults.add(Fault(action="UploadPart", part_number=2, refuse="expired", times=1))
    receipt = filesystem(max_concurrency=1).pipe_file("a/b.csv", LARGE)
    check(oss, receipt, LARGE)
    assert receipt.resigns == 1
    assert called(oss, "UploadPart") == [200, 403, 200, 200]


@cell("killed client", "resumed")
def test_resume(oss, filesystem, tmp_path):
    """Another filesystem asks which parts are stored, and sends only the others."""
    (tmp_path / "large.csv").write_bytes(LARGE)
    options = {"resume_dir": str(tmp_path / "journals"), "max_concurrency": 1}
    oss.faults.add(Fault(action="UploadPart", part_number=3, status=500, times=None))
    with pytest.raises(OSError, match="500"):
        filesystem(retries=0, **options).put_file("large.csv", "a/b.csv")
    oss.faults.clear()
    before = len(called(oss, "UploadPart"))
    receipt = filesystem(**options).put_file("large.csv", "a/b.csv")
    check(oss, receipt, LARGE)
    assert called(oss, "UploadPart")[before:] == [200]
    assert oss.uploads(BUCKET) == []


@cell("lost last reply", "unknown")
def test_a_lost_reply_of_the_store(oss, filesystem):
    """With Uppy's signatures alone, HeadObject is not possible."""
    lost = {"action": "CompleteMultipartUpload", "drop_reply": True}
    oss.faults.add(Fault(**lost, times=1))
    with pytest.raises(OutcomeUnknownError):
        filesystem().pipe_file("a/b.csv", LARGE)
    assert [bytes(data) for data in oss.objects(BUCKET).values()] == [LARGE]
    assert oss.uploads(BUCKET) == []


@cell("abort")
def test_abort(oss, filesystem):
    """An exception in the block publishes nothing, and no part is left."""
    with pytest.raises(ZeroDivisionError), filesystem().open("a/b", "wb") as file:
        file.write(LARGE)
        raise ZeroDivisionError
    assert called(oss, "AbortMultipartUpload") == [204]
    assert oss.objects(BUCKET) == {}


@cell("refusals")
def test_refusals(oss, filesystem):
    """A refusal of the policy is raised with its reason, before anything is sent."""
    fs = filesystem('content_types = ["text/csv"]')
    for data in (b"1", LARGE):
        with pytest.raises((SignerError, PermissionError), match=r"(?i)content.type"):
            fs.pipe_file("a/b.png", data)
    with pytest.raises(SignerError, match="401"):
        filesystem(token="another-made-up-token").pipe_file("a/b.csv", b"1")
    assert oss.requests == []
