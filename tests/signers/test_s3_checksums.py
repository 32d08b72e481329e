"""Checksums that S3-compatible stores compare."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.http.body import EMPTY, MemoryBody
from fsspec_osspresigned.signers.s3_checksums import CHECKSUMS

NINE = MemoryBody(b"123456789")


@pytest.mark.parametrize(
    ("kind", "of_nine", "of_nothing"),
    [
        ("crc32", "y/Q5Jg==", "AAAAAA=="),
        ("crc32c", "4waSgw==", "AAAAAA=="),
        ("sha1", "98O8HYCOBHMq32eZZczDTKeuNEE=", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
        (
            "sha256",
            "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        ),
    ],
)
def test_checksums_are_those_of_their_definitions(kind, of_nine, of_nothing):
    """The check values of the CRC catalogue and of the SHA standards, in base64."""
    compute = CHECKSUMS[f"x-amz-checksum-{kind}"]
    assert (compute(NINE), compute(EMPTY)) == (of_nine, of_nothing)
