"""The pure half of uploading: into which parts, which are stored, what they sum up to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from attrs import frozen

from .. import parsing
from ..client.client import Client
from ..errors import ConfigurationError, NotSignedError, TooLargeError
from ..http.body import combine
from ..model import (
    LARGEST_FILE_PART,
    LARGEST_PART,
    MAX_PART,
    MAX_PARTS,
    MAX_SINGLE_PUT,
    MIN_PART,
    Action,
    Operation,
    PartReceipt,
)
from ..options.object_options import Target
from ..signers.base import Grant, MultipartGrant, grant_for, preflight
from ..units import MIB

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
        return parsing.complete_multipart_upload(
            (part.part_number, part.etag) for part in self.parts
        )


# What is checked before the first byte of an upload leaves.


def plan(
    client: Client,
    target: Target,
    grant: Grant,
    size: int | None,
    *,
    at_hand: bool = False,
) -> Plan:
    """Return into what an object of *size* bytes is cut; None for a stream.

    Args:
        client: the options.
        target: where to.
        grant: how the object may be uploaded.
        size: bytes in all; None for a stream.
        at_hand: whether parts take no memory. They may be large then, unless what was
            sent of them is to be kept through a crash.

    Raises:
        ConfigurationError: what is granted cannot carry it, with every reason.
    """
    return plan_for(
        grant,
        size=size,
        part_size=client.options.part_size,
        threshold=client.options.multipart_threshold,
        path=target.path,
        largest=LARGEST_FILE_PART
        if at_hand and client.checkpoint is None
        else LARGEST_PART,
    )


def opening(client: Client, target: Target, size: int) -> Operation:
    """Return the first request of an upload of *size* bytes.

    Raises:
        ConfigurationError: what is granted cannot carry it.
        NotSignedError: the signer has nothing for this path.
    """
    grant = grant_for(client.signer, target.path)
    if plan(client, target, grant, size).multipart:
        return target.initiate_operation()
    return target.put_operation(size)


def refuse_expired(grant: Grant, path: str) -> None:
    """Refuse what can no longer start.

    Raises:
        NotSignedError: the first of the presigned URLs has expired.
    """
    if (ends := grant.expires_at) is not None and ends <= time.time():
        when = datetime.fromtimestamp(ends, UTC).isoformat(" ", "seconds")
        msg = f"its presigned URL expired at {when}: ask the owner for a new one"
        raise NotSignedError(msg, path=path)


def check(
    client: Client, target: Target, grant: Grant, cut: Plan, size: int | None
) -> None:
    """Refuse what the granted requests cannot carry.

    Costs no call: a signer that must be asked first is not asked here.

    Args:
        client: the options, and the signer.
        target: where to, and with which headers.
        grant: how the object may be uploaded.
        cut: into which parts it will be.
        size: bytes in all; None for a stream.

    Raises:
        ConfigurationError: with every reason.
        NotSignedError: a presigned URL that will be needed cannot be used so.
    """
    granted = grant.multipart or MultipartGrant()
    problems = []
    if cut.multipart and not granted.completes and client.options.receipts is None:
        problems.append(
            "the owner completes this upload from its receipts: receipts= is required"
        )
    lost = sorted(set(target.on_initiate) - set(target.on_complete))
    if cut.multipart and granted.is_owners and lost:
        problems.append(
            f"the owner has initiated this upload: {', '.join(lost)} cannot be set now"
        )
    if problems:
        raise ConfigurationError(problems, path=target.path)
    if hasattr(client.signer, "preflight"):  # else nobody would look at them
        for operation in _needed(target, grant, cut, size):
            preflight(client.signer, operation)


def _needed(
    target: Target, grant: Grant, cut: Plan, size: int | None
) -> Iterator[Operation]:
    """Yield the requests that the upload will surely need, or may if it is a stream."""
    if grant.single and not cut.multipart:
        yield target.put_operation(size)
    parts = grant.multipart
    streams = size is None and not cut.spools
    if parts is None or not parts.upload_id or not (cut.multipart or streams):
        return
    length = None if size is None else min(size, cut.part_size)
    yield target.part_operation(parts.upload_id, 1, length)
    if parts.completes:
        yield target.operation(
            Action.CompleteMultipartUpload,
            headers=target.on_complete,
            upload_id=parts.upload_id,
        )
