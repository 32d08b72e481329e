"""What a call is worked on with: the request, its body, the store and the settings."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from attrs import define, frozen

from ...http.body import CRC_HEADER
from ..faults.connection import DisconnectedError, Trap
from ..message.answers import Answer, RefusedError, quoted
from ..message.call import Call
from ..store.bodies import CHUNK, Piece, Spool
from ..store.store import Bucket, KeyTakenError, Store, StoredObject

# The clock that the emulator believes: a source, and how far it is off.


@define
class Clock:
    """Seconds since the epoch; called like ``time.time``.

    Attributes:
        source: the clock underneath.
        offset: seconds that the emulator is ahead of it; negative for behind.
    """

    source: Callable[[], float]
    offset: float = 0.0

    def __call__(self) -> float:
        """Return the time as the emulator believes it."""
        return self.source() + self.offset

    def jump(self, seconds: float) -> None:
        """Move forward by *seconds*, or back if they are negative."""
        self.offset += seconds


# The body of a request while it comes in.

_SMALL = 64 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Incoming:
    """Reads a body once, in order, never more of it at a time than a few MiB.

    Attributes:
        received: bytes so far.
        traps: what a fault does at which byte, in order.
        pace: waits for as long as so many bytes should take; None does not.
    """

    def __init__(self, receive: Receive, *, timeout: float) -> None:
        """Read from *receive*, waiting at most *timeout* seconds for the next bytes."""
        self._receive = receive
        self._timeout = timeout
        self.traps: list[Trap] = []
        self.pace: Callable[[int], Awaitable[None]] | None = None
        self._more = True
        self.received = 0

    async def into(self, spool: Spool, *, limit: int) -> None:
        """Write the rest of the body into *spool*.

        Raises:
            RefusedError: more than *limit* bytes came, or none for too long.
            DisconnectedError: the client left before the end.
            CutError: a fault wants the connection broken.
        """
        loop = asyncio.get_running_loop()
        writing: asyncio.Future[None] | None = None
        try:
            async for chunk in self._gathered():
                # The one before is hashed in its thread while this one came in.
                if writing is not None:
                    await writing
                    writing = None
                if self.received > limit:
                    raise too_large(limit)
                if len(chunk) <= _SMALL:
                    spool.write(chunk)
                else:
                    writing = loop.run_in_executor(None, spool.write, chunk)
        finally:
            if writing is not None:
                await writing

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            RefusedError, DisconnectedError, CutError: as for :meth:`into`.
        """
        body = bytearray()
        async for chunk in self._gathered():
            body += chunk
            if len(body) > limit:
                raise too_large(limit)
        return bytes(body)

    async def drain(self) -> None:
        """Read what is left and throw it away.

        Raises:
            RefusedError, DisconnectedError, CutError: as for :meth:`into`.
        """
        async for _ in self._gathered():
            pass

    async def _gathered(self) -> AsyncIterator[bytearray]:
        gathered = bytearray()
        while self._more:
            gathered += await self._next()
            if len(gathered) >= CHUNK:
                yield gathered
                gathered = bytearray()
        if gathered:
            yield gathered

    async def _next(self) -> bytes:
        await self._spring(self.received)
        body = await self._take()
        if self.pace is not None:
            await self.pace(len(body))
        whole = self.received + len(body)
        await self._spring(whole)
        self.received = whole
        return body

    async def _spring(self, reached: int) -> None:
        """Spring the traps up to *reached*, and all that are left at the end."""
        while self.traps and (self.traps[0][0] <= reached or not self._more):
            position, spring = self.traps.pop(0)
            self.received = max(self.received, min(position, reached))
            await spring()

    async def _take(self) -> bytes:
        try:
            async with asyncio.timeout(self._timeout):
                message = await self._receive()
        except TimeoutError as error:
            # The rest of the body may still come: the connection cannot go on.
            raise RefusedError(
                400,
                "RequestTimeout",
                "Your socket connection to the server was not read from or written to "
                "within the timeout period.",
                headers={"Connection": "close"},
            ) from error
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        body: bytes = message.get("body", b"")
        self._more = message.get("more_body", False)
        return body


def too_large(limit: int) -> RefusedError:
    """Return the refusal of a body above *limit* bytes."""
    return RefusedError(
        400,
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed object size.",
        extras={"MaxSizeAllowed": str(limit)},
    )


Callback = Callable[[Mapping[str, Any]], bytes | None]

DEFAULT_REGION = "cn-hangzhou"
OWNER = "1000000000000001"

_MAX_CALLBACK = 5 * 1024


def accept_callback(_: Mapping[str, Any]) -> bytes | None:
    """Play a callback server that is content with everything."""
    return b'{"Status":"OK"}'


@define(kw_only=True)
class Settings:
    """What may be chosen for all calls.

    Attributes:
        clock: seconds since the epoch, as the server believes.
        min_part: bytes below which only the last part may be.
        max_put: bytes above which no single body may be.
        body_timeout: seconds to wait for the next bytes of a body.
        region: where the buckets are.
        callback: plays the callback server: gets the decoded ``callback`` parameter,
            returns its JSON answer, or None to fail.
    """

    clock: Clock
    min_part: int
    max_put: int
    body_timeout: float
    region: str = DEFAULT_REGION
    callback: Callback = accept_callback


@frozen(kw_only=True)
class Exchange:
    """One call on an existing bucket."""

    call: Call
    bucket: Bucket
    store: Store
    incoming: Incoming
    settings: Settings

    @property
    def now(self) -> float:
        """The server's time."""
        return self.settings.clock()

    def found(self) -> StoredObject:
        """Return the object that the call names.

        Raises:
            RefusedError: there is none.
        """
        return find_object(self.bucket, self.call.key)

    @property
    def is_exclusive(self) -> bool:
        """Whether ``x-oss-forbid-overwrite`` is asked for."""
        return self.call.headers.get("x-oss-forbid-overwrite", "").lower() == "true"

    def check_exclusive(self) -> None:
        """Refuse early what :meth:`put` would refuse in the end.

        Raises:
            RefusedError: the key is taken.
        """
        taken = self.call.key in self.bucket.objects
        if self.is_exclusive and taken and not self.bucket.versioned:
            raise key_taken()

    def put(self, stored: StoredObject) -> StoredObject:
        """Put *stored* in its place.

        Raises:
            RefusedError: the key is taken and the call is exclusive.
        """
        try:
            return self.store.put(self.bucket, stored, exclusive=self.is_exclusive)
        except KeyTakenError as error:
            raise key_taken() from error

    async def receive_body(self, spool: Spool) -> Piece:
        """Take the body in and compare it with the checksums that came with it.

        Raises:
            RefusedError: no length, too large, or damaged.
        """
        call, limit = self.call, self.settings.max_put
        if not call.has_body_framing:
            raise RefusedError(
                411,
                "MissingContentLength",
                "You must provide the Content-Length HTTP header.",
            )
        if (call.content_length or 0) > limit:
            raise too_large(limit)
        md5 = call.headers.get("content-md5")
        wanted = None if md5 is None else _digest(md5)
        await self.incoming.into(spool, limit=limit)
        piece = spool.finish()
        if wanted is not None and wanted.hex() != piece.md5:
            raise invalid_digest()
        crc = call.headers.get(CRC_HEADER)
        if crc is not None and crc != str(piece.crc64):
            raise RefusedError(
                400,
                "InvalidCRC64",
                "The CRC64 checksum of the data does not match the one you specified.",
            )
        return piece

    def check_callback(self) -> Mapping[str, Any] | None:
        """Return the decoded callback that the call asks for; None if it asks none.

        Raises:
            RefusedError: given twice, or unreadable.
        """
        in_query = self.call.parameters.get("callback")
        in_header = self.call.headers.get("x-oss-callback")
        if in_query is not None and in_header is not None:
            raise _invalid_callback("The callback is given in the query and as header.")
        text = in_query if in_query is not None else in_header
        if text is None:
            return None
        try:
            value = json.loads(base64.b64decode(text, validate=True))
        except ValueError as error:
            raise _invalid_callback(
                "The callback configuration is not json format."
            ) from error
        if (
            len(text) > _MAX_CALLBACK
            or not isinstance(value, dict)
            or "callbackUrl" not in value
        ):
            raise _invalid_callback("The callback configuration has no callbackUrl.")
        return value

    def after_callback(
        self, answer: Answer, wanted: Mapping[str, Any] | None
    ) -> Answer:
        """Return *answer*, or what the callback server makes of it.

        Raises:
            RefusedError: the callback failed; the object is stored all the same.
        """
        if wanted is None:
            return answer
        said = self.settings.callback(wanted)
        if said is None:
            raise RefusedError(
                203,
                "CallbackFailed",
                "Error status : 502.",
                "0007-00000203",
                headers={
                    n: v for n, v in answer.headers.items() if n != "Content-Type"
                },
            )
        headers = {**answer.headers, "Content-Type": "application/json"}
        return Answer(headers=headers, body=said)


def stored_reply(stored: StoredObject) -> dict[str, str]:
    """Return the headers that say what was stored."""
    headers = {"ETag": quoted(stored.etag), CRC_HEADER: str(stored.crc64)}
    if stored.md5 is not None:
        headers["Content-MD5"] = md5_header(stored.md5)
    if stored.version_id is not None:
        headers["x-oss-version-id"] = stored.version_id
    return headers


def md5_header(md5: str) -> str:
    """Return a hexadecimal MD5 as Content-MD5 writes it."""
    return base64.b64encode(bytes.fromhex(md5)).decode()


def find_object(bucket: Bucket, key: str) -> StoredObject:
    """Return an object.

    Raises:
        RefusedError: there is none.
    """
    stored = bucket.objects.get(key)
    if stored is None:
        raise RefusedError(
            404,
            "NoSuchKey",
            "The specified key does not exist.",
            "0026-00000001",
            extras={"Key": key},
        )
    return stored


def check_body_md5(call: Call, body: bytes) -> None:
    """Compare a small body with its Content-MD5, if it has one.

    Raises:
        RefusedError: they differ.
    """
    md5 = call.headers.get("content-md5")
    if md5 is not None:
        found = hashlib.md5(body, usedforsecurity=False).digest()
        if _digest(md5) != found:
            raise invalid_digest()


def invalid_argument(message: str, ec: str = "", **extras: str) -> RefusedError:
    """Return the refusal of an argument."""
    return RefusedError(400, "InvalidArgument", message, ec, extras=extras)


def malformed(ec: str = "") -> RefusedError:
    """Return the refusal of an XML body."""
    return RefusedError(
        400, "MalformedXML", "The XML you provided was not well-formed.", ec
    )


def key_taken() -> RefusedError:
    """Return the refusal of an exclusive write."""
    return RefusedError(
        409,
        "FileAlreadyExists",
        "The object you specified already exists and can not be overwritten.",
        "0026-00000002",
    )


def invalid_digest() -> RefusedError:
    """Return the refusal of a Content-MD5."""
    return RefusedError(
        400, "InvalidDigest", "The Content-MD5 you specified was invalid."
    )


def _invalid_callback(message: str) -> RefusedError:
    return invalid_argument(message, ArgumentName="callback")


def _digest(text: str) -> bytes:
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise invalid_digest() from error
    if len(digest) != hashlib.md5(usedforsecurity=False).digest_size:
        raise invalid_digest()
    return digest
