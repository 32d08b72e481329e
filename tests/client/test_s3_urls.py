"""Signed URLs of S3-compatible stores.

Version 1 of OSS does not sign parameters that it does not know, so such a URL can carry
those of S3, and the store that verifies it still takes it.
"""

from __future__ import annotations

import re
from urllib.request import Request, urlopen

import pytest

from fsspec_osspresigned.errors import ConfigurationError, NotCoveredError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action, Operation, SignedRequest
from fsspec_osspresigned.other_stores import S3_MIN_PART
from fsspec_osspresigned.signers.keys import KeySigner

ROOT = "examplebucket"
MIB = 2**20
CRC_OF_ABC = "NSRBwg=="
SHA_OF_ABC = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="


class S3Signer:
    """Signs as OSS does in version 1, with *more* parameters that S3 would sign."""

    remote = False

    def __init__(self, more="AWSAccessKeyId=key", **headers):
        self.keys = KeySigner.from_options(version="v1")
        self.more, self.headers, self.signed = more, headers, []

    def sign(self, operations):
        """Sign each operation."""
        self.signed += operations
        return [
            SignedRequest(
                method=one.method,
                url=f"{one.url.reveal()}&{self.more}",
                headers={**one.headers, **self.headers},
            )
            for one in self.keys.sign(operations)
        ]

    def sizes(self):
        """Return the bytes of the parts that were signed, and forget all."""
        parts = [one for one in self.signed if one.action == "UploadPart"]
        self.signed.clear()
        return [
            one.content_length for one in sorted(parts, key=lambda p: p.part_number)
        ]


def filesystem(signer, **options):
    """Return a filesystem of that signer."""
    return OSSPresignedFileSystem(signer=signer, skip_instance_cache=True, **options)


@pytest.fixture
def big(tmp_path):
    """A local file that would go in parts of 1 MiB to OSS."""
    place = tmp_path / "big"
    place.write_bytes(b"0123456789abcdef" * (9 * MIB // 16))
    return place


@pytest.mark.parametrize("options", [{}, {"part_size": MIB}])
@pytest.mark.parametrize("kept", [False, True])
def test_parts_are_not_below_the_limit_of_s3(oss, big, tmp_path, kept, options):
    """The first URL shows the kind of store, so no upload begins with small parts."""
    if kept:
        options = {**options, "resume_dir": str(tmp_path / "kept")}
    signer = S3Signer()
    fs = filesystem(signer, **options)
    for path in (f"{ROOT}/one", f"{ROOT}/two"):
        fs.put_file(str(big), path)
        assert signer.sizes() == [5 * MIB, 4 * MIB]
        assert bytes(oss.objects(ROOT)[path.partition("/")[2]]) == big.read_bytes()
    with fs.open(f"{ROOT}/stream", "wb") as file:
        for _ in range(9):
            file.write(bytes(2 * MIB))
    assert min(signer.sizes()[:-1]) >= S3_MIN_PART
    assert not oss.uploads(ROOT)
    calls = [record.action for record in oss.requests]
    assert calls.count("InitiateMultipartUpload") == 4
    assert calls.count("AbortMultipartUpload") == 1


def test_a_first_stream_with_small_parts_is_refused(oss):
    """It cannot be cut again, and says what is wrong before any part is sent."""
    file = filesystem(S3Signer(), part_size=MIB).open(f"{ROOT}/stream", "wb")
    with pytest.raises(ConfigurationError, match="5 MiB of S3"):
        file.write(bytes(2 * MIB + 1))
    file.discard()
    assert not [record for record in oss.requests if record.action == "UploadPart"]
    assert not oss.uploads(ROOT)


def entry(part_size, count=4, **more):
    """Return the entry of a URL map with part URLs of S3."""
    url = f"https://s3.example.com/{ROOT}/k?uploadId=u&AWSAccessKeyId=a&Signature=s"
    parts = [f"{url}&partNumber={number + 1}" for number in range(count)]
    entry = {"upload_id": "u", "parts": parts, "complete": url, **more}
    return {f"{ROOT}/k": entry | ({"part_size": part_size} if part_size else {})}


@pytest.mark.parametrize(
    ("size", "count", "sizes"), [(3, 3, [3]), (9, 3, [5, 4]), (18, 3, [6, 6, 6])]
)
def test_parts_of_google_are_as_large_as_those_of_s3(oss, tmp_path, size, count, sizes):
    """Without a part size in the map, no part but the last is below 5 MiB."""
    signer = S3Signer("X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Signature=s")

    def url(action, **more):
        wanted = Operation(action=action, bucket=ROOT, key="k", **more)
        return signer.sign([wanted])[0].url.reveal()

    begin = Request(url(Action.InitiateMultipartUpload), method="POST")
    with urlopen(begin) as reply:
        upload = re.search("<UploadId>(.+)</UploadId>", reply.read().decode())[1]
    parts = [
        url(Action.UploadPart, upload_id=upload, part_number=number + 1)
        for number in range(count)
    ]
    complete = url(Action.CompleteMultipartUpload, upload_id=upload)
    entry = {"upload_id": upload, "parts": parts, "complete": complete}
    (tmp_path / "file").write_bytes(bytes(size * MIB))
    fs = filesystem(None, url_map={f"{ROOT}/k": entry})
    receipt = fs.put_file(str(tmp_path / "file"), f"{ROOT}/k")
    assert [part.size for part in receipt.parts] == [size * MIB for size in sizes]
    assert len(oss.objects(ROOT)["k"]) == size * MIB


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_map_with_small_parts_is_refused(big, kind):
    """Before the first byte, and with the limit."""
    fs = filesystem(None, url_map=entry(MIB, 20))
    with pytest.raises(ConfigurationError, match="5 MiB of S3-compatible stores"):
        if kind == "file":
            fs.put_file(str(big), f"{ROOT}/k")
        else:
            fs.open(f"{ROOT}/k", "wb")


@pytest.mark.parametrize(
    "more",
    [
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-SignedHeaders=host%3Bx-amz-checksum-crc32",
        "X-Amz-Algorithm=a&X-Amz-SignedHeaders=x-amz-checksum-sha256%3Bx-amz-checksum-crc32",
    ],
)
@pytest.mark.parametrize("source", ["signer", "map"])
def test_a_signed_checksum_that_is_not_given_is_computed(oss, more, source):
    """The header that the URL lists is sent with the value of the body."""
    signer = S3Signer(more)
    if source == "signer":
        fs = filesystem(signer)
    else:
        from fsspec_osspresigned.model import Action, Operation  # noqa: PLC0415

        put = Operation(action=Action.PutObject, bucket=ROOT, key="k")
        url = signer.sign([put])[0].url.reveal()
        fs = filesystem(None, url_map={f"{ROOT}/k": url}, allow_http=True)
        del url
    fs.pipe_file(f"{ROOT}/k", b"abc")
    sent = oss.requests[-1].request_headers
    assert sent["x-amz-checksum-crc32"] == CRC_OF_ABC
    assert sent.get("x-amz-checksum-sha256") == (
        SHA_OF_ABC if "sha256" in more else None
    )


LISTED = "X-Amz-Algorithm=a&X-Amz-SignedHeaders=host%3B"


@pytest.mark.parametrize(
    ("more", "headers", "text"),
    [
        (f"{LISTED}&x-amz-checksum-crc32=AAAAAA%3D%3D", {}, "of an empty body"),
        (f"{LISTED}&X-Amz-Checksum-Crc32=AAAAAQ%3D%3D", {}, "than the body"),
        (
            f"{LISTED}x-amz-checksum-sha1",
            {"x-amz-checksum-sha1": "other"},
            "than the body",
        ),
        (f"{LISTED}x-amz-checksum-crc64nvme", {}, "not supported"),
    ],
)
def test_a_checksum_that_cannot_be_right_is_told_before_the_first_byte(
    oss, more, headers, text
):
    """The store would refuse it as damaged, which it is not."""
    fs = filesystem(S3Signer(more, **headers))
    with pytest.raises(NotCoveredError, match=text):
        fs.pipe_file(f"{ROOT}/k", b"abc")
    assert not oss.requests
