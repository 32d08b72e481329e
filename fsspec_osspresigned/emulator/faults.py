"""Faults: a table of possible faults, as Python and as text, and refusals on demand.

The attributes of :class:`Fault` are the table: each has a parser for the command line,
a default and a check. :mod:`.app` and :mod:`.wire` make requests fail. :data:`REASONS`
has one refusal for each reason of OSS to refuse a call.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import Factory, define, evolve, field, fields_dict, frozen
from attrs.validators import and_, deep_iterable, ge, gt, in_, le, optional

from ..errors import ConfigurationError
from ..http.checksums import CRC_HEADER
from ..secret import Secret
from ..signing.canonical import SKEW, Credentials
from ..units import bytes_of, oss_moment
from .messages import (
    ERRORS,
    INTERNAL,
    USUAL_CODES,
    Call,
    EmulatorReply,
    Refusal,
    RefusedError,
    http_date,
    refused,
)
from .settings import EmulatorSettings
from .table import HANDLERS
from .verifying import EXPIRED, verify
from .wire import INTERIM


def _verified(
    call: Call, settings: EmulatorSettings, keys: Mapping[str, Credentials]
) -> Refusal:
    refusal = verify(call, find=keys.get, now=settings.clock())
    assert refusal is not None  # noqa: S101 - no key of *keys* has signed
    return refusal


def _signature(call: Call, settings: EmulatorSettings) -> Refusal:
    another, keys = Secret("another"), settings.keys.items()
    others = {i: evolve(k, access_key_secret=another) for i, k in keys}
    return _verified(call, settings, others)


def _expired(call: Call, settings: EmulatorSettings) -> Refusal:
    if call.form:
        return EXPIRED
    header = call.headers.get("authorization", "")
    is_v4 = "x-oss-signature-version" in call.parameters or header.startswith("OSS4")
    now = settings.clock()
    return Refusal(
        message="Request has expired.",
        ec="0002-00000236" if is_v4 else "0002-00000069",
        extras={"Expires": oss_moment(now - 1), "ServerTime": oss_moment(now)},
    )


REASONS: Mapping[str, Callable[[Call, EmulatorSettings], Refusal]] = {
    "denied": lambda *_: Refusal(
        message="You have no right to access this object because of bucket policy."
    ),
    "expired": _expired,
    "key-disabled": lambda call, settings: evolve(
        _verified(call, settings, {}),
        message="The OSS Access Key Id you provided is disabled.",
        ec="0002-00000903",
    ),
    "key-unknown": lambda call, settings: _verified(call, settings, {}),
    "not-yet": lambda _, settings: Refusal(
        message="Request is not valid yet.",
        ec="0002-00000235",
        extras={"ServerTime": oss_moment(settings.clock())},
    ),
    "signature": _signature,
    "skewed": lambda _, settings: (
        refused(
            "RequestTimeTooSkewed",
            MaxAllowedSkewMilliseconds=str(SKEW * 1000),
            RequestTime=http_date(settings.clock() - 2 * SKEW),
            ServerTime=oss_moment(settings.clock()),
        ).refusal
    ),
    "token-expired": lambda *_: refused("SecurityTokenExpired").refusal,
    "wrong-region": lambda call, _: (
        refused(
            "AccessDenied",
            "The bucket you are attempting to access must be addressed using the "
            "specified endpoint. Please send all future requests to this endpoint.",
            ec="0003-00001403",
            Bucket=call.bucket,
            Endpoint="oss-eu-central-1.aliyuncs.com",
        ).refusal
    ),
}


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return text == "yes"


def _position(text: str) -> int:
    return -bytes_of(text[1:]) if text.startswith("-") else bytes_of(text)


def _times(text: str) -> int | None:
    return None if text == "always" else int(text)


def _statuses(text: str) -> list[int]:
    return [int(status) for status in text.split("+")]


_TIMES: Any = Factory(lambda fault: 1 if fault.rate is None else None, takes_self=True)


def _member(
    read: Callable[[str], Any] | None,
    default: Any = None,
    check: Callable[[Any, Any, Any], Any] | None = None,
    **options: Any,
) -> Any:
    validator = None if check is None else optional(check)
    metadata = {"read": read}
    return field(default=default, validator=validator, metadata=metadata, **options)


@frozen(kw_only=True)
class Fault:
    """One rule that makes matching requests fail. Every attribute has a neutral default.

    Attributes combine. docs/emulator.md describes each of them. Bytes and seconds refer to
    the request body, unless the name contains ``reply``. A negative position in a reply
    counts from its end.

    Raises:
        ValueError: an attribute is out of range.
    """

    action: str | None = _member(None)
    key: str | None = _member(str)
    part_number: int | None = _member(int)
    reused: bool | None = _member(_flag)
    after: int = _member(int, 0, ge(0))
    rate: float | None = _member(float, None, and_(gt(0), le(1)))
    seed: int = _member(int, 0)
    times: int | None = _member(_times, _TIMES, ge(1))
    status: int | None = _member(int, None, and_(ge(200), le(599)))
    code: str | None = _member(str)
    ec: str = _member(str, "")
    refuse: str | None = _member(str, None, in_(tuple(REASONS)))
    retry_after: str | int | None = _member(str)
    early_after: int | None = _member(_position, None, ge(0))
    acts: bool = _member(_flag, default=False)
    error_body: bool = _member(_flag, default=False)
    interim: tuple[int, ...] = _member(
        _statuses, (), deep_iterable(in_(INTERIM)), converter=tuple
    )
    delay: float = _member(float, 0.0, ge(0))
    bytes_per_second: float | None = _member(bytes_of, None, gt(0))
    cut_after: int | None = _member(_position, None, ge(0))
    stall_after: int | None = _member(_position, None, ge(0))
    cut_reply_after: int | None = _member(_position)
    stall_reply_after: int | None = _member(_position)
    stall_for: float | None = _member(float, None, ge(0))
    drop_reply: bool = _member(_flag, default=False)
    hang_up: bool = _member(_flag, default=False)
    reset: bool = _member(_flag, default=False)
    wrong_crc: bool = _member(_flag, default=False)
    wrong_etag: bool = _member(_flag, default=False)
    no_crc: bool = _member(_flag, default=False)
    no_etag: bool = _member(_flag, default=False)
    clock_jump: float = _member(float, 0.0)

    def __attrs_post_init__(self) -> None:
        if self.refuse is not None and (self.status or self.code) is not None:
            raise ValueError("refuse brings its own status and code: leave those out")
        is_early = self.early_after is not None
        if (is_early or self.acts) and not (self.refuses or self.error_body):
            raise ValueError("early_after and acts need status, code or refuse")

    def matches(self, call: Call, *, reused: bool = False) -> bool:
        """Return whether the rule matches *call*.

        *reused* says that the connection carried an earlier request.
        """
        patterns = (self.action, call.action), (self.key, call.key)
        return (
            self.part_number in (None, call.part_number)
            and self.reused in (None, reused)
            # A key may contain characters of patterns, so equal texts match, too.
            and all(p in (None, t) or fnmatchcase(t, p or "") for p, t in patterns)
        )

    @property
    def refuses(self) -> bool:
        """True if the reply is an error with its own status."""
        is_error = (self.status or self.code or self.refuse) is not None
        return is_error and not self.error_body

    @property
    def breaks_somewhere(self) -> bool:
        """True if an attribute other than *reset* sets where the connection closes."""
        cuts = self.cut_after is not None or self.cut_reply_after is not None
        return self.drop_reply or self.hang_up or cuts

    def error(self, call: Call, settings: EmulatorSettings) -> RefusedError:
        """Return the error to send as the reply to *call*.

        If only one of status and code is set, it determines the other one.
        """
        is_early = self.early_after is not None
        headers = {"Connection": "close"} if is_early and self.hang_up else {}
        if self.refuse:
            usual = REASONS[self.refuse](call, settings)
        else:
            code = self.code or USUAL_CODES.get(self.status or 500, INTERNAL)
            status, message, _ = ERRORS.get(code, (400, ERRORS[INTERNAL][1], ""))
            usual = Refusal(status=self.status or status, code=code, message=message)
        return RefusedError(evolve(usual, ec=self.ec or usual.ec), headers)

    def distort(self, reply: EmulatorReply) -> EmulatorReply:
        """Return *reply* after this fault has changed, removed or added headers.

        The headers are checksums and ``Retry-After``. A false ETag is also put into the
        body.
        """
        headers = dict(reply.headers)
        body = reply.body
        etag = headers.get("ETag")
        if self.wrong_crc and CRC_HEADER in headers:
            headers[CRC_HEADER] = str(int(headers[CRC_HEADER]) ^ 1)
        if self.wrong_etag and etag is not None:
            headers["ETag"] = wrong = f'"{"0" * 32}{etag.strip(chr(34))[32:]}"'
            if isinstance(body, bytes):
                body = body.replace(etag.encode(), wrong.encode())
        if self.no_crc:
            headers.pop(CRC_HEADER, None)
        if self.no_etag:
            headers.pop("ETag", None)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return evolve(reply, headers=headers, body=body)


@define
class _FaultRule:
    fault: Fault
    seen: int = 0
    struck: int = 0
    tries: Counter[tuple[object, ...]] = field(factory=Counter)

    @property
    def is_worn_out(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times

    def strikes(self, call: Call, *, reused: bool) -> bool:
        if self.is_worn_out or not self.fault.matches(call, reused=reused):
            return False
        self.seen += 1
        if self.seen <= self.fault.after:
            return False
        if self.fault.rate is not None:
            identity = call.action, call.bucket, call.key, call.part_number
            self.tries[identity] += 1
            drawn = repr((self.fault.seed, *identity, self.tries[identity])).encode()
            digest = hashlib.blake2b(drawn, digest_size=8).digest()
            if int.from_bytes(digest) >= self.fault.rate * 2**64:
                return False
        self.struck += 1
        return True


class Faults:
    """The rules of an emulator, in the order of addition; any thread may change them."""

    def __init__(self) -> None:
        self._rules: list[_FaultRule] = []

    def add(self, *faults: Fault) -> None:
        """Append *faults* to the rules."""
        self._rules = [*self._rules, *map(_FaultRule, faults)]

    def clear(self) -> None:
        """Remove all rules."""
        self._rules = []

    def strike(self, call: Call, *, reused: bool = False) -> Fault | None:
        """Count this request, and return the fault that applies; None without one."""
        due = (r.fault for r in self._rules if r.strikes(call, reused=reused))
        return next(due, None)

    @property
    def pending(self) -> list[Fault]:
        """The faults that can still apply to a later request."""
        return [rule.fault for rule in self._rules if not rule.is_worn_out]


def parse_faults(texts: Iterable[str]) -> list[Fault]:
    """Return the faults in *texts*, in the format of docs/emulator.md.

    Raises:
        ConfigurationError: some faults are invalid; the message has one line for each.
    """
    faults: list[Fault] = []
    problems: list[str] = []
    for text in texts:
        try:
            faults.append(_parse(text))
        except ValueError as error:
            problems.append(f"fault {text[:80]!r}: {error.args[0]}")
    if problems:
        raise ConfigurationError(problems)
    return faults


def _parse(text: str) -> Fault:
    action, *pieces = (piece.strip() for piece in text.split(":"))
    if action not in HANDLERS and not set(action) & set("*?["):
        raise ValueError(
            f"{action!r} is not an action: an API name such as UploadPart, or *"
        )
    members: dict[str, Any] = {"action": None if action == "*" else action}
    for piece in pieces:
        written, has_value, value = piece.partition("=")
        name = written.replace("-", "_")
        member = fields_dict(Fault).get(name)
        read = None if member is None else member.metadata["read"]
        if read is None:
            raise ValueError(f"{written!r} is not a member of a fault")
        if not has_value and read is not _flag:
            raise ValueError(f"{written!r} needs a value: {written}=...")
        try:
            members[name] = read(value if has_value else "yes")
        except ValueError as error:
            raise ValueError(f"{written}: {error}") from error
    return Fault(**members)
