"""The pure half of uploading: into which parts, which are stored, what they sum up to."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from . import xmldoc
from .checksum import combine
from .errors import ConfigurationError, TooLargeError
from .model import (
    LARGEST_PART,
    MAX_PART,
    MAX_PARTS,
    MAX_SINGLE_PUT,
    MIB,
    MIN_PART,
    PartReceipt,
)
from .signers.base import Grant, MultipartGrant

# A stream keeps its part size for the first half of the 10,000 parts, then doubles it
# every 500 parts: 8 MiB parts reach 39 GiB unchanged and 7 TiB in all.
_CONSTANT_PARTS = 5_000
_DOUBLE_EVERY = 500


# Where the size of parts is ours, they are as many as there are connections, whatever
# `max_concurrency` a second try has; in a large file two for each.
_CONNECTIONS = 16
_SMALLEST_PART = MIB


@frozen(kw_only=True)
class Plan:
    """How one object is cut.

    Attributes:
        multipart: parts from the start; False sends one PutObject as long as it can.
        part_size: bytes of every part but the last.
        max_parts: parts that can be sent at most.
        grows: whether later parts of a stream get larger.
        spools: a stream waits on disk, because only one PutObject is granted.
    """

    multipart: bool
    part_size: int
    max_parts: int = MAX_PARTS
    grows: bool = False
    spools: bool = False

    def size_of(self, number: int) -> int:
        """Return the bytes of part *number* (1 or more) unless it is the last."""
        if not self.grows or number <= _CONSTANT_PARTS:
            return self.part_size
        doublings = (number - _CONSTANT_PARTS - 1) // _DOUBLE_EVERY + 1
        return min(self.part_size << doublings, MAX_PART)

    def cut(self, size: int | None) -> Iterator[tuple[int, int]]:
        """Yield number and bytes of the parts of *size* bytes; None for a stream.

        A stream has as many whole ones as there can be: nobody knows when it ends.
        """
        left = size
        for number in range(1, self.max_parts + 1):
            part = self.size_of(number)
            if left is not None:
                part = min(part, left)
                left -= part
            yield number, part
            if left == 0:
                return


def plan_for(
    grant: Grant,
    *,
    size: int | None,
    part_size: int | None,
    threshold: int,
    path: str,
    largest: int = LARGEST_PART,
) -> Plan:
    """Decide how an object is cut.

    Args:
        grant: what the signer lets us send.
        size: bytes of the object; None for a stream.
        part_size: bytes wanted per part; None for what keeps 16 connections busy: from
            1 MiB to *largest* for a known size, else 8 MiB.
        threshold: bytes above which parts are used although one PUT would do.
        path: ``bucket/key``, for errors.
        largest: bytes of a part at most where *part_size* is None.

    Raises:
        ConfigurationError: the grant cannot carry the object; lists every reason.
    """
    if size is None:
        return _plan_stream(grant, part_size or LARGEST_PART, path)
    parts = grant.multipart
    fits_single = grant.single and size <= MAX_SINGLE_PUT
    if fits_single and (parts is None or size <= threshold):
        return Plan(multipart=False, part_size=max(size, 1))
    problems = []
    if grant.single and not fits_single:
        problems.append(f"one PUT holds 5 GiB at most, the object has {size} bytes")
    if parts is None:
        raise ConfigurationError([*problems, "no parts are granted"], path=path)
    wanted = part_size or _adapted(size, largest)
    cut = parts.part_size or _part_size_for(size, wanted, parts)
    need = max(1, -(-size // cut))
    misfits = []
    if need > parts.max_parts:
        misfits.append(
            f"{size} bytes in parts of {cut} need {need} parts, "
            f"{parts.max_parts} can be signed"
        )
    if need > 1 and cut < MIN_PART:
        misfits.append(f"parts of {cut} bytes are below the minimum of 100 KiB")
    if min(cut, size) > MAX_PART:
        misfits.append(f"parts of {cut} bytes are above the maximum of 5 GiB")
    if not misfits:
        return Plan(multipart=True, part_size=cut, max_parts=parts.max_parts)
    if fits_single:
        return Plan(multipart=False, part_size=max(size, 1))
    raise ConfigurationError(problems + misfits, path=path)


def _adapted(size: int, largest: int) -> int:
    one_each, two_each = -(-size // _CONNECTIONS), -(-size // (2 * _CONNECTIONS))
    part = one_each if one_each <= LARGEST_PART else max(two_each, LARGEST_PART)
    return max(_SMALLEST_PART, min(-(-part // MIB) * MIB, largest))


def _part_size_for(size: int, wanted: int, parts: MultipartGrant) -> int:
    """Return the bytes of a part where the grant leaves them to us."""
    least = max(MIN_PART, -(-size // parts.max_parts))
    if parts.is_owners:
        return least  # the URL map's rule: as many parts as there are URLs
    return wanted if least <= wanted else -(-least // MIB) * MIB


def _plan_stream(grant: Grant, part_size: int, path: str) -> Plan:
    parts = grant.multipart
    if parts is None:
        return Plan(multipart=False, part_size=part_size, max_parts=1, spools=True)
    if parts.is_owners and parts.part_size is None:
        if grant.single:
            return Plan(multipart=False, part_size=part_size, max_parts=1, spools=True)
        msg = (
            "a stream needs to know the part size of its part URLs: put "
            '"part_size" into the entry, or upload a file of known size'
        )
        raise ConfigurationError(msg, path=path)
    return Plan(
        multipart=not grant.single,
        part_size=parts.part_size or part_size,
        max_parts=parts.max_parts,
        grows=parts.part_size is None,
    )


class Ledger:
    """Which parts were given out and which are stored. Not locked: its owner is."""

    def __init__(self, plan: Plan, path: str) -> None:
        """Begin with no part."""
        self._plan = plan
        self._path = path
        self._given = 0
        self._stored: dict[int, PartReceipt] = {}

    def give(self) -> int:
        """Return the next part number, counted from 1.

        Raises:
            TooLargeError: all part numbers are given out.
        """
        if self._given >= self._plan.max_parts:
            msg = (
                f"all {self._plan.max_parts} parts are used up: more part URLs or "
                "larger parts are needed; nothing was published"
            )
            raise TooLargeError(msg, path=self._path)
        self._given += 1
        return self._given

    def store(self, part: PartReceipt) -> None:
        """Note a stored part; the last word on a number counts, as in OSS."""
        self._stored[part.part_number] = part

    @property
    def parts(self) -> tuple[PartReceipt, ...]:
        """The stored parts in order.

        Raises:
            AssertionError: a part that was given out is not stored; never publish then.
        """
        numbers = range(1, self._given + 1)
        if set(self._stored) != set(numbers):
            msg = f"parts of {self._path} are missing: refusing to complete"
            raise AssertionError(msg)
        return tuple(self._stored[n] for n in numbers)

    @property
    def numbers(self) -> str:
        """The numbers of the stored parts, for people: ``1-12, 14``; may be empty."""
        spans: list[list[int]] = []
        for number in sorted(self._stored):
            if spans and spans[-1][1] == number - 1:
                spans[-1][1] = number
            else:
                spans.append([number, number])
        return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in spans)

    @property
    def size(self) -> int:
        """Bytes of all stored parts."""
        return sum(part.size for part in self._stored.values())

    def crc64(self) -> int | None:
        """Return the CRC-64 of the whole object; None if one part has none."""
        total = 0
        for part in self.parts:
            if part.crc64 is None:
                return None
            total = combine(total, part.crc64, part.size)
        return total

    def document(self) -> bytes:
        """Return the body of CompleteMultipartUpload."""
        return xmldoc.complete_multipart_upload(
            (part.part_number, part.etag) for part in self.parts
        )
