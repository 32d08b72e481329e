"""Checksum algorithms of S3-compatible stores, by the names of their headers."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from fastcrc import crc32 as _fastcrc

from .body import Body

CHECKSUM = "x-amz-checksum-"


def _crc(go_on: Callable[[Any, int], int]) -> Callable[[Body], str]:
    def compute(body: Body) -> str:
        crc = 0
        for block in body.blocks():
            crc = go_on(block, crc)
        return base64.b64encode(crc.to_bytes(4, "big")).decode()

    return compute


def _hash(name: str) -> Callable[[Body], str]:
    def compute(body: Body) -> str:
        digest = hashlib.new(name, usedforsecurity=False)
        for block in body.blocks():
            digest.update(block)
        return base64.b64encode(digest.digest()).decode()

    return compute


# Header -> what computes its value in one pass; fastcrc has no CRC-64/NVME.
CHECKSUMS: Mapping[str, Callable[[Body], str]] = {
    f"{CHECKSUM}crc32": _crc(zlib.crc32),
    f"{CHECKSUM}crc32c": _crc(_fastcrc.iscsi),
    f"{CHECKSUM}sha1": _hash("sha1"),
    f"{CHECKSUM}sha256": _hash("sha256"),
}
