"""CRC-64 of what is sent, combined over parts, compared with what the store says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from fastcrc import crc64 as _fastcrc

from .errors import IntegrityError

CRC_HEADER = "x-oss-hash-crc64ecma"
MODES = ("auto", "crc64", "md5", "none")

_POLYNOMIAL = 0xC96C5795D7870F42  # CRC-64/XZ (ECMA-182), reflected
_ONE = 1 << 63  # x^0: in a reflected CRC the highest bit is the lowest power
_PLAIN_MD5 = re.compile(r'"?([0-9A-Fa-f]{32})"?')


def crc64(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the CRC-64/XZ of *data*, going on from *start* (0 for a new one)."""
    return _fastcrc.xz(data, start)


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
    """Return x^(2^k)."""
    return _ONE >> 1 if k == 0 else _multiply(_power(k - 1), _power(k - 1))


@lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """Return x^(8 * length): what *length* following bytes do to a CRC."""
    power, k, result = length, 3, _ONE
    while power:
        if power & 1:
            result = _multiply(_power(k), result)
        power >>= 1
        k += 1
    return result


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC of A + B from crc(A), crc(B) and the bytes of B."""
    return _multiply(_shift(second_length), first) ^ second


def compare(
    headers: Mapping[str, str],
    *,
    crc: int | None,
    md5: Callable[[], str],
    mode: str,
    what: str,
    path: str,
) -> str:
    """Compare what the store says with what was sent.

    Args:
        headers: of the reply, names in lower case.
        crc: CRC-64 of the bytes sent; None if it was not computed.
        md5: computes the hexadecimal MD5 of the bytes sent; called only if needed.
        mode: ``auto`` takes the CRC where it came, else MD5 against a plain ETag;
            ``crc64`` and ``md5`` insist; ``none`` compares nothing.
        what: the request, for the message.
        path: ``bucket/key``.

    Returns:
        What was compared: ``crc64``, ``md5`` or ``none``.

    Raises:
        IntegrityError: they differ, or what *mode* insists on did not come.
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
    if mode in ("auto", "md5") and plain and not _encrypted_by_key(headers):
        if plain[1].lower() != (ours := md5()):
            msg = f"{what}: the store has MD5 {plain[1].lower()}, {ours} was sent"
            raise IntegrityError(msg, path=path)
        return "md5"
    if mode == "md5":
        msg = f"{what}: the ETag of the reply is no MD5; checksum='auto' accepts that"
        raise IntegrityError(msg, path=path, differs=False)
    return "none"


def _encrypted_by_key(headers: Mapping[str, str]) -> bool:
    """Return whether the ETag need not be an MD5: not promised under KMS and SM4."""
    names = ("x-oss-server-side-encryption", "x-amz-server-side-encryption")
    return any(headers.get(n, "AES256") != "AES256" for n in names)
