"""What the requests of one upload add up to: the numbers of its receipt."""

from __future__ import annotations

import time

from .errors import ExclusiveNotEnforcedError
from .model import PartReceipt, Receipt, Reply
from .publish import CALLBACK_FAILED, Target


class Tally:
    """Counts replies. Not locked: its owner is."""

    def __init__(self, target: Target) -> None:
        """Begin now, with nothing sent."""
        self._target = target
        self._verified: set[str] = set()
        self._retries = 0
        self._resigns = 0
        self._started = time.monotonic()

    def count(self, reply: Reply | None, *verified: str) -> None:
        """Add a reply, None for a part that was stored before, and what verified it."""
        if reply is not None:
            self._retries += reply.retries
            self._resigns += reply.resigns
        self._verified.update(verified)

    def whole_is_verified(self, by: str) -> None:
        """Take what verified the whole object, whatever the parts proved."""
        self._verified = {by}

    def receipt(
        self,
        reply: Reply | None,
        *,
        size: int,
        crc: int | None,
        upload_id: str,
        parts: tuple[PartReceipt, ...],
    ) -> Receipt:
        """Sum up.

        Args:
            reply: the last one; None means that the owner completes.
            size: bytes of the object.
            crc: its CRC-64; None if it was not computed.
            upload_id: of the multipart upload; empty for one PutObject.
            parts: what it consists of.

        Raises:
            ExclusiveNotEnforcedError: it is stored, over what had to stay.
        """
        version = reply.headers.get("x-oss-version-id") if reply else None
        if version and self._target.exclusive:
            msg = (
                f"stored as version {version}, but a bucket that keeps versions ignores "
                "forbid-overwrite: what was there before is hidden now"
            )
            raise ExclusiveNotEnforcedError(
                msg, path=self._target.path, version_id=version
            )
        status = "stored" if reply else "pending"
        if reply and reply.status == CALLBACK_FAILED:
            status = "callback_failed"
        return Receipt(
            path=self._target.path,
            size=size,
            status=status,
            etag=reply.etag.strip('"') if reply else "",
            crc64=crc,
            verified=self._verified.pop() if len(self._verified) == 1 else "none",
            version_id=version,
            request_id=reply.request_id if reply else None,
            upload_id=upload_id or None,
            parts=parts,
            retries=self._retries,
            resigns=self._resigns,
            seconds=time.monotonic() - self._started,
            content_type=self._target.content_type,
        )
