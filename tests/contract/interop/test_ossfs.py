"""ossfs, the other fsspec filesystem for OSS, as a client of the emulator.

Two bugs of others are known, and worked around here:

* ossfs 2025.5.0 counts a position twice when a file that is open for writing is flushed
  more than once, so its second append is refused: it gets all bytes in one ``write``
  (issues 60 and 127 of fsspec/ossfs).
* aiooss2 0.2.11 cannot send a body with aiohttp 3.14 (``AsyncPayload`` lacks
  ``decode``): its asynchronous filesystem only reads here.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.contract.interop.conftest import BUCKET, OWNER, STS, library
from tests.contract.interop.table import CLIENTS

KEY = f"{BUCKET}/dir/a b+~%ü.bin"
DATA = bytes(range(256)) * 1600
# Marks a test as a cell of docs/interop.md.
does = partial(pytest.mark.interop, CLIENTS, "ossfs")


@pytest.fixture(params=[OWNER, STS], ids=["key", "sts"])
def options(oss, request):
    """Its storage options; it signs V1, in headers."""
    key = request.param
    token = key.security_token
    return {
        "endpoint": oss.url,
        "key": key.access_key_id,
        "secret": key.access_key_secret.reveal(),
        "token": token and token.reveal(),
        "skip_instance_cache": True,
    }


@pytest.fixture
def theirs(options):
    """The filesystem."""
    return library("ossfs").OSSFileSystem(**options)


@does("put")
@does("get")
@does("range")
@does("head")
def test_put_and_get(theirs, oss, tmp_path):
    """An uploaded object exists, and can be read as a whole or in ranges."""
    theirs.pipe_file(KEY, DATA)
    assert oss.get(*KEY.split("/", 1)).data() == DATA
    assert theirs.cat_file(KEY) == DATA
    assert theirs.cat_file(KEY, 10, 20)[:10] == DATA[10:20]
    assert theirs.info(KEY)["size"] == len(DATA)
    assert not theirs.exists(f"{BUCKET}/absent")
    theirs.get_file(KEY, str(tmp_path / "target"))
    assert (tmp_path / "target").read_bytes() == DATA
    with theirs.open(KEY) as file:
        file.seek(1000)
        assert file.read(10) == DATA[1000:1010]


@does("multipart")
@does("resumable")
def test_large_file(theirs, oss, tmp_path, monkeypatch):
    """A file above its limit, lowered here, travels by oss2's resumable upload."""
    core = library("ossfs.core")
    monkeypatch.setattr(core, "SIMPLE_TRANSFER_THRESHOLD", 2**20)
    source = tmp_path / "source"
    source.write_bytes(DATA * 30)
    theirs.put_file(str(source), f"{BUCKET}/big")
    assert oss.get(BUCKET, "big").kind == "Multipart"
    assert oss.get(BUCKET, "big").data() == DATA * 30


@does("append", "yes; a file may be flushed once only")
def test_append(theirs, oss):
    """Its files are appended to."""
    for text in (b"abc", b"def"):
        with theirs.open(f"{BUCKET}/log", "ab") as file:
            file.write(text)
    assert oss.get(BUCKET, "log").data() == b"abcdef"
    with theirs.open(f"{BUCKET}/new", "wb") as file:
        file.write(DATA)
    assert oss.get(BUCKET, "new").data() == DATA


@does("list")
@does("copy")
@does("delete")
@does("buckets")
def test_tree(theirs, oss):
    """A tree is listed, copied and removed."""
    names = [f"{BUCKET}/t/{n % 2}/ü {n}" for n in range(5)]
    for name in names:
        theirs.pipe_file(name, b"x")
    assert sorted(theirs.find(f"{BUCKET}/t")) == sorted(names)
    found = sorted(name.rstrip("/") for name in theirs.ls(f"{BUCKET}/t", detail=False))
    assert found == [f"{BUCKET}/t/0", f"{BUCKET}/t/1"]
    theirs.cp_file(names[0], f"{BUCKET}/copy")
    assert oss.get(BUCKET, "copy").data() == b"x"
    theirs.rm(f"{BUCKET}/t", recursive=True)
    assert list(oss.objects(BUCKET)) == ["copy"]
    assert {name.strip("/") for name in theirs.ls("", detail=False)} == {
        BUCKET,
        "second",
    }


# Its error repeats what the server has signed, an STS token included.
@does("refusals")
@pytest.mark.parametrize("options", [OWNER], indirect=True, ids=["key"])
def test_a_wrong_secret(oss, options):
    """A signature of another secret is a 403, and nothing is stored."""
    theirs = library("ossfs").OSSFileSystem(**{**options, "secret": "another"})
    with pytest.raises(OSError, match="SignatureDoesNotMatch"):
        theirs.pipe_file(KEY, b"x")
    assert not oss.objects(BUCKET)


def test_second_flush_is_refused(theirs):
    """The first bug is still there; the page says so."""
    file = theirs.open(f"{BUCKET}/two", "wb", block_size=2**18)
    with pytest.raises(OSError, match="PositionNotEqualToLength"):
        for _ in range(4):
            file.write(DATA[: 2**18])
    file.closed = True  # or it would try again when it is collected


@pytest.mark.interop(CLIENTS, "aiooss2", "get")
@pytest.mark.interop(CLIENTS, "aiooss2", "list")
@pytest.mark.interop(CLIENTS, "aiooss2", "put", note="fails with aiohttp 3.14")
def test_asynchronous_one_reads(theirs, options):
    """Its filesystem over aiooss2 reads the objects."""
    theirs.pipe_file(KEY, DATA)
    reader = library("ossfs").AioOSSFileSystem(**options)
    assert reader.cat_file(KEY) == DATA
    assert reader.find(BUCKET) == [KEY]
    with pytest.raises(TypeError, match="decode"):
        reader.pipe_file(KEY, DATA)
