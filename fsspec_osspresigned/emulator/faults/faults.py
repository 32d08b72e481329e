"""Faults on demand: frozen rules that say what goes wrong, where, and how often."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from attrs import Factory, define, field, frozen

from ...errors import ConfigurationError
from .refusals import DEFAULT_CODE, KNOWN_CODES, REASONS, USUAL_CODES

INTERIM = {100: "Continue", 102: "Processing", 103: "Early Hints"}

_NOT_NEGATIVE = (
    "after",
    "delay",
    "early_after",
    "cut_after",
    "stall_after",
    "stall_for",
)


def _times(fault: Fault) -> int | None:
    return 1 if fault.rate is None else None


@frozen(kw_only=True)
class Fault:
    """One rule. What it leaves out matches everything and changes nothing.

    Members combine: each does its part, in the order in which a request passes by.

    Attributes:
        action: OSS API name, such as ``UploadPart``; ``*`` and ``?`` match any text.
        bucket: name or pattern.
        key: key or pattern; ``*`` crosses slashes.
        part_number: of UploadPart and UploadPartCopy.
        reused: True for requests on a connection that has carried one before, False
            for the first of each connection.
        after: how many matching requests it lets pass first.
        rate: share of the matching requests that it strikes, above 0 up to 1; None is
            all. Which ones depends on seed, action, bucket, key and part number, and on
            how often that one came, so that threads do not change it.
        seed: of *rate*.
        times: how often it strikes; None never wears out. The default is 1, and None
            with a *rate*.
        status: answer this instead of acting, once the body has arrived.
        code: OSS error code; it brings its usual status along, and *status* its code.
        message: of the error document.
        ec: OSS's finer error number.
        extras: further elements of the error document.
        refuse: refuse as OSS does for that reason, with all that it says then: one of
            ``denied``, ``expired``, ``key-disabled``, ``key-unknown``, ``not-yet``,
            ``signature``, ``skewed``, ``token-expired``, ``wrong-region``.
        retry_after: value of the header ``Retry-After``.
        early: answer the error before the body is read.
        early_after: answer the error after that many bytes of the body.
        acts: act first, then answer the error all the same.
        error_body: act on nothing and answer 200 with an error document (as
            CompleteMultipartUpload may).
        interim: 1xx statuses to send before anything else.
        delay: seconds to wait before the answer, after acting.
        bytes_per_second: how fast the body is read and the reply is sent.
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
        ConfigurationError: a member is out of range; all of them are told.
    """

    action: str | None = None
    bucket: str | None = None
    key: str | None = None
    part_number: int | None = None
    reused: bool | None = None
    after: int = 0
    rate: float | None = None
    seed: int = 0
    times: int | None = Factory(_times, takes_self=True)
    status: int | None = None
    code: str | None = None
    message: str | None = None
    ec: str = ""
    extras: Mapping[str, str] = field(factory=dict, hash=False)
    refuse: str | None = None
    retry_after: str | int | None = None
    early: bool = False
    early_after: int | None = None
    acts: bool = False
    error_body: bool = False
    interim: tuple[int, ...] = field(default=(), converter=tuple)
    delay: float = 0.0
    bytes_per_second: float | None = None
    cut_after: int | None = None
    stall_after: int | None = None
    cut_reply_after: int | None = None
    stall_reply_after: int | None = None
    stall_for: float | None = None
    drop_reply: bool = False
    hang_up: bool = False
    reset: bool = False
    wrong_crc: bool = False
    wrong_etag: bool = False
    no_crc: bool = False
    no_etag: bool = False
    clock_jump: float = 0.0

    def __attrs_post_init__(self) -> None:
        """Check the members."""
        if problems := list(self._problems()):
            raise ConfigurationError(problems)

    def _problems(self) -> Iterator[str]:
        share = 1 if self.rate is None else self.rate
        speed = 1 if self.bytes_per_second is None else self.bytes_per_second
        checks = (
            (0 < share <= 1, f"rate={share:g} is no share: above 0, at most 1"),
            (
                self.times is None or self.times > 0,
                f"times={self.times} never strikes: 1 or more",
            ),
            (
                200 <= (self.status or 200) <= 599,  # noqa: PLR2004 - HTTP
                f"status={self.status} ends no request: 200 to 599 (1xx: interim)",
            ),
            (
                self.refuse is None or self.refuse in REASONS,
                f"refuse={self.refuse!r} is unknown: one of {', '.join(REASONS)}",
            ),
            (
                self.refuse is None or (self.status or self.code) is None,
                "refuse brings its own status and code: leave those out",
            ),
            (
                set(self.interim) <= INTERIM.keys(),
                f"interim={self.interim} is unknown: of {', '.join(map(str, INTERIM))}",
            ),
            (speed > 0, f"bytes_per_second={speed:g} never ends: above 0"),
            (
                self.refuses or self.error_body or not (self.is_early or self.acts),
                "early, early_after and acts need status, code or refuse to answer",
            ),
        )
        yield from (problem for holds, problem in checks if not holds)
        for name in _NOT_NEGATIVE:
            if (getattr(self, name) or 0) < 0:
                yield f"{name}={getattr(self, name)} is negative"

    def matches(
        self,
        *,
        action: str,
        bucket: str,
        key: str,
        part_number: int | None,
        reused: bool = False,
    ) -> bool:
        """Return whether the rule is about such a request."""
        patterns = ((self.action, action), (self.bucket, bucket), (self.key, key))
        return (
            self.part_number in (None, part_number)
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
        if self.error_body:
            return False
        return (self.status or self.code or self.refuse) is not None

    @property
    def breaks_somewhere(self) -> bool:
        """Whether a member other than *reset* says where the connection breaks."""
        return (
            self.drop_reply
            or self.hang_up
            or self.cut_after is not None
            or self.cut_reply_after is not None
        )

    @property
    def shown_status(self) -> int:
        """The status to answer."""
        return self.status or KNOWN_CODES.get(self.code or DEFAULT_CODE, (400,))[0]

    @property
    def shown_code(self) -> str:
        """The error code to answer."""
        return self.code or USUAL_CODES.get(self.status or 500, DEFAULT_CODE)

    @property
    def shown_message(self) -> str:
        """The message to answer."""
        known = KNOWN_CODES.get(self.shown_code, KNOWN_CODES[DEFAULT_CODE])
        return self.message or known[1]


@define
class _Rule:
    fault: Fault
    seen: int = 0
    struck: int = 0
    counts: Counter[tuple[object, ...]] = field(factory=Counter)

    @property
    def is_worn_out(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times

    def strikes(self, *identity: object) -> bool:
        """Count a request that matches, and return whether it is struck."""
        self.seen += 1
        if self.seen <= self.fault.after:
            return False
        if self.fault.rate is not None:
            self.counts[identity] += 1
            drawn = repr((self.fault.seed, *identity, self.counts[identity])).encode()
            digest = hashlib.blake2b(drawn, digest_size=8).digest()
            if int.from_bytes(digest) >= self.fault.rate * 2**64:
                return False
        self.struck += 1
        return True


class Faults:
    """The rules in force; of those that match, the first that is due strikes."""

    def __init__(self) -> None:
        """Start without any."""
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Put *faults* behind those that are there."""
        with self._lock:
            self._rules += [_Rule(fault) for fault in faults]

    def clear(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._rules.clear()

    def take(
        self,
        *,
        action: str,
        bucket: str,
        key: str,
        part_number: int | None,
        reused: bool = False,
    ) -> Fault | None:
        """Return the fault that strikes this request, and count it."""
        with self._lock:
            for rule in self._rules:
                if (
                    not rule.is_worn_out
                    and rule.fault.matches(
                        action=action,
                        bucket=bucket,
                        key=key,
                        part_number=part_number,
                        reused=reused,
                    )
                    and rule.strikes(action, bucket, key, part_number)
                ):
                    return rule.fault
            return None

    @property
    def pending(self) -> list[Fault]:
        """Those that have strikes left."""
        with self._lock:
            return [rule.fault for rule in self._rules if not rule.is_worn_out]

    def __iter__(self) -> Iterator[Fault]:
        """Go through all rules, worn out or not."""
        with self._lock:
            return iter([rule.fault for rule in self._rules])
