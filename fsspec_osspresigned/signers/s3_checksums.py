"""Checksums that S3-compatible stores require.

A presigned URL signs a checksum either as a parameter with its value, or as a header whose
value the sender adds. By default, SDKs sign the checksum of an empty body.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve
from fastcrc import crc32 as _fastcrc

from ..errors import NotCoveredError
from ..http.body import EMPTY, Body
from ..model import Operation, SignedRequest
from ..other_stores import S3_CHECKSUM
from ..signing.canonical import parse_query
from ..signing.signed_url import describe


def _crc(update: Callable[[Any, int], int]) -> Callable[[Body], str]:
    def compute(body: Body) -> str:
        crc = 0
        for block in body.blocks():
            crc = update(block, crc)
        return base64.b64encode(crc.to_bytes(4, "big")).decode()

    return compute


def _hash(name: str) -> Callable[[Body], str]:
    def compute(body: Body) -> str:
        digest = hashlib.new(name, usedforsecurity=False)
        for block in body.blocks():
            digest.update(block)
        return base64.b64encode(digest.digest()).decode()

    return compute


# Header -> function that computes its value in one pass. fastcrc has no CRC-64/NVME.
CHECKSUMS: Mapping[str, Callable[[Body], str]] = {
    f"{S3_CHECKSUM}crc32": _crc(zlib.crc32),
    f"{S3_CHECKSUM}crc32c": _crc(_fastcrc.iscsi),
    f"{S3_CHECKSUM}sha1": _hash("sha1"),
    f"{S3_CHECKSUM}sha256": _hash("sha256"),
}


def with_checksums(
    operation: Operation, signed: SignedRequest, body: Body
) -> SignedRequest:
    """Return *signed* with the checksum headers that its URL requires.

    *body* is read once for each checksum algorithm. Raises NotCoveredError if the URL
    was signed for other bytes, or with a checksum that is not supported.
    """
    if operation.action.spec.body != "data":
        return signed
    headers = dict(signed.headers)
    by_name = {name.lower(): value for name, value in headers.items()}
    for name, value in _signed_checksums(signed):
        checksum = CHECKSUMS.get(name)
        wanted = value or by_name.get(name)
        if checksum is None:
            if wanted is None:
                why = f"its URL requires {name}, which is not supported"
                raise _refused(operation, f"{why}: sign without it, or give the header")
            continue  # the store compares the checksum itself
        ours = checksum(body)
        if wanted is None:
            headers[name] = ours
        elif wanted != ours:
            why = f"its URL was signed with another {name} than the body's"
            if wanted == checksum(EMPTY):
                why = f"its URL was signed with the {name} of an empty body, which is a default of SDKs: sign without checksums (WHEN_REQUIRED)"
            raise _refused(operation, why)
    return evolve(signed, headers=headers)


def _signed_checksums(signed: SignedRequest) -> Iterator[tuple[str, str | None]]:
    """Yield name and value of each signed checksum.

    The value is None if the sender sets it.
    """
    listed = describe(signed.url).additional_headers
    pairs = parse_query(urlsplit(signed.url.reveal()).query)
    in_query = {n.lower(): v for n, v in pairs if n.lower().startswith(S3_CHECKSUM)}
    del pairs  # the pairs contain the signature, and tracebacks may show variables
    for name in sorted({*in_query, *(n for n in listed if n.startswith(S3_CHECKSUM))}):
        if name.removeprefix(S3_CHECKSUM) not in ("algorithm", "mode", "type"):
            yield name, in_query.get(name)


def _refused(operation: Operation, why: str) -> NotCoveredError:
    return NotCoveredError(
        f"{operation}: {why}", path=operation.path, action=operation.action
    )
