"""alibabacloud-oss-v2 as a client of the emulator, with signatures in headers."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.contract.interop.conftest import (
    BUCKET,
    REGION,
    WRONG,
    Identity,
    Lazy,
    library,
)
from tests.contract.interop.signers import oss_v2_config
from tests.contract.interop.table import CLIENTS

sdk = Lazy("alibabacloud_oss_v2")
KEY = "dir/a b+~%ü//x.bin"
DATA = bytes(range(256)) * 1600  # 400 KiB: four parts of the smallest size
PART = 100 * 1024
# Marks a test as a cell of docs/interop.md.
does = partial(pytest.mark.interop, CLIENTS, "alibabacloud-oss-v2")


@pytest.fixture
def client(oss, identity):
    """Its client."""
    return sdk.Client(oss_v2_config(oss.url, identity))


@pytest.fixture
def put(client):
    """Put an object."""

    def made(key: str = KEY, data: bytes = DATA, **more: object) -> object:
        return client.put_object(sdk.PutObjectRequest(BUCKET, key, body=data, **more))

    return made


@does("put")
@does("get")
def test_put_and_get(client, put, oss):
    """An uploaded object exists with its properties, and can be read."""
    said = put(content_type="text/csv", metadata={"owner": "me"})
    stored = oss.get(BUCKET, KEY)
    assert stored.data() == DATA
    assert said.hash_crc64 == str(stored.crc64)
    got = client.get_object(sdk.GetObjectRequest(BUCKET, KEY))
    assert got.body.read() == DATA
    assert (got.content_type, got.metadata["owner"]) == ("text/csv", "me")
    assert client.is_object_exist(BUCKET, KEY)
    assert not client.is_object_exist(BUCKET, "absent")


@does("range")
def test_range(client, put):
    """A range comes back as it was asked for."""
    put()
    request = sdk.GetObjectRequest(BUCKET, KEY, range_header="bytes=10-19")
    assert client.get_object(request).body.read() == DATA[10:20]


@does("head")
def test_head(client, put):
    """Both ways to ask about an object agree."""
    put()
    head = client.head_object(sdk.HeadObjectRequest(BUCKET, KEY))
    meta = client.get_object_meta(sdk.GetObjectMetaRequest(BUCKET, KEY))
    assert head.content_length == meta.content_length == len(DATA)
    assert (head.etag, head.hash_crc64) == (meta.etag, meta.hash_crc64)


@does("list")
def test_list(client, put):
    """Both versions of the call list the same, page by page and by folder."""
    keys = sorted(f"d{n % 3}/ü {n}" for n in range(9))
    for key in keys:
        put(key, b"x")
    ways = [
        (client.list_objects_paginator, sdk.ListObjectsRequest),
        (client.list_objects_v2_paginator, sdk.ListObjectsV2Request),
    ]
    for paginator, request in ways:
        pages = list(paginator(limit=2).iter_page(request(BUCKET)))
        assert [o.key for page in pages for o in page.contents] == keys
        pages = list(paginator(limit=1).iter_page(request(BUCKET, delimiter="/")))
        rolled = [p.prefix for page in pages for p in page.common_prefixes]
        assert rolled == ["d0/", "d1/", "d2/"]


@does("copy")
def test_copy(client, put, oss):
    """A copy has the bytes and the metadata, also in parts."""
    put(metadata={"a": "1"})
    request = sdk.CopyObjectRequest(BUCKET, "copy", source_key=KEY)
    assert client.copy_object(request).etag.strip('"') == oss.get(BUCKET, KEY).etag
    assert oss.get(BUCKET, "copy").data() == DATA
    copier = client.copier(part_size=PART, multipart_copy_threshold=PART)
    copier.copy(
        sdk.CopyObjectRequest(BUCKET, "parts", source_key=KEY),
        disable_shallow_copy=True,
    )
    assert oss.get(BUCKET, "parts").data() == DATA
    assert oss.get(BUCKET, "parts").headers["x-oss-meta-a"] == "1"


@does("delete")
def test_delete(client, put, oss):
    """One by one and many at once, whatever is in their names."""
    for key in (KEY, "b", "c&<d>"):
        put(key, b"x")
    client.delete_object(sdk.DeleteObjectRequest(BUCKET, "b"))
    names = [sdk.DeleteObject(key=key) for key in (KEY, "c&<d>")]
    said = client.delete_multiple_objects(
        sdk.DeleteMultipleObjectsRequest(BUCKET, objects=names, encoding_type="url")
    )
    assert [gone.key for gone in said.deleted_objects] == [KEY, "c&<d>"]
    assert not oss.objects(BUCKET)


@does("append")
def test_append(client, oss):
    """Appends add up; one at the wrong place is refused."""
    first = client.append_object(sdk.AppendObjectRequest(BUCKET, KEY, 0, body=b"abc"))
    assert first.next_position == 3
    client.append_object(sdk.AppendObjectRequest(BUCKET, KEY, 3, body=b"def"))
    assert oss.get(BUCKET, KEY).data() == b"abcdef"
    with pytest.raises(sdk.exceptions.OperationError, match="PositionNotEqual"):
        client.append_object(sdk.AppendObjectRequest(BUCKET, KEY, 3, body=b"x"))
    with client.append_file(BUCKET, "file") as file:
        file.write(b"12")
        file.write(b"34")
    assert oss.get(BUCKET, "file").data() == b"1234"


@does("multipart")
def test_multipart(client, oss):
    """An upload in parts can be listed, completed and aborted."""
    upload = client.initiate_multipart_upload(
        sdk.InitiateMultipartUploadRequest(BUCKET, KEY, metadata={"a": "1"})
    ).upload_id
    done = []
    for number, start in enumerate(range(0, len(DATA), PART), 1):
        part = client.upload_part(
            sdk.UploadPartRequest(
                BUCKET, KEY, number, upload, body=DATA[start : start + PART]
            )
        )
        done.append(sdk.UploadPart(part_number=number, etag=part.etag))
    pages = client.list_parts_paginator(limit=3).iter_page(
        sdk.ListPartsRequest(BUCKET, KEY, upload)
    )
    assert [p.part_number for page in pages for p in page.parts] == [1, 2, 3, 4]
    other = client.initiate_multipart_upload(
        sdk.InitiateMultipartUploadRequest(BUCKET, "other")
    ).upload_id
    pages = client.list_multipart_uploads_paginator(limit=1).iter_page(
        sdk.ListMultipartUploadsRequest(BUCKET)
    )
    found = [(u.key, u.upload_id) for page in pages for u in page.uploads]
    assert found == [(KEY, upload), ("other", other)]
    client.abort_multipart_upload(
        sdk.AbortMultipartUploadRequest(BUCKET, "other", other)
    )
    client.complete_multipart_upload(
        sdk.CompleteMultipartUploadRequest(
            BUCKET,
            KEY,
            upload,
            complete_multipart_upload=sdk.CompleteMultipartUpload(parts=done),
        )
    )
    assert oss.get(BUCKET, KEY).data() == DATA
    assert not oss.uploads(BUCKET)


@does("resumable")
def test_resumable(client, oss, tmp_path):
    """Its uploader and downloader work in parts, with their checkpoints."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(DATA)
    options = {"part_size": PART, "parallel_num": 2, "enable_checkpoint": True,
               "checkpoint_dir": str(tmp_path)}  # fmt: skip
    client.uploader(**options).upload_file(
        sdk.PutObjectRequest(BUCKET, KEY), filepath=str(source)
    )
    assert oss.get(BUCKET, KEY).data() == DATA
    assert oss.get(BUCKET, KEY).kind == "Multipart"
    client.downloader(**options).download_file(
        sdk.GetObjectRequest(BUCKET, KEY), filepath=str(target)
    )
    assert target.read_bytes() == DATA


@pytest.mark.interop(CLIENTS, "alibabacloud-oss-v2, asynchronous", "put")
@pytest.mark.interop(CLIENTS, "alibabacloud-oss-v2, asynchronous", "get")
@pytest.mark.interop(CLIENTS, "alibabacloud-oss-v2, asynchronous", "list")
@pytest.mark.interop(CLIENTS, "alibabacloud-oss-v2, asynchronous", "delete")
def test_asynchronous_client(oss, identity):
    """Its client over aiohttp puts, reads, lists and deletes."""
    library("aiohttp")
    kind = library("alibabacloud_oss_v2.aio").AsyncClient

    async def work():
        client = kind(oss_v2_config(oss.url, identity))
        try:
            await client.put_object(sdk.PutObjectRequest(BUCKET, KEY, body=DATA))
            got = await client.get_object(sdk.GetObjectRequest(BUCKET, KEY))
            async with got.body as body:
                data = await body.read()
            listed = await client.list_objects_v2(sdk.ListObjectsV2Request(BUCKET))
            await client.delete_object(sdk.DeleteObjectRequest(BUCKET, KEY))
        finally:
            await client.close()
        return data, [found.key for found in listed.contents]

    assert asyncio.run(work()) == (DATA, [KEY])
    assert not oss.objects(BUCKET)


@does("buckets")
def test_buckets(client):
    """The service lists its buckets and describes each of them."""
    pages = client.list_buckets_paginator(limit=1).iter_page(sdk.ListBucketsRequest())
    assert [b.name for page in pages for b in page.buckets] == [BUCKET, "second"]
    info = client.get_bucket_info(sdk.GetBucketInfoRequest(BUCKET)).bucket_info
    assert (info.name, info.location) == (BUCKET, f"oss-{REGION}")
    assert client.get_bucket_acl(sdk.GetBucketAclRequest(BUCKET)).acl == "private"
    assert client.is_bucket_exist(BUCKET)
    assert not client.is_bucket_exist("absent")


@does("refusals")
@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_wrong_secret(oss, version):
    """A signature of another secret is a 403, and nothing is stored."""
    client = sdk.Client(oss_v2_config(oss.url, Identity(version, WRONG)))
    with pytest.raises(sdk.exceptions.OperationError) as refused:
        client.put_object(sdk.PutObjectRequest(BUCKET, "k", body=b"x"))
    found = refused.value.unwrap()
    assert (found.status_code, found.code) == (403, "SignatureDoesNotMatch")
    assert oss.get(BUCKET, "k") is None
