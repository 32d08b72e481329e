"""Check of a server of uploads: its description, or its module, against the server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from attrs import evolve, field, frozen

from ... import parsing
from ...errors import ConfigurationError, NotSignedError, OSSPresignedError
from ...http.body import EMPTY, MemoryBody
from ...http.checksums import digests_of
from ...model import Action, Operation, Receipt, Reply, SignedRequest
from ...signers.base import Grant, Signer, sign_checked
from ...units import MIB, shown_text
from .rows import Outcome, Result, Row, run

_SMALL = b"stored by osspresigned check broker\n"
_PART = 5 * MIB  # bytes, if the server accepts parts of this size


@frozen(kw_only=True, slots=False)
class BrokerKit:
    """What the check needs.

    Attributes:
        connect: returns a new filesystem of the server; takes further options.
        folder: path before the names of the objects: empty, or with a slash at the end.
        has_token: whether the user gave a token.
        part_size: bytes of a part; None for the usual one of the check.
    """

    connect: Callable[..., Any]
    folder: str = ""
    has_token: bool = False
    part_size: int | None = None
    _id: str = field(factory=lambda: secrets.token_hex(4), init=False)

    def path(self, name: str) -> str:
        """Return the path of the object *name* of this check."""
        return f"{self.folder}osspresigned-check-{self._id}-{name}"

    @cached_property
    def fs(self) -> Any:
        return self.connect()

    @cached_property
    def signer(self) -> Signer:
        signer: Signer = self.fs.client.signer
        return signer

    @cached_property
    def grant(self) -> Grant:
        return self.signer.grant(self.path("small"))

    @property
    def size_of_part(self) -> int:
        parts = self.grant.multipart
        return self.part_size or max(_PART, parts.min_part if parts else 0)

    def operation(self, action: Action, name: str, **members: Any) -> Operation:
        bucket, _, key = self.path(name).partition("/")
        digests = digests_of(MemoryBody(memoryview(_SMALL)), self.signer.digests)
        members = {"content_length": len(_SMALL), "digests": digests, **members}
        return Operation(action=action, bucket=bucket, key=key, **members)

    def opened(self, name: str, signer: Signer) -> tuple[Operation, Reply]:
        """Open an upload of one small part; return its InitiateMultipartUpload, and the reply.

        Raises NotSignedError if the client sends this call to the store itself.
        """
        operation = self.operation(
            Action.InitiateMultipartUpload,
            name,
            content_length=None,
            object_size=len(_SMALL),
            part_count=1,
            part_size=self.size_of_part,
        )
        return operation, _carried_out(_signed(signer, operation))


def _signed(signer: Signer, operation: Operation) -> SignedRequest:
    (signed,) = sign_checked(signer, [operation])
    return signed


def _carried_out(signed: SignedRequest) -> Reply:
    if signed.carry_out is None:
        raise NotSignedError("the client itself sends this call to the store")
    return signed.carry_out(EMPTY)


def _of_part(opened: Operation, reply: Reply) -> Operation:
    """Return the UploadPart of the upload that *opened* has begun with *reply*."""
    upload_id = parsing.parse(reply.body).findtext("UploadId")
    return evolve(
        opened,
        action=Action.UploadPart,
        upload_id=upload_id,
        part_number=1,
        content_length=len(_SMALL),
    )


def _aborted(signer: Signer, part: Operation) -> Reply:
    abort = evolve(
        part, action=Action.AbortMultipartUpload, part_number=None, content_length=None
    )
    return _carried_out(_signed(signer, abort))


def _told(receipt: Receipt) -> tuple[bool, str]:
    named = f"its name is {shown_text(receipt.location)}" if receipt.location else ""
    compared = {"none": "no checksum was compared"}.get(
        receipt.verified, f"{receipt.verified} was compared"
    )
    return True, "; ".join(filter(None, (named, compared)))


# -- what is asked: each returns whether the row holds, and more to say; None records it ---


def _description(kit: BrokerKit) -> tuple[bool | None, str]:
    grant = kit.grant
    kinds = ["one request"] if grant.single else []
    kinds += ["parts"] if _has_parts(kit) else []
    return True, f"an object is sent by {' or '.join(kinds)}"


def _small(kit: BrokerKit) -> tuple[bool | None, str]:
    return _told(kit.fs.pipe_file(kit.path("small"), _SMALL))


def _parts(kit: BrokerKit) -> tuple[bool | None, str]:
    size = kit.size_of_part
    fs = kit.connect(part_size=size)
    receipt = fs.pipe_file(kit.path("parts"), secrets.token_bytes(size + 1))
    holds, text = _told(receipt)
    return holds, f"{text}; {len(receipt.parts or ())} parts"


def _renewal(kit: BrokerKit) -> tuple[bool | None, str]:
    signer, upload = kit.signer, None
    if kit.grant.single:
        place = kit.operation(kit.grant.action, "renewed")
    else:
        upload = place = _of_part(*kit.opened("renewed", signer))
    try:
        first = _signed(signer, place)
        signer.invalidate(first)
        if _signed(signer, place).issued_at > first.issued_at:
            return True, ""
    except NotSignedError:
        pass
    finally:
        if upload is not None:
            _aborted(signer, upload)
    return None, "it gives each URL once: after its end, the upload begins anew"


def _abort(kit: BrokerKit) -> tuple[bool | None, str]:
    reply = _aborted(kit.signer, _of_part(*kit.opened("aborted", kit.signer)))
    return reply.is_good, "" if reply.is_good else f"HTTP {reply.status}"


def _wrong_token(kit: BrokerKit) -> tuple[bool | None, str]:
    signer = kit.connect(signer_token=lambda: "osspresigned-check-wrong").client.signer
    try:
        if kit.grant.single:
            _signed(signer, kit.operation(kit.grant.action, "token"))
            return False, "it signs for a wrong token, too"
        _, reply = kit.opened("token", signer)
    except OSSPresignedError as error:
        return True, error.message
    return not reply.is_good, f"HTTP {reply.status}"


def _has_parts(kit: BrokerKit) -> bool:
    return kit.grant.multipart is not None and kit.grant.multipart.max_parts != 1


@frozen
class Step(Row):
    """A row; *ask* tries it, and *needs* returns why it cannot be asked, or nothing."""

    ask: Callable[[BrokerKit], tuple[bool | None, str]]
    needs: Callable[[BrokerKit], str] = lambda _: ""


def _needs_parts(kit: BrokerKit) -> str:
    return "" if _has_parts(kit) else "the server offers no parts"


def _needs_token(kit: BrokerKit) -> str:
    return "" if kit.has_token else "no token was given"


STEPS = (
    Step("description", "The description says how an object is sent.", _description,
         is_control=True),
    Step("token", "A wrong token is refused.", _wrong_token, _needs_token),
    Step("small", "A small object is stored, and its last call succeeds.", _small),
    Step("parts", "An object in two parts is stored.", _parts, _needs_parts),
    Step("renewal", "A URL that the store has refused is signed anew.", _renewal,
         counter="small"),
    Step("abort", "An upload that is given up is aborted.", _abort, _needs_parts,
         counter="small"),
)  # fmt: skip


def check_broker(kit: BrokerKit) -> Iterator[Result]:
    """Yield the result of each step; objects that it stores stay at the server."""

    def ask(step: Step) -> Result:
        try:
            holds, reason = step.ask(kit)
        except ConfigurationError as error:
            return step.result("failed", "\n      ".join(error.problems))
        except (OSSPresignedError, OSError) as error:
            return step.result("failed", shown_text(str(error)))
        outcomes: dict[bool | None, Outcome] = {True: "passed", False: "failed"}
        outcome = outcomes.get(holds, "recorded")
        return step.result(outcome, reason, succeeded=holds is not False)

    return run(STEPS, ask, lambda step: step.needs(kit))
