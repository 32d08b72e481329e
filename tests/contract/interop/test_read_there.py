"""Objects that this filesystem wrote can be read by other clients."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from attrs import frozen

from tests.contract.interop.conftest import (
    BUCKET,
    OWNER,
    Identity,
    library,
    program,
)
from tests.contract.interop.signers import (
    ali_oss_options,
    oss2_bucket,
    oss_v2_config,
)
from tests.contract.interop.table import READ_THERE

DATA = bytes(range(256)) * 1600
WROTE = {
    "put/ü+ a/b.bin": "put_file in parts",
    "stream/a~%.bin": "a stream in parts",
    "frame/a.csv": "pandas",
    "frame/a.csv.gz": "compressed pandas",
    "small": "one PUT",
}


@frozen
class Seen:
    """An object as a reader sees it; None for a fact that the reader does not report."""

    data: bytes
    part: bytes
    crc64: int | None = None
    owner: str | None = None


@pytest.fixture
def written(fs, oss, tmp_path):
    """Write in each way; return what must be there, by key."""
    source = tmp_path / "source"
    source.write_bytes(DATA)
    put, stream, csv, packed, small = (f"{BUCKET}/{key}" for key in WROTE)
    fs.put_file(str(source), put, headers={"x-oss-meta-owner": "me"})
    with fs.open(stream, "wb") as file:
        for start in range(0, len(DATA), 70_000):
            file.write(DATA[start : start + 70_000])
    frame = pd.DataFrame({"n": range(40_000)})
    for path in (csv, packed):
        with fs.open(path, "wb") as file:
            frame.to_csv(
                file, index=False, compression="gzip" if path == packed else None
            )
    fs.pipe_file(small, b"0123456789abcdefghijklm")
    kinds = [oss.get(BUCKET, key).kind for key in WROTE]
    assert kinds == ["Multipart", "Multipart", "Multipart", "Normal", "Normal"]
    stored = oss.objects(BUCKET)
    assert stored["frame/a.csv"].decode() == frame.to_csv(index=False)
    assert stored["put/ü+ a/b.bin"] == stored["stream/a~%.bin"] == DATA
    return {key: stored[key] for key in WROTE}


def by_oss2(oss, keys):
    """Read with oss2, which compares CRC-64 itself."""
    with oss2_bucket(oss.url, Identity("v4", OWNER)) as bucket:
        for key in keys:
            got, head = bucket.get_object(key), bucket.head_object(key)
            part = bucket.get_object(key, byte_range=(10, 19)).read()
            data = got.read()
            assert got.client_crc == got.server_crc
            owner = head.headers.get("x-oss-meta-owner")
            yield Seen(data, part, got.server_crc, owner)


def by_oss_v2(oss, keys):
    """Read with alibabacloud-oss-v2."""
    sdk = library("alibabacloud_oss_v2")
    client = sdk.Client(oss_v2_config(oss.url, Identity("v4", OWNER)))
    for key in keys:
        got = client.get_object(sdk.GetObjectRequest(BUCKET, key))
        asked = sdk.GetObjectRequest(BUCKET, key, range_header="bytes=10-19")
        part = client.get_object(asked).body.read()
        owner = (got.metadata or {}).get("owner")
        yield Seen(got.body.read(), part, int(got.hash_crc64), owner)


def by_ossfs(oss, keys):
    """Read with ossfs."""
    name, secret = Identity("v1", OWNER).pair
    theirs = library("ossfs").OSSFileSystem(
        endpoint=oss.url, key=name, secret=secret, skip_instance_cache=True
    )
    for key in keys:
        with theirs.open(f"{BUCKET}/{key}") as file:
            file.seek(10)
            part = file.read(10)
        yield Seen(theirs.cat_file(f"{BUCKET}/{key}"), part)


def by_ali_oss(oss, keys, node, folder):
    """Read with npm's ali-oss, into files."""
    options = ali_oss_options(oss.url, Identity("v4", OWNER))
    seen = node("read.mjs", "ali-oss", options=options, keys=keys, folder=str(folder))
    for number, one in enumerate(seen):
        data = Path(folder, str(number)).read_bytes()
        owner = (one["meta"] or {}).get("owner")
        yield Seen(data, bytes(one["part"]), int(one["crc"]), owner)


READERS = {"oss2": by_oss2, "alibabacloud-oss-v2": by_oss_v2, "ossfs": by_ossfs}


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(
            who,
            marks=[
                pytest.mark.interop(READ_THERE, who, what) for what in WROTE.values()
            ],
        )
        for who in (*READERS, "ali-oss")
    ],
)
def test_read_back(who, written, oss, node, tmp_path):
    """Each reads the same bytes, whole and in part, with checksum and metadata."""
    keys = list(written)
    if who == "ali-oss":
        seen = by_ali_oss(oss, keys, node, tmp_path)
    else:
        seen = READERS[who](oss, keys)
    for key, one in zip(keys, seen, strict=True):
        stored = oss.get(BUCKET, key)
        assert one.data == written[key], key
        assert one.part == written[key][10:20], key
        assert one.crc64 in (None, stored.crc64), key
        if who != "ossfs":
            assert one.owner == stored.headers.get("x-oss-meta-owner"), key


@pytest.mark.parametrize(
    "who",
    [
        pytest.param(who, marks=pytest.mark.interop(READ_THERE, who, what))
        for who, what in (
            ("rclone, copyurl", "put_file in parts"),
            ("curl", "put_file in parts"),
            ("polars", "pandas"),
        )
    ],
)
def test_read_by_url(who, written, sign, tmp_path):
    """A GET URL signed here is read by programs that know nothing of OSS."""
    key, target = "put/ü+ a/b.bin", tmp_path / "target"
    url = sign("GET", key)
    if who == "polars":
        polars = library("polars")
        found = polars.read_csv(sign("GET", "frame/a.csv"))
        assert found["n"].to_list() == list(range(40_000))
        return
    if who == "curl":
        command = [program("curl"), "-sS", "--fail", "-o", target, "-K", "-"]
        given = f'url = "{url}"'
    else:
        command = [program("rclone"), "copyurl", url, target]
        given = ""
    quiet = {"PATH": os.environ["PATH"], "RCLONE_CONFIG": os.devnull}
    subprocess.run(command, input=given.encode(), env=quiet, check=True)
    assert target.read_bytes() == written[key]
