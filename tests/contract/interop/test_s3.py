"""Stores that speak S3: URLs that boto3 signed, through the same code."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from fsspec_osspresigned.errors import IntegrityError
from fsspec_osspresigned.model import SignedRequest
from tests.contract.interop.conftest import BUCKET, HERE, absent, made, program
from tests.contract.interop.table import READ_THERE, SIGNED_THERE

PART = 5 * 2**20  # the smallest part of S3
DATA = os.urandom(2 * PART + 12_345)
ODD = [
    "a+b",
    "~x",
    "100%",
    "a%2Fb",
    "ü é 目😀",
    "inner  blanks",
    "q?x=y",
    "&=;,:@$",
    "!'()*",
]


@pytest.fixture(scope="session")
def s3rver(tmp_path_factory):
    """The server of npm's s3rver; it verifies those of SigV2."""
    runner = program("node")
    folders = [f for f in os.environ.get("NODE_PATH", "").split(os.pathsep) if f]
    home = [f for f in folders if Path(f, "s3rver").is_dir()]
    if not home:
        absent("NODE_PATH leads to no s3rver of npm")
    place = tmp_path_factory.mktemp("s3rver")
    (place / "node_modules").symlink_to(home[0])
    shutil.copy(HERE / "node" / "s3rver.mjs", place)
    with subprocess.Popen(
        [runner, place / "s3rver.mjs", place / "store", BUCKET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


SERVERS = ("moto", "s3rver", "seaweedfs")


def each(what: str, **notes: str) -> pytest.MarkDecorator:
    """Run a test against each server, and mark each row of the table."""
    return pytest.mark.parametrize(
        "server",
        [
            pytest.param(
                name,
                marks=pytest.mark.interop(
                    SIGNED_THERE,
                    f"boto3, {name}",
                    what,
                    note=notes.get(name, "SigV4, SigV2"),
                ),
            )
            for name in SERVERS
        ],
    )


@pytest.fixture
def address(server, request):
    """The address of the server."""
    return request.getfixturevalue(server)


@pytest.fixture
def owner(address, server):
    """boto3 at the server; it signs in headers, with SigV4."""
    client = made(address, "S3RVER", "s3v4")
    if server == "moto":
        client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture(params=["s3v4", "s3"], ids=["SigV4", "SigV2"])
def client(address, request):
    """boto3 that signs URLs, with each version of the signature."""
    return made(address, "S3RVER", request.param)


def signed(client, call, key, **more):
    """Sign one call."""
    params = {"Bucket": BUCKET, "Key": key, **more}
    return client.generate_presigned_url(call, Params=params, ExpiresIn=600)


def uploader(receipts, **options):
    """Return this filesystem, which has no key."""
    return fsspec.filesystem(
        "osspresigned", skip_instance_cache=True, receipts=receipts.append, **options
    )


def content(owner, key):
    """Return what is stored."""
    return owner.get_object(Bucket=BUCKET, Key=key)["Body"].read()


@each("one URL")
def test_one_url(client, owner):
    """One PUT is stored, and its ETag proved to be the MD5 of what was sent."""
    receipts = []
    fs = uploader(receipts, url=signed(client, "put_object", "one/a.bin"))
    fs.pipe_file("", b"abc")
    assert content(owner, "one/a.bin") == b"abc"
    assert receipts[-1].verified == "md5"
    assert receipts[-1].etag == "900150983cd24fb0d6963f7d28e17f72"


@each("headers")
def test_headers(client, owner):
    """Signed type and metadata are sent; without them the store decides."""
    headers = {"Content-Type": "text/csv", "x-amz-meta-owner": "me"}
    url = signed(
        client, "put_object", "h.csv", ContentType="text/csv", Metadata={"owner": "me"}
    )
    fs = uploader([], url_map={f"{BUCKET}/h.csv": {"url": url, "headers": headers}})
    fs.pipe_file(f"{BUCKET}/h.csv", b"n\n")
    head = owner.head_object(Bucket=BUCKET, Key="h.csv")
    assert (head["ContentType"], head["Metadata"]) == ("text/csv", {"owner": "me"})


@each("odd keys")
def test_odd_keys(client, owner):
    """Each key arrives as it is."""
    urls = {
        f"{BUCKET}/odd/{key}": signed(client, "put_object", f"odd/{key}") for key in ODD
    }
    fs = uploader([], url_map=urls)
    for key in ODD:
        fs.pipe_file(f"{BUCKET}/odd/{key}", key.encode())
        assert content(owner, f"odd/{key}") == key.encode()


def parts_of(client, key, upload):
    """Return the entry of an upload in three parts."""
    named = {"UploadId": upload}
    parts = [
        signed(client, "upload_part", key, PartNumber=n, **named) for n in (1, 2, 3)
    ]
    return {
        "upload_id": upload,
        "part_size": PART,
        "parts": parts,
        "complete": signed(client, "complete_multipart_upload", key, **named),
        "abort": signed(client, "abort_multipart_upload", key, **named),
        "get": signed(client, "get_object", key),
        "head": signed(client, "head_object", key),
    }


@each("parts")
def test_parts(client, owner, tmp_path):
    """A map of parts is sent, completed and read; each part's ETag is compared."""
    key = "parts/ü+ a.bin"
    upload = owner.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    path, entry = f"{BUCKET}/{key}", parts_of(client, key, upload)
    source = tmp_path / "source"
    source.write_bytes(DATA)
    receipts = []
    fs = uploader(receipts, url_map={path: entry})
    fs.put_file(str(source), path)
    assert content(owner, key) == DATA
    receipt = receipts[-1]
    assert len(receipt.parts) == 3
    assert receipt.status == "stored"
    assert receipt.verified == "md5"
    digests = [
        hashlib.md5(DATA[n : n + PART], usedforsecurity=False).hexdigest()
        for n in (0, PART, 2 * PART)
    ]
    assert [part.etag.strip('"').lower() for part in receipt.parts] == digests
    assert fs.cat_file(path, 10, 20) == DATA[10:20]
    assert fs.info(path)["size"] == len(DATA)
    with pytest.raises(IntegrityError):
        # Insisting on what such stores do not have is an error, not a pass.
        uploader(
            [], url=signed(client, "put_object", "crc"), checksum="crc64"
        ).pipe_file("", b"x")


def verified(server, *versions):
    """Mark a server that verifies these versions."""
    names = {"s3": "SigV2", "s3v4": "SigV4"}
    note = ", ".join(names[one] for one in versions)
    mark = pytest.mark.interop(SIGNED_THERE, f"boto3, {server}", "refusals", note=note)
    return [pytest.param(server, one, marks=mark) for one in versions]


@pytest.mark.parametrize(
    ("server", "version"),
    verified("s3rver", "s3") + verified("seaweedfs", "s3v4", "s3"),
)
def test_a_wrong_secret(owner, address, version):
    """A signature of another secret is a PermissionError; nothing is stored."""
    url = signed(made(address, "another", version), "put_object", "refused")
    with pytest.raises(PermissionError):
        uploader([], url=url).pipe_file("", b"x")
    with pytest.raises(owner.exceptions.NoSuchKey):
        content(owner, "refused")


class S3Signer:
    """Signs every call by boto3, as a service of the owner could."""

    remote = False
    names: ClassVar = {"InitiateMultipartUpload": "create_multipart_upload"}
    queries: ClassVar = {
        "prefix": "Prefix",
        "delimiter": "Delimiter",
        "max-keys": "MaxKeys",
    }

    def __init__(self, client):
        self.client = client
        self.parts = []

    def sign(self, operations):
        """Sign each operation."""
        return [self.sign_one(operation) for operation in operations]

    def sign_one(self, one):
        """Sign one operation."""
        params = {"Bucket": one.bucket}
        found = {
            "Key": one.key,
            "UploadId": one.upload_id,
            "PartNumber": one.part_number,
        }
        params |= {name: value for name, value in found.items() if value}
        for name, value in one.query.items():
            if name in self.queries:
                number = int(value) if name == "max-keys" else value
                params[self.queries[name]] = number
        if one.action == "UploadPart":
            self.parts.append(one.content_length)
        method = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", one.action).lower()
        method = self.names.get(one.action, method)
        url = self.client.generate_presigned_url(method, Params=params, ExpiresIn=600)
        return SignedRequest(method=one.action.method, url=url)


@pytest.mark.parametrize("server", ["seaweedfs"])
@pytest.mark.interop(SIGNED_THERE, "boto3, seaweedfs", "all verbs", note="SigV4")
def test_all_verbs(owner, address, tmp_path):
    """A signer of S3 URLs serves a file that OSS would take in small parts, and the rest."""
    signer = S3Signer(made(address, "S3RVER", "s3v4"))
    fs = uploader([], signer=signer)
    source = tmp_path / "source"
    source.write_bytes(DATA[: 2 * PART - 1])
    for name in ("one", "two"):
        path = f"{BUCKET}/verbs/{name}"
        fs.put_file(str(source), path)
        assert fs.cat_file(path) == source.read_bytes()
        assert sorted(signer.parts) == [PART - 1, PART]
        signer.parts.clear()
    with fs.open(f"{BUCKET}/verbs/stream", "wb") as file:
        file.write(DATA)
    assert sorted(signer.parts)[1] >= PART  # the last one may be smaller
    found = fs.find(f"{BUCKET}/verbs", detail=True)
    sizes = {name.rpartition("/")[2]: info["size"] for name, info in found.items()}
    assert sizes == {"one": 2 * PART - 1, "two": 2 * PART - 1, "stream": len(DATA)}
    fs.rm(f"{BUCKET}/verbs", recursive=True)
    assert not fs.exists(f"{BUCKET}/verbs/one")


@pytest.mark.parametrize("server", ["seaweedfs"])
@pytest.mark.parametrize("kind", ["CRC32", "CRC32C", "SHA1", "SHA256"])
@pytest.mark.interop(SIGNED_THERE, "boto3, seaweedfs", "checksums", note="SigV4")
def test_signed_checksums(owner, address, kind):
    """Signed checksums are computed and sent; other bytes than those signed are refused."""
    from fsspec_osspresigned.http.body import MemoryBody  # noqa: PLC0415
    from fsspec_osspresigned.signers.s3_checksums import CHECKSUMS  # noqa: PLC0415

    value = CHECKSUMS[f"x-amz-checksum-{kind.lower()}"](MemoryBody(b"abc"))
    client = made(address, "S3RVER", "s3v4")
    url = signed(client, "put_object", "sum", **{f"Checksum{kind}": value})
    fs = uploader([], url_map={f"{BUCKET}/sum": url})
    fs.pipe_file(f"{BUCKET}/sum", b"abc")
    assert content(owner, "sum") == b"abc"
    with pytest.raises(PermissionError):
        fs.pipe_file(f"{BUCKET}/sum", b"abd")
    assert content(owner, "sum") == b"abc"


@pytest.mark.parametrize("server", ["moto"])
@pytest.mark.interop(READ_THERE, "rclone, S3 of moto", "one PUT")
@pytest.mark.interop(READ_THERE, "rclone, S3 of moto", "put_file in parts")
def test_read_by_rclone(client, owner, address, tmp_path):
    """Rclone lists and fetches what was stored, with its own comparison of MD5."""
    runner = program("rclone")
    key = "rclone/parts a+ü.bin"
    upload = owner.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    entry = parts_of(client, key, upload)
    source = tmp_path / "source"
    source.write_bytes(DATA)
    paths = {
        f"{BUCKET}/{key}": entry,
        f"{BUCKET}/rclone/small": signed(client, "put_object", "rclone/small"),
    }
    fs = uploader([], url_map=paths)
    fs.put_file(str(source), f"{BUCKET}/{key}")
    fs.pipe_file(f"{BUCKET}/rclone/small", b"abc")
    environment = {
        "PATH": os.environ["PATH"],
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_S3_PROVIDER": "Other",
        "RCLONE_S3_ENDPOINT": address,
        "RCLONE_S3_ACCESS_KEY_ID": "S3RVER",
        "RCLONE_S3_SECRET_ACCESS_KEY": "S3RVER",
        "RCLONE_S3_FORCE_PATH_STYLE": "true",
    }

    def rclone(*arguments):
        return subprocess.run(
            [runner, *arguments], env=environment, capture_output=True, check=True
        ).stdout

    target = tmp_path / "target"
    listed = json.loads(rclone("lsjson", f":s3:{BUCKET}/rclone"))
    assert {one["Name"]: one["Size"] for one in listed} == {
        "parts a+ü.bin": len(DATA),
        "small": 3,
    }
    rclone("copy", f":s3:{BUCKET}/rclone", str(target))
    assert (target / "parts a+ü.bin").read_bytes() == DATA
    rclone("check", "--download", str(target), f":s3:{BUCKET}/rclone")
