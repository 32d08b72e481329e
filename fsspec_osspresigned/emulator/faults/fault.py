"""Fault: one rule that says what goes wrong, where, and how often.

The table of its members is the class itself: each has its default, its reader for the
command line and its least value. :mod:`.effects` and :mod:`.connection` play them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from attrs import Factory, field, fields, frozen

from ...errors import ConfigurationError
from ...units import bytes_of
from ..message.call import Call
from ..message.errors import ERRORS, INTERNAL, USUAL_CODES
from .refusals import REASONS

INTERIM = {100: "Continue", 102: "Processing", 103: "Early Hints"}

_FLAGS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_is_whole = re.compile(r"-?[0-9]{1,18}").fullmatch
_is_number = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?").fullmatch


def flag(text: str) -> bool:
    """Read yes or no."""
    if text not in _FLAGS:
        raise ValueError(f"{text[:40]!r} is neither yes nor no")
    return _FLAGS[text]


def _whole(text: str) -> int:
    if not _is_whole(text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def _number(text: str) -> float:
    if not _is_number(text):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)


def _position(text: str) -> int:
    return -bytes_of(text[1:]) if text.startswith("-") else bytes_of(text)


def _times(text: str) -> int | None:
    return None if text == "always" else _whole(text)


def _statuses(text: str) -> tuple[int, ...]:
    return tuple(map(_whole, text.split("+")))


def _member(
    read: Callable[[str], Any] | None,
    default: Any = None,
    *,
    least: int | None = None,
    **options: Any,
) -> Any:
    metadata = {"read": read, "least": least}
    return field(default=default, metadata=metadata, **options)


def _usual_times(fault: Fault) -> int | None:
    return 1 if fault.rate is None else None


@frozen(kw_only=True)
class Fault:
    """One rule. A member that is left out matches everything and changes nothing.

    Members combine: each does its part, in the order in which a request passes by.

    Attributes:
        action: OSS API name, such as ``UploadPart``; ``*`` and ``?`` match any text.
        bucket: name or pattern.
        key: key or pattern; ``*`` crosses slashes.
        part_number: of UploadPart and UploadPartCopy.
        reused: True for requests on a connection that has carried one before, False
            for the first of each connection.
        after: matching requests that pass first.
        rate: share of the matching requests that it strikes, above 0 up to 1; None is
            all. The choice depends on seed, action, bucket, key, part number and the
            number of the try, so threads do not change it.
        seed: of *rate*.
        times: strikes until it is worn out; None never wears out. The default is 1, and
            None with a *rate*.
        status: answer this instead of acting, once the body has arrived.
        code: OSS error code; *status* and *code* bring each other along.
        message: of the error document.
        ec: OSS's finer error number.
        extras: further elements of the error document.
        refuse: reason to refuse as OSS does, one of :data:`.refusals.REASONS`.
        retry_after: value of the header ``Retry-After``.
        early: answer the error before the body is read.
        early_after: answer the error after that many bytes of the body.
        acts: act first, then answer the error all the same.
        error_body: do not act; answer 200 with an error document.
        interim: 1xx statuses to send before anything else.
        delay: seconds to wait before the answer, after acting.
        bytes_per_second: speed of body and reply.
        cut_after: break the connection after that many bytes of the body, at its end at
            the latest; nothing is stored.
        stall_after: read that many bytes of the body, at most all, and then no more.
        cut_reply_after: act, and break the connection after that many bytes of the
            reply, head included; negative counts from its end.
        stall_reply_after: act, send so much of the reply, and then no more; 0 is no
            reply at all; negative counts from its end.
        stall_for: seconds after which a stall is over; None lasts until one side goes.
        drop_reply: act, then break the connection without a reply.
        hang_up: close the connection after the reply, which does not say so.
        reset: break the connection by RST rather than FIN, where another member breaks
            it; alone at once, before acting.
        wrong_crc: act, answer another CRC-64.
        wrong_etag: act, answer another ETag.
        no_crc: act, answer without a CRC-64.
        no_etag: act, answer without an ETag.
        clock_jump: seconds by which the server's clock moves for good, before this
            request is judged a second time.

    Raises:
        ConfigurationError: members are out of range; it lists all of them.
    """

    action: str | None = _member(None)
    bucket: str | None = _member(str)
    key: str | None = _member(str)
    part_number: int | None = _member(_whole)
    reused: bool | None = _member(flag)
    after: int = _member(_whole, 0, least=0)
    rate: float | None = _member(_number)
    seed: int = _member(_whole, 0)
    times: int | None = _member(_times, Factory(_usual_times, takes_self=True))
    status: int | None = _member(_whole)
    code: str | None = _member(str)
    message: str | None = _member(str)
    ec: str = _member(str, "")
    extras: Mapping[str, str] = _member(None, Factory(dict), hash=False)
    refuse: str | None = _member(str)
    retry_after: str | int | None = _member(str)
    early: bool = _member(flag, default=False)
    early_after: int | None = _member(_position, least=0)
    acts: bool = _member(flag, default=False)
    error_body: bool = _member(flag, default=False)
    interim: tuple[int, ...] = _member(_statuses, (), converter=tuple)
    delay: float = _member(_number, 0.0, least=0)
    bytes_per_second: float | None = _member(lambda text: float(bytes_of(text)))
    cut_after: int | None = _member(_position, least=0)
    stall_after: int | None = _member(_position, least=0)
    cut_reply_after: int | None = _member(_position)
    stall_reply_after: int | None = _member(_position)
    stall_for: float | None = _member(_number, least=0)
    drop_reply: bool = _member(flag, default=False)
    hang_up: bool = _member(flag, default=False)
    reset: bool = _member(flag, default=False)
    wrong_crc: bool = _member(flag, default=False)
    wrong_etag: bool = _member(flag, default=False)
    no_crc: bool = _member(flag, default=False)
    no_etag: bool = _member(flag, default=False)
    clock_jump: float = _member(_number, 0.0)

    def __attrs_post_init__(self) -> None:
        """Check the members."""
        if problems := list(self._problems()):
            raise ConfigurationError(problems)

    def _problems(self) -> Iterator[str]:
        rate = 1 if self.rate is None else self.rate
        speed = 1 if self.bytes_per_second is None else self.bytes_per_second
        times = 1 if self.times is None else self.times
        brings = self.refuse is None or (self.status or self.code) is None
        answers = self.refuses or self.error_body or not (self.is_early or self.acts)
        reasons, interim = ", ".join(REASONS), ", ".join(map(str, INTERIM))
        checks = (
            (0 < rate <= 1, f"rate={rate:g} is no share: above 0, at most 1"),
            (times > 0, f"times={times} never strikes: 1 or more"),
            (
                200 <= (self.status or 200) <= 599,  # noqa: PLR2004 - HTTP
                f"status={self.status} ends no request: 200 to 599 (1xx: interim)",
            ),
            (
                self.refuse in (None, *REASONS),
                f"refuse={self.refuse!r} is unknown: one of {reasons}",
            ),
            (brings, "refuse brings its own status and code: leave those out"),
            (
                set(self.interim) <= INTERIM.keys(),
                f"interim={self.interim} is unknown: of {interim}",
            ),
            (speed > 0, f"bytes_per_second={speed:g} never ends: above 0"),
            (
                answers,
                "early, early_after and acts need status, code or refuse to answer",
            ),
        )
        yield from (problem for holds, problem in checks if not holds)
        for member in fields(Fault):
            least, value = member.metadata["least"], getattr(self, member.name)
            if least is not None and (value or 0) < least:
                yield f"{member.name}={value} is negative"

    def matches(self, call: Call, *, reused: bool = False) -> bool:
        """Return whether the rule is about *call*; *reused* is about its connection."""
        patterns = (
            (self.action, call.action),
            (self.bucket, call.bucket),
            (self.key, call.key),
        )
        return (
            self.part_number in (None, call.part_number)
            and self.reused in (None, reused)
            # A key may hold what reads as a pattern, so equality counts as well.
            and all(p in (None, t) or fnmatchcase(t, p or "") for p, t in patterns)
        )

    @property
    def is_early(self) -> bool:
        """Whether the error is answered before the body has arrived."""
        return self.early or self.early_after is not None

    @property
    def refuses(self) -> bool:
        """Whether an error is answered with its own status."""
        is_error = (self.status or self.code or self.refuse) is not None
        return is_error and not self.error_body

    @property
    def breaks_somewhere(self) -> bool:
        """Whether a member other than *reset* says where the connection breaks."""
        cuts = self.cut_after is not None or self.cut_reply_after is not None
        return self.drop_reply or self.hang_up or cuts

    @property
    def shapes_reply(self) -> bool:
        """Whether a member changes how the reply is sent."""
        shapes = self.bytes_per_second, self.cut_reply_after, self.stall_reply_after
        return self.hang_up or shapes != (None, None, None)

    @property
    def shown_status(self) -> int:
        """The status to answer."""
        return self.status or ERRORS.get(self.code or INTERNAL, (400,))[0]

    @property
    def shown_code(self) -> str:
        """The error code to answer."""
        return self.code or USUAL_CODES.get(self.status or 500, INTERNAL)

    @property
    def shown_message(self) -> str:
        """The message to answer."""
        return self.message or ERRORS.get(self.shown_code, ERRORS[INTERNAL])[1]
