"""Copies inside the store (CopyObject, UploadPartCopy), and their verification.

If HEAD is granted, the source is checked first. The copy then requires the ETag of the
source, so two versions cannot be mixed, and the copy is compared with the source.
Without HEAD, the reply of the store is trusted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress

from attrs import evolve, field, frozen

from ..client.client import Client
from ..client.operations import SHORT, OSSCalls, means_unseen, size_of
from ..engine import abort_at_exit
from ..engine.engine import in_background, to_its_end
from ..engine.logs import Logger
from ..engine.scope import in_parallel
from ..errors import (
    IntegrityError,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
)
from ..http.checksums import CRC_HEADER, combine
from ..model import FORBID_OVERWRITE, MAX_PARTS, PartReceipt
from ..options.target import Target
from ..signers.base import MultipartGrant
from ..units import GIB, MIB
from .ranges import changed, is_changed

_log = Logger(__name__)

# OSS API reference, CopyObject. Larger objects need UploadPartCopy.
MAX_SINGLE_COPY = 1 * GIB
COPY_PART = 128 * MIB

# Headers that may be set while a copy keeps its source's Content-Type and metadata.
_KEEP = {FORBID_OVERWRITE, "x-oss-storage-class", "x-oss-object-acl"}
# Headers that CopyObject copies by itself, and that a copy in parts must set (same
# source).
_CARRIED = (
    *("content-type", "cache-control", "content-disposition"),
    *("content-encoding", "content-language", "expires"),
)


@frozen
class SourceHead:
    """HEAD reply for the source of a copy.

    Two are equal if size, ETag and CRC-64 are equal. Then the object was not replaced.
    """

    size: int
    etag: str  # value of the header, like the CRC-64
    crc64: str | None
    headers: Mapping[str, str] = field(eq=False)

    @classmethod
    async def fetch(cls, client: Client, path: str) -> SourceHead:
        headers = await OSSCalls(client, Target(path)).head()
        size = size_of(headers, path)
        return cls(size, headers.get("etag", ""), headers.get(CRC_HEADER), headers)

    @property
    def number(self) -> int | None:
        text = self.crc64 or ""
        return int(text) if text.isdecimal() else None


@frozen
class Copying:
    """Copies the object *path* to *target*, inside the store.

    *source* is the HEAD reply for *path*; None requests it, if HEAD is granted.
    """

    client: Client
    path: str
    target: Target
    source: SourceHead | None = None

    async def run(self) -> str | None:
        """Copy the object; up to 1 GiB takes one CopyObject call.

        Content-Type and metadata are copied from the source. If *target* sets any of
        them, none are copied (OSS API reference, ``x-oss-metadata-directive``).

        Returns the CRC-64 of the copy, in decimal; None if the store does not report it.

        Raises:
            IntegrityError: the copy differs from its source.
            ObjectNotFoundError: the source does not exist; its ``path`` is the source.
            SourceChangedError: the source was replaced during the copy.
        """
        source = self.source or await self._look()
        try:
            if source is not None and source.size > MAX_SINGLE_COPY:
                return await self._in_parts(source)
            return await self._at_once(source)
        except ObjectNotFoundError as error:
            if error.code == "NoSuchKey":  # the target may be missing
                error.path = error.filename = self.path
            raise
        except InvalidRequestError as error:
            if source is not None and is_changed(error):
                raise changed(self.path) from error
            raise

    async def _look(self) -> SourceHead | None:
        try:
            return await SourceHead.fetch(self.client, self.path)
        except PermissionError as error:
            if not means_unseen(error):
                raise
            return None

    # -- one request --------------------------------------------------------------------

    async def _at_once(self, source: SourceHead | None) -> str | None:
        replaced = {"x-oss-metadata-directive": "REPLACE"} if self._replaces else {}
        optional = _condition(source)
        if self.target.kind.keeps_hidden:
            optional[FORBID_OVERWRITE] = "true"
        try:
            calls = OSSCalls(self.client, self.target)
            stated = await calls.copy(self.path, replaced, optional)
        except ObjectExistsError as error:
            if error.tries == 1 or source is None:
                raise
            # The existing object may come from an earlier try whose reply was lost.
            try:
                await prove(self.client, source, self.target.path)
            except (IntegrityError, PermissionError):
                raise error from None
            return source.crc64
        if source is None or source.crc64 is None:
            return stated
        if stated is not None:
            _compare(source, source.size, stated, self.target.path)
            return stated
        try:
            await prove(self.client, source, self.target.path)
        except PermissionError:
            _log.info("%s: HeadObject of the copy is not granted", self.target.path)
            return None
        return source.crc64

    @property
    def _replaces(self) -> bool:
        return any(name.lower() not in _KEEP for name in self.target.kind.headers)

    # -- in parts -----------------------------------------------------------------------

    async def _in_parts(self, source: SourceHead) -> str | None:
        upload = _UploadOfCopy(OSSCalls(self.client, self._carrying(source)))
        abort_at_exit.add(upload)
        try:
            await to_its_end(upload.begin())  # otherwise its upload ID would be unknown
            parts = await self._parts(source, upload.upload_id)
            await upload.calls.complete(
                upload.upload_id, parts, source.number, MultipartGrant()
            )
            upload.end()
        except BaseException as error:
            await to_its_end(upload.abort(once=not isinstance(error, Exception)))
            raise
        return source.crc64

    def _carrying(self, source: SourceHead) -> Target:
        """Return the target with the headers that CopyObject would copy from *source*."""
        if self._replaces:
            return self.target
        if "x-oss-tagging-count" in source.headers:
            text = "%s: HEAD does not show the tags of %s, so they are not copied"
            _log.warning(text, self.target.path, self.path)
        carried = {
            name: value
            for name, value in source.headers.items()
            if name in _CARRIED or name.startswith("x-oss-meta-")
        }
        kind = evolve(self.target.kind, headers={**carried, **self.target.kind.headers})
        return Target(self.target.path, kind)

    async def _parts(
        self, source: SourceHead, upload_id: str
    ) -> tuple[PartReceipt, ...]:
        """Copy all parts, several at a time; return their receipts in order.

        Raises IntegrityError if the parts differ from *source*, or may come from two
        versions.
        """
        size = max(COPY_PART, -(-source.size // MAX_PARTS))
        jobs = range(0, source.size, size)
        calls, condition = OSSCalls(self.client, self.target), _condition(source)

        async def work(offset: int) -> PartReceipt:
            span = range(offset, min(offset + size, source.size))
            number = offset // size + 1
            return await calls.copy_part(self.path, span, upload_id, number, condition)

        parts = tuple(await in_parallel(work, jobs, self.client.options.connections))
        sums = [(part.crc64, part.size) for part in parts if part.crc64 is not None]
        if source.number is not None and len(sums) == len(parts):
            crc = 0
            for crc_of_part, size_of_part in sums:
                crc = combine(crc, crc_of_part, size_of_part)
            _compare(source, source.size, str(crc), self.target.path)
        elif not source.etag:  # no condition has kept all parts to one version
            msg = (
                "without ETag and CRC-64, a copy in parts could mix two versions of "
                f"{self.path}: nothing was published"
            )
            raise IntegrityError(msg, path=self.target.path)
        return parts


class _UploadOfCopy:
    """Multipart upload of a copy; ``abort_at_exit`` aborts it if the process ends."""

    def __init__(self, calls: OSSCalls) -> None:
        self.calls, self.upload_id, self.is_ended = calls, "", False
        self._is_over, self._pid = False, os.getpid()

    @property
    def is_over(self) -> bool:
        return self._is_over or os.getpid() != self._pid

    def end(self) -> None:
        self.is_ended = self._is_over = True

    async def begin(self) -> None:
        """Initiate the upload; abort it if ``abort`` was called meanwhile."""
        try:
            self.upload_id, _ = await self.calls.initiate(is_over=lambda: self.is_ended)
            if self.is_ended:
                await self.calls.abort(self.upload_id, once=True)
        finally:
            self._is_over = self.is_ended or not self.upload_id

    async def abort(self, *, once: bool) -> None:
        was_ended, self.is_ended = self.is_ended, True
        if not self.upload_id or was_ended:
            return
        try:
            with suppress(TimeoutError):  # the log names what is left
                async with asyncio.timeout(SHORT if once else None):
                    await self.calls.abort(self.upload_id, once=once)
        finally:
            self._is_over = True

    def stop(self) -> None:
        """Begin to abort because the process ends; does not wait."""
        in_background(lambda: self.abort(once=True))


def _condition(source: SourceHead | None) -> dict[str, str]:
    if source is None or not source.etag:
        return {}
    return {"x-oss-copy-source-if-match": source.etag}


async def prove(client: Client, source: SourceHead, path: str) -> None:
    """Check with HEAD that the object *path* is a copy of *source*.

    Size and CRC-64 are compared; if a CRC-64 is unknown, size and ETag.

    Raises:
        IntegrityError: the copy is missing, or is not proved to be equal.
        PermissionError: HEAD is not granted.
    """
    try:
        copy = await SourceHead.fetch(client, path)
    except FileNotFoundError as error:
        raise IntegrityError("the copy does not exist", path=path) from error
    if copy.crc64 is not None and source.crc64 is not None:
        _compare(source, copy.size, copy.crc64, path)
    elif copy.size != source.size or not copy.etag or copy.etag != source.etag:
        msg = "the copy cannot be verified: neither CRC-64 nor ETag equals the source's"
        raise IntegrityError(msg, path=path)


def _compare(source: SourceHead, size: int, crc: str, path: str) -> None:
    if (size, crc) != (source.size, source.crc64 or crc):
        copied = f"the copy has {size} bytes and CRC-64 {crc[:24]}"
        msg = f"{copied}, its source {source.size} and {source.crc64}"
        raise IntegrityError(msg, path=path)
