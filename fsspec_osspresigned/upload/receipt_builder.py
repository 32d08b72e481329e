"""Receipt builder: collects part numbers, stored parts and retries of one upload."""

from __future__ import annotations

import time

from ..errors import ExclusiveNotEnforcedError, TooLargeError
from ..http.checksums import combine
from ..model import MAX_PARTS, PartReceipt, Receipt, Reply
from ..options.object_options import Target
from .oss_calls import CALLBACK_FAILED


class ReceiptBuilder:
    """Numbers the parts of one upload and records stored parts. Not thread-safe."""

    def __init__(self, target: Target, max_parts: int = MAX_PARTS) -> None:
        self._target, self._max_parts = target, max_parts
        self._numbered = self._retries = self._resigns = 0
        self._stored: dict[int, PartReceipt] = {}
        self._verified: set[str] = set()
        self._started = time.monotonic()

    def next_number(self) -> int:
        """Return the next part number, from 1; TooLargeError if all are used."""
        if self._numbered >= self._max_parts:
            raise TooLargeError(
                f"all {self._max_parts} parts are used up: more part URLs or larger "
                "parts are needed; nothing was published",
                path=self._target.path,
            )
        self._numbered += 1
        return self._numbered

    def add_part(self, part: PartReceipt, verified: str, reply: Reply | None) -> None:
        """Add a stored part; it replaces an earlier one of the same number, as in OSS.

        *reply* is None for a part that an earlier process stored.
        """
        self._stored[part.part_number] = part
        self._verified.add(verified)
        self._count(reply)

    def _count(self, reply: Reply | None) -> None:
        if reply is not None:
            self._retries += reply.retries
            self._resigns += reply.resigns

    @property
    def parts(self) -> tuple[PartReceipt, ...]:
        """The stored parts by number; AssertionError if a part is missing."""
        numbers = range(1, self._numbered + 1)
        if self._stored.keys() != set(numbers):
            msg = f"parts of {self._target.path} are missing: refusing to complete"
            raise AssertionError(msg)
        return tuple(self._stored[n] for n in numbers)

    @property
    def stored_numbers(self) -> str:
        """The numbers of the stored parts, such as ``1-12, 14``; may be empty."""
        spans: list[list[int]] = []
        for number in sorted(self._stored):
            if spans and spans[-1][1] == number - 1:
                spans[-1][1] = number
            else:
                spans.append([number, number])
        return ", ".join(f"{a}-{b}" if a < b else str(a) for a, b in spans)

    def crc64(self) -> int | None:
        """Return the CRC-64 of the whole object; None if that of a part is unknown."""
        total = 0
        for part in self.parts:
            if part.crc64 is None:
                return None
            total = combine(total, part.crc64, part.size)
        return total

    def build(
        self,
        reply: Reply | None,
        size: int,
        crc64: int | None,
        verified: str = "none",
        upload_id: str = "",
    ) -> Receipt:
        """Return the receipt of *size* stored bytes.

        *reply* None means that the owner completes the upload. *verified* is the kind
        of checksum compared for the whole object; ``none`` uses the kind compared for
        the parts. *upload_id* is empty for one PutObject.

        Raises:
            ExclusiveNotEnforcedError: the object was stored, but the bucket has
                versioning, so an existing object may be hidden now.
        """
        version = reply.headers.get("x-oss-version-id") if reply else None
        if version and self._target.exclusive:
            raise ExclusiveNotEnforcedError(
                f"stored as version {version}, but a bucket that keeps versions ignores "
                "forbid-overwrite: the previous version is hidden now",
                path=self._target.path,
                version_id=version,
            )
        self._count(reply)
        if verified == "none" and len(self._verified) == 1:
            (verified,) = self._verified
        status = "stored" if reply else "pending"
        if reply and reply.status == CALLBACK_FAILED:
            status = "callback_failed"
        return Receipt(
            path=self._target.path,
            size=size,
            status=status,
            etag=reply.etag.strip('"') if reply else "",
            crc64=crc64,
            verified=verified,
            version_id=version,
            request_id=reply.request_id if reply else None,
            upload_id=upload_id or None,
            parts=self.parts if self._numbered else (),
            retries=self._retries,
            resigns=self._resigns,
            seconds=time.monotonic() - self._started,
            content_type=self._target.content_type,
        )
