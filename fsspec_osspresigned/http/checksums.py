"""Checksums of bodies, CRC-64 and MD5, and their comparison with the store's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from fastcrc import crc64 as _fastcrc

from ..errors import IntegrityError
from ..other_stores import S3_CUSTOMER_KEY, S3_ENCRYPTION
from .body import Body

CRC_HEADER = "x-oss-hash-crc64ecma"

_POLYNOMIAL = 0xC96C5795D7870F42  # CRC-64/XZ (ECMA-182), reflected
_ONE = 1 << 63  # x^0: in a reflected CRC the highest bit is the lowest power
_PLAIN_MD5 = re.compile(r'"?([0-9A-Fa-f]{32})"?')
_ENCRYPTION = ("x-oss-server-side-encryption", S3_ENCRYPTION)


def md5_of(body: Body) -> str:
    """Return the hexadecimal MD5 of *body*, which is the ETag of a plain object."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in body.blocks():
        digest.update(block)
    return digest.hexdigest()


# Returns the CRC-64/XZ of data, continuing from a second argument, if there is one.
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
    """Return x^(8 * length), the factor by which *length* more bytes change a CRC."""
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
    md5: Callable[[], str],
    mode: str,
    what: object,
    path: str,
) -> str:
    """Compare the store's checksum in *headers* with the bytes sent; return its kind.

    The kind is ``crc64``, ``md5`` (hexadecimal, computed only if needed) or ``none``.
    The mode ``auto`` compares *crc* if both sides have it, else MD5 with a plain ETag.
    The modes ``crc64`` and ``md5`` require that checksum; ``none`` compares nothing.

    Raises:
        IntegrityError: the checksums differ, or the one that *mode* requires is
            missing.
    """
    stated = headers.get(CRC_HEADER)
    if mode in ("auto", "crc64") and stated is not None and crc is not None:
        if stated != str(crc):
            msg = f"{what}: the store has CRC-64 {stated[:24]}, {crc} was sent"
            raise IntegrityError(msg, path=path)
        return "crc64"
    if mode == "crc64":
        msg = f"{what}: the store reported no {CRC_HEADER}; checksum='auto' takes MD5"
        raise IntegrityError(msg, path=path, differs=False)
    plain = _PLAIN_MD5.fullmatch(headers.get("etag", ""))
    if mode in ("auto", "md5") and plain and not _is_by_key(headers):
        if plain[1].lower() != (ours := md5()):
            msg = f"{what}: the store has MD5 {plain[1].lower()}, {ours} was sent"
            raise IntegrityError(msg, path=path)
        return "md5"
    if mode == "md5":
        msg = (
            f"{what}: the ETag of the reply is not an MD5; checksum='auto' accepts that"
        )
        raise IntegrityError(msg, path=path, differs=False)
    return "none"
