"""oss2 as a client of the emulator, with signatures in headers."""

from __future__ import annotations

import io
from functools import partial
from itertools import islice

import pytest

from tests.contract.interop.conftest import BUCKET, REGION, WRONG, Identity, Lazy
from tests.contract.interop.signers import oss2_auth, oss2_bucket
from tests.contract.interop.table import CLIENTS

oss2 = Lazy("oss2")
KEY = "dir/a b+~%ü//x.bin"
DATA = bytes(range(256)) * 1600  # 400 KiB: four parts of the smallest size
PART = 100 * 1024
# Marks a test as a cell of docs/interop.md.
does = partial(pytest.mark.interop, CLIENTS, "oss2")


@pytest.fixture
def bucket(oss, identity):
    """The bucket as oss2 sees it."""
    with oss2_bucket(oss.url, identity) as bucket:
        yield bucket


@does("put")
@does("get")
def test_put_and_get(bucket, oss):
    """An uploaded object exists with its properties, and can be read."""
    headers = {"Content-Type": "text/csv", "x-oss-meta-owner": "me"}
    put = bucket.put_object(KEY, DATA, headers=headers)
    stored = oss.get(BUCKET, KEY)
    assert stored.data() == DATA
    assert (put.crc, put.etag) == (stored.crc64, stored.etag)
    got = bucket.get_object(KEY)
    assert got.read() == DATA
    assert got.headers["x-oss-meta-owner"] == "me"
    assert got.content_type == "text/csv"
    assert bucket.object_exists(KEY)
    assert not bucket.object_exists("absent")


@does("put")
def test_bodies_of_unknown_length(bucket, oss):
    """A generator and a file without a length travel in chunks."""
    pieces = [DATA[start : start + 70_000] for start in range(0, len(DATA), 70_000)]
    bucket.put_object("generated", iter(pieces))
    bucket.put_object("file", io.BytesIO(DATA))
    assert oss.get(BUCKET, "generated").data() == oss.get(BUCKET, "file").data() == DATA
    first = oss.requests[0].request_headers
    assert first["transfer-encoding"] == "chunked"


@does("range")
def test_range(bucket):
    """A range comes back as it was asked for."""
    bucket.put_object(KEY, DATA)
    assert bucket.get_object(KEY, byte_range=(10, 19)).read() == DATA[10:20]
    assert bucket.get_object(KEY, byte_range=(None, 5)).read() == DATA[-5:]


@does("head")
def test_head(bucket):
    """Both ways to ask about an object agree."""
    bucket.put_object(KEY, DATA)
    head, meta = bucket.head_object(KEY), bucket.get_object_meta(KEY)
    assert head.content_length == meta.content_length == len(DATA)
    assert head.etag == meta.etag
    assert head.last_modified == meta.last_modified


@does("list")
def test_list(bucket):
    """Both versions of the call list the same, page by page and by folder."""
    keys = sorted(f"d{n % 3}/ü {n}" for n in range(9))
    for key in keys:
        bucket.put_object(key, b"x")
    first = [found.key for found in oss2.ObjectIterator(bucket, max_keys=2)]
    second = [found.key for found in oss2.ObjectIteratorV2(bucket, max_keys=2)]
    assert first == second == keys
    for iterator in (oss2.ObjectIterator, oss2.ObjectIteratorV2):
        rolled = list(iterator(bucket, delimiter="/", max_keys=1))
        assert [found.key for found in rolled] == ["d0/", "d1/", "d2/"]
        assert all(found.is_prefix() for found in rolled)
    after = oss2.ObjectIteratorV2(bucket, start_after=keys[6])
    assert [found.key for found in after] == keys[7:]


@does("copy")
def test_copy(bucket, oss):
    """A copy has the bytes and the metadata, also in parts."""
    bucket.put_object(KEY, DATA, headers={"x-oss-meta-a": "1"})
    bucket.copy_object(BUCKET, KEY, "copy")
    assert oss.get(BUCKET, "copy").data() == DATA
    assert bucket.head_object("copy").headers["x-oss-meta-a"] == "1"
    upload = bucket.init_multipart_upload("parts").upload_id
    done = []
    for number, start in enumerate((0, 2 * PART), 1):
        span = (start, start + 2 * PART - 1)
        part = bucket.upload_part_copy(BUCKET, KEY, span, "parts", upload, number)
        done.append(oss2.models.PartInfo(number, part.etag))
    bucket.complete_multipart_upload("parts", upload, done)
    assert oss.get(BUCKET, "parts").data() == DATA


@does("delete")
def test_delete(bucket, oss):
    """Objects with any names are deleted one by one and many at once."""
    for key in (KEY, "b", "c&<d>", "e\f"):
        bucket.put_object(key, b"x")
    bucket.delete_object("b")
    names = [KEY, "absent", "c&<d>", "e\f"]
    gone = bucket.batch_delete_objects(names)
    assert sorted(gone.deleted_keys) == sorted(names)
    assert not oss.objects(BUCKET)


@does("append")
def test_append(bucket, oss):
    """Appends add up; one at the wrong place is refused with the right one."""
    first = bucket.append_object(KEY, 0, b"abc", headers={"Content-Type": "a/b"})
    second = bucket.append_object(KEY, first.next_position, b"def", init_crc=first.crc)
    assert second.next_position == 6
    stored = oss.get(BUCKET, KEY)
    assert (stored.data(), stored.crc64) == (b"abcdef", second.crc)
    assert stored.headers["content-type"] == "a/b"
    with pytest.raises(oss2.exceptions.PositionNotEqualToLength) as refused:
        bucket.append_object(KEY, 3, b"x")
    assert refused.value.next_position == 6
    bucket.put_object("normal", b"")
    with pytest.raises(oss2.exceptions.ObjectNotAppendable):
        bucket.append_object("normal", 0, b"x")


@does("multipart")
def test_multipart(bucket, oss):
    """An upload in parts can be listed, completed and aborted."""
    upload = bucket.init_multipart_upload(KEY, headers={"x-oss-meta-a": "1"}).upload_id
    done = []
    for number, start in enumerate(range(0, len(DATA), PART), 1):
        part = bucket.upload_part(KEY, upload, number, DATA[start : start + PART])
        done.append(oss2.models.PartInfo(number, part.etag, part_crc=part.crc))
    listed = [
        p.part_number for p in oss2.PartIterator(bucket, KEY, upload, max_parts=3)
    ]
    assert listed == [1, 2, 3, 4]
    other = bucket.init_multipart_upload("other").upload_id
    found = [
        (u.key, u.upload_id)
        for u in oss2.MultipartUploadIterator(bucket, max_uploads=1)
    ]
    assert found == [(KEY, upload), ("other", other)]
    of_key = list(islice(oss2.ObjectUploadIterator(bucket, "other"), 5))
    assert [u.upload_id for u in of_key] == [other]
    bucket.abort_multipart_upload("other", other)
    bucket.complete_multipart_upload(KEY, upload, done)
    assert oss.get(BUCKET, KEY).data() == DATA
    assert oss.get(BUCKET, KEY).headers["x-oss-meta-a"] == "1"
    assert not oss.uploads(BUCKET)
    assert list(oss2.MultipartUploadIterator(bucket)) == []


@does("resumable")
def test_resumable(bucket, oss, tmp_path):
    """Its resumable upload and download work, and take up where they were broken."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    store = oss2.ResumableStore(root=str(tmp_path))
    options = {"multipart_threshold": PART, "part_size": PART, "num_threads": 1}

    def stop(done: int, _: int) -> None:
        if done > 2 * PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        oss2.resumable_upload(
            bucket, KEY, str(source), store=store, progress_callback=stop, **options
        )
    assert oss.get(BUCKET, KEY) is None
    oss.clear()
    oss2.resumable_upload(bucket, KEY, str(source), store=store, **options)
    assert oss.get(BUCKET, KEY).data() == DATA
    sent = [r for r in oss.requests if r.action == "UploadPart"]
    assert 0 < len(sent) < 4
    oss2.resumable_download(
        bucket, KEY, str(target), multiget_threshold=PART, part_size=PART,
        num_threads=2, store=oss2.ResumableDownloadStore(root=str(tmp_path)),
    )  # fmt: skip
    assert target.read_bytes() == DATA


@does("buckets")
def test_buckets(bucket, oss, identity):
    """The service lists its buckets and tells about each of them."""
    service = oss2.Service(oss2_auth(identity), oss.url, region=REGION)
    names = [found.name for found in oss2.BucketIterator(service, max_keys=1)]
    assert names == [BUCKET, "second"]
    info = bucket.get_bucket_info()
    assert (info.name, info.location) == (BUCKET, f"oss-{REGION}")
    assert bucket.get_bucket_acl().acl == "private"
    service.session.session.close()


@does("refusals")
@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_wrong_secret(oss, version):
    """A signature of another secret is a 403, and nothing is stored."""
    with (
        oss2_bucket(oss.url, Identity(version, WRONG)) as bucket,
        pytest.raises(oss2.exceptions.SignatureDoesNotMatch) as refused,
    ):
        bucket.put_object("k", b"x")
    assert refused.value.status == 403
    assert oss.get(BUCKET, "k") is None
