"""Faults on demand: frozen rules that say what goes wrong, where, and how often."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

from attrs import define, field, frozen

# What OSS says with a status when nothing else is asked for (API reference, errors).
_CODES = {
    203: ("CallbackFailed", "The callback failed."),
    400: ("InvalidArgument", "The request is not valid."),
    403: ("AccessDenied", "You have no right to access this object."),
    404: ("NoSuchKey", "The specified key does not exist."),
    409: ("FileAlreadyExists", "The object you specified already exists."),
    429: ("QpsLimitExceeded", "The request rate exceeds the limit."),
    500: ("InternalError", "Please contact the server administrator."),
    503: ("ServiceUnavailable", "Please reduce your request rate."),
}


@frozen(kw_only=True)
class Fault:
    """One rule. What it leaves None matches everything and changes nothing.

    Attributes:
        action: OSS API name, such as ``UploadPart``.
        bucket: exact name.
        key: exact key.
        part_number: of UploadPart and UploadPartCopy.
        times: how often it strikes; None never wears out.
        after: how many matching requests it lets pass first.
        status: answer this instead of acting, once the body has arrived.
        code: OSS error code; None takes the usual one of *status*.
        message: of the error document.
        ec: OSS's finer error number.
        extras: further elements of the error document.
        early: answer *status* before the body is read.
        acts: act first, then answer *status* all the same.
        error_body: act on nothing and answer 200 with an error document (as
            CompleteMultipartUpload may).
        cut_after: break the connection after that many bytes of the body.
        drop_reply: act, then break the connection without a reply.
        wrong_crc: act, answer another CRC-64.
        wrong_etag: act, answer another ETag.
        no_crc: act, answer without a CRC-64.
        no_etag: act, answer without an ETag.
        delay: seconds to wait before the answer.
        retry_after: value of the header ``Retry-After``.
    """

    action: str | None = None
    bucket: str | None = None
    key: str | None = None
    part_number: int | None = None
    times: int | None = 1
    after: int = 0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    ec: str = ""
    extras: Mapping[str, str] = field(factory=dict, hash=False)
    early: bool = False
    acts: bool = False
    error_body: bool = False
    cut_after: int | None = None
    drop_reply: bool = False
    wrong_crc: bool = False
    wrong_etag: bool = False
    no_crc: bool = False
    no_etag: bool = False
    delay: float = 0.0
    retry_after: str | int | None = None

    def matches(
        self, *, action: str, bucket: str, key: str, part_number: int | None
    ) -> bool:
        """Return whether the rule is about such a request."""
        wanted = (self.action, self.bucket, self.key, self.part_number)
        found = (action, bucket, key, part_number)
        return all(w is None or w == f for w, f in zip(wanted, found, strict=True))

    @property
    def shown_code(self) -> str:
        """The error code to answer."""
        status = self.status or 500
        return self.code or _CODES.get(status, _CODES[500])[0]

    @property
    def shown_message(self) -> str:
        """The message to answer."""
        status = self.status or 500
        return self.message or _CODES.get(status, _CODES[500])[1]


@define
class _Rule:
    fault: Fault
    seen: int = 0
    struck: int = 0

    @property
    def is_worn_out(self) -> bool:
        return self.fault.times is not None and self.struck >= self.fault.times


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
        self, *, action: str, bucket: str, key: str, part_number: int | None
    ) -> Fault | None:
        """Return the fault that strikes this request, and count it."""
        with self._lock:
            for rule in self._rules:
                if rule.is_worn_out or not rule.fault.matches(
                    action=action, bucket=bucket, key=key, part_number=part_number
                ):
                    continue
                rule.seen += 1
                if rule.seen > rule.fault.after:
                    rule.struck += 1
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
