"""This filesystem uploads through `osspresigned serve --uppy`, as Uppy does."""

from __future__ import annotations

import os
import re

import fsspec
import pytest

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import OutcomeUnknownError, SignerError
from tests.contract.interop.conftest import BUCKET
from tests.contract.interop.relay import Relay
from tests.contract.interop.table import UPLOAD_SERVERS
from tests.owner.service.conftest import TOKEN

MIB = 1024 * 1024
LARGE = memoryview(os.urandom(11 * MIB))
WAYS = {"companion": "", "uppy-sign": "/s3/presign"}  # path of the URL


def each_way(what, **notes):
    """Run a test with each description, and give it a cell of docs/interop.md."""
    return pytest.mark.parametrize(
        "way",
        [
            pytest.param(
                way,
                marks=pytest.mark.interop(
                    UPLOAD_SERVERS,
                    f"`osspresigned serve --uppy` by `{way}`",
                    what,
                    note=notes.get(way.replace("-", "_"), ""),
                ),
            )
            for way in WAYS
        ],
    )


@pytest.fixture
def filesystem(served):
    """Make filesystems of one service; *lines* are further ones of its policy."""
    urls = []

    def made(way, *lines, token=TOKEN, **options):
        if not urls:
            urls.append(served(*lines))
        usual = {
            "upload_server": f"{way}+{urls[0]}{WAYS[way]}",
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
    name = re.escape(receipt.path)
    assert re.fullmatch(rf"data/([0-9a-f-]{{36}}-)?{name}", key)
    assert oss.objects(BUCKET)[key] == data
    assert oss.get(BUCKET, key).headers["content-type"] == "text/csv"
    assert receipt.verified == "crc64"


@each_way("small files", companion="one form each", uppy_sign="one PUT each")
def test_small_files(oss, filesystem, way):
    """Each file is stored below the prefix of the token, with its type."""
    data = {f"a/ü +{n} (1).csv": b"x" * n for n in range(20)}
    for receipt in filesystem(way).pipe(data):
        check(oss, receipt, data[receipt.path])
    assert len(oss.objects(BUCKET)) == 20


@each_way("parts")
def test_parts(oss, filesystem, way):
    """A file and a stream are stored whole."""
    fs = filesystem(way)
    check(oss, fs.pipe_file("a/large.csv", LARGE), LARGE)
    with fs.open("a/stream.csv", "wb") as file:
        for start in range(0, len(LARGE), MIB):
            file.write(LARGE[start : start + MIB])
    check(oss, file.receipt, LARGE)
    assert oss.uploads(BUCKET) == []


@each_way("expired URL", companion="signed again", uppy_sign="signed again")
def test_expired_url(oss, filesystem, way):
    """What the store refuses as expired is asked for once more."""
    oss.faults.add(Fault(action="UploadPart", part_number=2, refuse="expired", times=1))
    receipt = filesystem(way, max_concurrency=1).pipe_file("a/b.csv", LARGE)
    check(oss, receipt, LARGE)
    assert receipt.resigns == 1
    assert called(oss, "UploadPart") == [200, 403, 200, 200]


@each_way("killed client", **dict.fromkeys(("companion", "uppy_sign"), "resumed"))
def test_resume(oss, filesystem, way, tmp_path):
    """Another filesystem asks which parts are stored, and sends only the others."""
    (tmp_path / "large.csv").write_bytes(LARGE)
    options = {"checkpoint": str(tmp_path / "journals"), "max_concurrency": 1}
    oss.faults.add(Fault(action="UploadPart", part_number=3, status=500, times=None))
    with pytest.raises(OSError, match="500"):
        filesystem(way, retries=0, **options).put_file("large.csv", "a/b.csv")
    oss.faults.clear()
    before = len(called(oss, "UploadPart"))
    receipt = filesystem(way, **options).put_file("large.csv", "a/b.csv")
    check(oss, receipt, LARGE)
    assert called(oss, "UploadPart")[before:] == [200]
    assert oss.uploads(BUCKET) == []


@each_way(
    "lost last reply", companion="the store's: yes; else unknown", uppy_sign="unknown"
)
def test_a_lost_reply_of_the_store(oss, filesystem, way):
    """The service looks at the object; who has only Uppy's signatures cannot look."""
    lost = {"action": "CompleteMultipartUpload", "drop_reply": True}
    oss.faults.add(Fault(**lost, times=1))
    fs = filesystem(way)
    if way == "companion":
        check(oss, fs.pipe_file("a/b.csv", LARGE), LARGE)
    else:
        with pytest.raises(OutcomeUnknownError):
            fs.pipe_file("a/b.csv", LARGE)
    assert [bytes(data) for data in oss.objects(BUCKET).values()] == [LARGE]
    assert oss.uploads(BUCKET) == []


def test_a_lost_reply_of_the_service(oss, filesystem):
    """The finished upload is unknown to the repetition, so no outcome is claimed."""
    url = filesystem("companion").storage_options["upload_server"].partition("+")[2]
    with Relay(url) as relay:
        relay.faults["/complete"] = ("lose", 1)
        fs = filesystem("companion", upload_server=f"companion+{relay.url}")
        with pytest.raises(OutcomeUnknownError):
            fs.pipe_file("a/b.csv", LARGE)
    assert [bytes(data) for data in oss.objects(BUCKET).values()] == [LARGE]


@each_way("abort")
def test_abort(oss, filesystem, way):
    """An exception in the block publishes nothing, and no part is left."""
    with pytest.raises(ZeroDivisionError), filesystem(way).open("a/b", "wb") as file:
        file.write(LARGE)
        raise ZeroDivisionError
    assert called(oss, "AbortMultipartUpload") == [204]
    assert oss.objects(BUCKET) == {}


@each_way("refusals")
def test_refusals(oss, filesystem, way):
    """What the policy refuses fails with its reason, before anything is sent."""
    fs = filesystem(way, 'content_types = ["text/csv"]')
    for data in (b"1", LARGE):
        with pytest.raises((SignerError, PermissionError), match=r"(?i)content.type"):
            fs.pipe_file("a/b.png", data)
    with pytest.raises(SignerError, match="401"):
        filesystem(way, token="another-made-up-token").pipe_file("a/b.csv", b"1")
    assert oss.requests == []
