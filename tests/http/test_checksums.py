"""CRC-64 and MD5: values, combination, and what is compared with a reply."""

from __future__ import annotations

import base64
import hashlib
import json

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import IntegrityError
from fsspec_osspresigned.http.checksums import (
    CRC_HEADER,
    combine,
    compare,
    crc64,
)
from tests.loopback_server import LoopbackServer

MD5 = "9e107d9d372bb6826bd81d3542a419d6"


def test_check_value():
    """It is CRC-64/XZ, whose check value is published."""
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA
    assert crc64(memoryview(b"456789"), crc64(b"123")) == 0x995DC9BBDF1939FA


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_combined_is_crc_of_the_concatenation(pieces):
    """However bytes are cut, the pieces add up to the whole."""
    total = 0
    for piece in pieces:
        total = combine(total, crc64(piece), len(piece))
    assert total == crc64(b"".join(pieces))


AZURE = {"x-ms-request-id": "1", "etag": '"0x8D4BCC2E4835CD0"'}
MD5_OF_AZURE = base64.b64encode(bytes.fromhex(MD5)).decode()


def check(headers, mode="auto", crc: int | None = 5, md5=MD5):
    """Compare and return by what."""
    return compare(
        headers, crc=crc, md5=lambda: md5, mode=mode, what="PutObject", path="b/k"
    )


@pytest.mark.parametrize(
    ("headers", "mode", "crc", "found"),
    [
        ({CRC_HEADER: "5", "etag": "x"}, "auto", 5, "crc64"),
        ({CRC_HEADER: "5"}, "crc64", 5, "crc64"),
        ({CRC_HEADER: "5", "etag": f'"{MD5.upper()}"'}, "md5", 5, "md5"),
        ({CRC_HEADER: "5", "etag": MD5}, "auto", None, "md5"),
        ({"etag": f'"{MD5}"'}, "auto", 5, "md5"),
        ({"etag": f'"{MD5}-3"'}, "auto", 5, "none"),
        ({CRC_HEADER: "6", "etag": "0" * 32}, "none", 5, "none"),
        ({}, "auto", 5, "none"),
        (AZURE | {"content-md5": MD5_OF_AZURE}, "auto", None, "md5"),
        (AZURE | {"content-md5": "no base64"}, "auto", None, "none"),
        ({"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, "auto", None, "none"),
        ({"etag": MD5, "x-oss-server-side-encryption": "AES256"}, "auto", 5, "md5"),
        ({"etag": "0" * 32, "x-oss-server-side-encryption": "KMS"}, "auto", 5, "none"),
        ({"etag": "0" * 32, "x-amz-server-side-encryption": "SM4"}, "auto", 5, "none"),
        (
            {
                "etag": "0" * 32,
                "x-amz-server-side-encryption-customer-algorithm": "AES256",
            },
            "auto",
            5,
            "none",
        ),
    ],
)
def test_what_is_compared(headers, mode, crc, found):
    """The CRC comes first, MD5 only where the ETag is one."""
    assert check(headers, mode, crc) == found


@pytest.mark.parametrize(
    ("headers", "mode", "crc", "words"),
    [
        ({CRC_HEADER: "6"}, "auto", 5, "the store has CRC-64 6, but 5 was sent"),
        ({CRC_HEADER: "6"}, "crc64", 5, "5 was sent"),
        ({"etag": MD5}, "crc64", 5, "reported no x-oss-hash-crc64ecma"),
        ({"etag": "0" * 32}, "auto", 5, f"{'0' * 32}, but {MD5} was sent"),
        ({"etag": "x"}, "md5", 5, "the reply has no MD5"),
        (
            AZURE | {"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="},
            "auto",
            5,
            f"{'0' * 32}, ",
        ),
    ],
)
def test_differences(headers, mode, crc, words):
    """A difference, and what is insisted on but missing, is an error."""
    with pytest.raises(IntegrityError, match=words) as caught:
        check(headers, mode, crc)
    assert caught.value.path == "b/k"


class Session(LoopbackServer):
    """A resumable session of Google Cloud Storage, which has got *kept*."""

    kept = b""

    def serve(self, request):
        """Answer as the JSON API does: the ETag says nothing of the bytes."""
        request.rfile.read(int(request.headers["Content-Length"]))
        digest = hashlib.md5(self.kept, usedforsecurity=False).digest()
        about = {"kind": "storage#object", "md5Hash": base64.b64encode(digest).decode()}
        body = json.dumps(about, indent=2).encode()
        request.send_response(200)
        request.send_header("ETag", "CJDN1bHQ4YoDEAE=")
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.mark.parametrize("kept", [b"data", b"other"])
def test_a_session_of_google_says_what_it_has_got(kept):
    """The MD5 in its JSON is compared with the bytes that were sent."""
    with Session() as server:
        server.kept = kept
        query = "uploadType=resumable&name=a.bin&upload_id=CANARYsession"
        url = f"{server.url}/upload/storage/v1/b/bucket/o?{query}"
        fs = fsspec.filesystem("osspresigned", presigned_url=url, allow_http=True)
        if kept == b"data":
            assert fs.pipe_file("", b"data").verified == "md5"
        else:
            with pytest.raises(IntegrityError, match="the store has MD5"):
                fs.pipe_file("", b"data")
