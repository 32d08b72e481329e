"""Check of an upload server against its description or its module."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from attrs import field, frozen

from ... import parsing
from ...errors import ConfigurationError, NotCoveredError, OSSPresignedError
from ...http.body import EMPTY
from ...model import Action, Operation, Receipt, Reply
from ...signers.base import Grant, Signer, sign_checked
from ...units import MIB, shown_text
from .rows import Result, Row, run

_SIZE = 64  # bytes of the small object
_PART = 5 * MIB  # bytes of a part, unless the server requires larger ones


@frozen(kw_only=True, slots=False)
class UploadServerKit:
    """The server, and the folder for the objects of the check.

    Attributes:
        connect: returns a new filesystem of the server; takes further options.
        folder: prefix of the object names; empty, or with a final slash.
        has_token: whether the user gave a token.
        part_size: bytes of a part; None uses 5 MiB, or the server's minimum.
    """

    connect: Callable[..., Any]
    folder: str = ""
    has_token: bool = False
    part_size: int | None = None
    _id: str = field(factory=lambda: secrets.token_hex(4), init=False)

    @cached_property
    def signer(self) -> Signer:
        signer: Signer = self.connect().client.signer
        return signer

    @cached_property
    def grant(self) -> Grant:
        return self.signer.grant(self.path("small"))

    @property
    def has_parts(self) -> bool:
        return self.grant.multipart is not None and self.grant.multipart.max_parts != 1

    def path(self, name: str) -> str:
        return f"{self.folder}osspresigned-check-{self._id}-{name}"

    def stored(self, name: str, size: int = _SIZE, **options: Any) -> Receipt:
        """Upload a new random object of *size* bytes."""
        fs, data = self.connect(**options), secrets.token_bytes(size)
        receipt: Receipt = fs.pipe_file(self.path(name), data)
        return receipt

    def carried_out(self, action: Action, **members: Any) -> Reply:
        """Return the server's reply to *action* on a small object with one part."""
        bucket, _, key = self.path("abort").partition("/")
        operation = Operation(
            action=action,
            bucket=bucket,
            key=key,
            object_size=_SIZE,
            part_size=self.part_size or _PART,
            part_count=1,
            digests={
                name: hashlib.new(name, bytes(_SIZE), usedforsecurity=False).hexdigest()
                for name in self.signer.digests
            },
            **members,
        )
        (signed,) = sign_checked(self.signer, [operation])
        if signed.carry_out is None:
            raise NotCoveredError("the client itself sends this call to the store")
        reply = signed.carry_out(EMPTY)
        if not reply.is_good:
            text = parsing.parse(reply.body).findtext("Message")
            raise NotCoveredError(text or f"HTTP {reply.status}")
        return reply


# -- checks: each returns a remark, and raises an error if its row does not hold ----------


def _description(kit: UploadServerKit) -> str:
    is_whole = kit.grant.single or not kit.has_parts
    kinds = ("one request",) * is_whole + ("parts",) * kit.has_parts
    return f"an object is sent by {' or '.join(kinds)}"


def _wrong_token(kit: UploadServerKit) -> str:
    try:
        kit.stored("token", signer_token=lambda: "osspresigned-check-wrong")
    except OSSPresignedError as error:
        return error.message
    raise ConfigurationError("the server accepts it")


def _small(kit: UploadServerKit) -> str:
    receipt = kit.stored("small")
    named = shown_text(receipt.location or receipt.path)
    return f"{named}; compared checksum: {receipt.verified}"


def _parts(kit: UploadServerKit) -> str:
    parts = kit.grant.multipart
    size = kit.part_size or max(_PART, parts.min_part if parts else 0)
    receipt = kit.stored("parts", size + 1, part_size=size, multipart_threshold=size)
    if not receipt.parts:
        raise ConfigurationError("it was sent by one request")
    return f"{len(receipt.parts)} parts"


def _abort(kit: UploadServerKit) -> str:
    reply = kit.carried_out(Action.InitiateMultipartUpload)
    upload_id = parsing.parse(reply.body).findtext("UploadId")
    kit.carried_out(Action.AbortMultipartUpload, upload_id=upload_id)
    return ""


@frozen
class Step(Row):
    """A row; *ask* tests it. *unless* names a feature without which it is skipped."""

    ask: Callable[[UploadServerKit], str]
    unless: str = ""


_NO_PARTS, _NO_TOKEN = "the server offers no parts", "no token was given"
STEPS = (
    Step("description", "The description says how an object is sent.", _description,
         is_control=True),
    Step("token", "A wrong token is refused.", _wrong_token, _NO_TOKEN),
    Step("small", "A small object is stored.", _small),
    Step("parts", "An object in two parts is stored.", _parts, _NO_PARTS),
    Step("abort", "An upload can be given up.", _abort, _NO_PARTS, counter="small"),
)  # fmt: skip


def check_upload_server(kit: UploadServerKit) -> Iterator[Result]:
    """Yield the result of each step; the stored objects stay on the server."""

    def ask(step: Step) -> Result:
        try:
            reason = step.ask(kit)
        except ConfigurationError as error:
            return step.result("failed", "\n      ".join(error.problems))
        except (OSSPresignedError, OSError) as error:
            return step.result("failed", shown_text(str(error)))
        return step.result("passed", reason, succeeded=True)

    def unmet(step: Step) -> str:
        is_lacking = (step.unless == _NO_PARTS and not kit.has_parts) or (
            step.unless == _NO_TOKEN and not kit.has_token
        )
        return step.unless if is_lacking else ""

    return run(STEPS, ask, unmet)
