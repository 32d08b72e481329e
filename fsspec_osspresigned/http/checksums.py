"""Checksums of bodies, CRC-64 and MD5, and their comparison with the store's."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cache, lru_cache

from fastcrc import crc64 as _fastcrc

from ..errors import IntegrityError
from ..other_stores import AZURE_REQUEST_ID, S3_CUSTOMER_KEY, S3_ENCRYPTION
from .body import Body

CRC_HEADER = "x-oss-hash-crc64ecma"
_MD5_HEADER = "content-md5"
_MD5_BYTES = 16

_POLYNOMIAL = 0xC96C5795D7870F42  # CRC-64/XZ (ECMA-182), reflected
_ONE = 1 << 63  # x^0: the highest bit of a reflected CRC is the lowest power
_PLAIN_MD5 = re.compile(r'"?([0-9A-Fa-f]{32})"?')
_MD5_OF_GOOGLE = re.compile(rb'"md5Hash"\s*:\s*"([A-Za-z0-9+/]{22}==)"')
_ENCRYPTION = ("x-oss-server-side-encryption", S3_ENCRYPTION)


def md5_of(body: Body) -> str:
    """Return the hexadecimal MD5 of *body*, which is the ETag of a plain object."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in body.blocks():
        digest.update(block)
    return digest.hexdigest()


def digests_of(body: Body, names: Collection[str]) -> dict[str, str]:
    """Return the hexadecimal digests *names*, such as ``sha256``, from one pass."""
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    for block in body.blocks():
        for digest in digests.values():
            digest.update(block)
    return {name: digest.hexdigest() for name, digest in digests.items()}


# Returns the CRC-64/XZ of the data. A second argument is the CRC-64 of the bytes
# before.
crc64: Callable[..., int] = _fastcrc.xz


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials over GF(2) modulo the CRC polynomial."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFFFFFFFFFF
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@cache
def _power(k: int) -> int:
    """Return the polynomial x^(2^k) over GF(2) modulo the CRC polynomial."""
    return _ONE >> 1 if k == 0 else _multiply(_power(k - 1), _power(k - 1))


@lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """Return x^(8 * length), the factor for appending *length* bytes to a CRC."""
    result = _ONE
    for k in range(length.bit_length()):
        if length >> k & 1:
            result = _multiply(_power(k + 3), result)
    return result


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC of A + B from the CRCs of A and B and the size of B in bytes."""
    return _multiply(_shift(second_length), first) ^ second


def _is_by_key(headers: Mapping[str, str]) -> bool:
    """Return whether the object is encrypted with KMS, SM4 or a customer's key.

    The store then does not promise that the ETag is an MD5.
    """
    by_kms = any(headers.get(name, "AES256") != "AES256" for name in _ENCRYPTION)
    return by_kms or S3_CUSTOMER_KEY in headers


def compare(
    headers: Mapping[str, str],
    *,
    crc: int | None,
    md5: Callable[[], str] | None = None,
    mode: str | None = None,
    what: object,
    path: str,
) -> str:
    """Compare the store's checksum in *headers* with the bytes sent; return its kind.

    The kind is ``crc64``, ``md5`` (hexadecimal, computed only if needed) or ``none``.
    The mode ``auto`` compares *crc* if both sides have it, otherwise the MD5 with a
    plain ETag. The modes ``crc64`` and ``md5`` require this checksum; ``none`` compares
    nothing. The mode None compares *crc* if both sides have it.

    Raises:
        IntegrityError: the checksums differ, or the required checksum is missing.
    """
    stated = headers.get(CRC_HEADER)
    if stated is not None and crc is not None and mode in (None, "auto", "crc64"):
        if stated != str(crc):
            msg = f"{what}: the store has CRC-64 {stated[:24]}, but {crc} was sent"
            raise IntegrityError(msg, path=path)
        return "crc64"
    if mode == "crc64":
        msg = f"{what}: the store reported no {CRC_HEADER}; checksum='auto' takes MD5"
        raise IntegrityError(msg, path=path, differs=False)
    digest = None if md5 is None else _stated_md5(headers)
    if mode in ("auto", "md5") and md5 is not None and digest:
        if digest != (ours := md5()):
            msg = f"{what}: the store has MD5 {digest}, but {ours} was sent"
            raise IntegrityError(msg, path=path)
        return "md5"
    if mode == "md5":
        msg = f"{what}: the reply has no MD5; checksum='auto' accepts that"
        raise IntegrityError(msg, path=path, differs=False)
    return "none"


def etag_of_google(body: bytes) -> dict[str, str]:
    """Return the MD5 in *body* as an ETag; empty if none.

    A resumable session of Google Cloud Storage replies with JSON; its header ETag is no
    MD5.
    """
    stated = _MD5_OF_GOOGLE.search(body)
    return {"etag": base64.b64decode(stated[1]).hex()} if stated else {}


def _stated_md5(headers: Mapping[str, str]) -> str | None:
    """Return the object's MD5 in the reply, in hexadecimal; None if the reply has none.

    Azure sends it as Content-MD5. OSS and others send it as the ETag of a plain object.
    """
    digest = None
    if AZURE_REQUEST_ID in headers:
        # on other stores, this header is the MD5 of the reply (RFC 1864)
        with suppress(ValueError):
            decoded = base64.b64decode(headers.get(_MD5_HEADER, ""), validate=True)
            digest = decoded.hex() if len(decoded) == _MD5_BYTES else None
    elif plain := _PLAIN_MD5.fullmatch(headers.get("etag", "")):
        digest = plain[1].lower()
    return None if digest is None or _is_by_key(headers) else digest
