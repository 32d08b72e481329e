"""Errors and warnings, in builtin families, with errno and path: see docs/errors.md.

A message names what is bad and what to do; it never holds a query string, a signature
or a token. All of them survive pickling. ``client.retry`` decides by their class.
"""

from __future__ import annotations

import enum
import errno as _errno
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from attrs import frozen

from .html_table import html_table

_SHOWN = 20  # failures in a table


class Refused(enum.StrEnum):
    """The reason of a refusal."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    CLOCK_SKEW = "clock skew"
    TOKEN_ENDED = "token ended"  # noqa: S105 - the name of a reason
    TOKEN_INVALID = "token invalid"  # noqa: S105 - the name of a reason
    WRONG_REGION = "wrong region"
    DENIED = "denied"
    KEY_DISABLED = "key disabled"
    ACCOUNT_DISABLED = "account disabled"
    UNKNOWN_KEY = "unknown key"
    MISMATCH = "signature mismatch"
    POLICY = "policy"


@frozen(kw_only=True)
class Explanation:
    """One refusal, explained. It never holds a signature, a token or a key.

    Attributes:
        reason: the case.
        cause: one sentence on what happened.
        remedy: what to do about it.
        differences: for ``Refused.MISMATCH``, what provably differs, one line each; empty
            if what the store received is what was sent, or if it does not say.
        clock_offset: seconds that this machine's clock is ahead of the store's,
            negative if it is behind; None if the store never told its time.
    """

    reason: Refused
    cause: str
    remedy: str
    differences: tuple[str, ...] = ()
    clock_offset: float | None = None

    def __str__(self) -> str:
        """Return cause and remedy as one line."""
        return f"{self.cause}: {self.remedy}"


class Outcome(enum.StrEnum):
    """Outcome of a failed call: the sent bytes are the object, are not, or may be."""

    NOT_STORED = "not stored"
    STORED = "stored"
    UNKNOWN = "unknown"


class OSSPresignedError(OSError):
    """Root of all errors of this package.

    Attributes:
        path: ``bucket/key``, also as ``filename``; None if no object is concerned.
        status: HTTP status; None without an answer.
        code: OSS error code such as ``NoSuchUpload``; None without one.
        ec: OSS's finer error number (header ``x-oss-ec``); diagnostics only.
        request_id: what OSS support asks for.
        action: OSS API name of the call.
        retry_after: seconds that the server asked to wait; None if it did not.
        tries: how often the request was sent before this error became final.
        outcome: whether the object is stored.
    """

    _errno = _errno.EIO
    path: str | None = None
    status: int | None = None
    code: str | None = None
    ec: str | None = None
    request_id: str | None = None
    action: str | None = None
    retry_after: float | None = None
    tries = 1
    outcome = Outcome.NOT_STORED

    def __init__(self, message: str, *, path: str | None = None, **facts: Any) -> None:
        super().__init__(self._errno, message, path)
        self.path = path
        for name, value in facts.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    @property
    def message(self) -> str:
        """The text without errno and path."""
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        """Survive pickling: OSError's own way would drop the keyword facts."""
        return _rebuild, (type(self), self.message, self.path), self.__dict__


def _rebuild(
    cls: type[OSSPresignedError], message: str, path: str | None
) -> OSSPresignedError:
    error = cls.__new__(cls, message)
    OSSPresignedError.__init__(error, message, path=path)
    return error


class ConfigurationError(OSSPresignedError, ValueError):
    """Options, a URL map or an upload plan are wrong, found before the first byte.

    Attributes:
        problems: every problem found, one line each.
    """

    _errno = _errno.EINVAL

    def __init__(
        self, problems: str | Iterable[str], *, path: str | None = None
    ) -> None:
        found = (problems,) if isinstance(problems, str) else tuple(problems)
        title = [f"{len(found)} problems:"] if len(found) > 1 else []
        super().__init__("\n- ".join([*title, *found]), path=path)
        self.problems = found


class NotSignedError(OSSPresignedError, PermissionError):
    """The signer will not sign this operation: no grant, no entry in the map.

    Attributes:
        nearest: the nearest keys of a URL map, for the message; may be empty.
        final: the signer grants this action nowhere in the bucket
            (``action_not_granted``).
    """

    _errno = _errno.EACCES
    nearest: tuple[str, ...] = ()
    final = False

    def __init__(
        self, message: str, *, nearest: Iterable[str] = (), **facts: Any
    ) -> None:
        super().__init__(message, nearest=tuple(nearest), **facts)


class SignerError(OSSPresignedError):
    """The signer could not be used: unreachable, refused the call, broken reply."""


class SignerUnavailableError(SignerError):
    """The signer cannot answer for now (429, 5xx, no connection): worth a retry."""

    _errno = _errno.EAGAIN


class BindingError(SignerError, PermissionError):
    """The signer signed something else than was asked; nothing was sent."""

    _errno = _errno.EACCES


class ReplyError(OSSPresignedError):
    """The store answered with an error that has no closer class.

    Attributes:
        explanation: of a refusal; None if its cause was not found.
    """

    explanation: Explanation | None = None

    @property
    def reason(self) -> Refused | None:
        """The case of a refusal, for programs; None if it is unknown."""
        return None if self.explanation is None else self.explanation.reason


class AccessDeniedError(ReplyError, PermissionError):
    """403: the signer's identity may not do this, or the key is disabled."""

    _errno = _errno.EACCES


class URLExpiredError(AccessDeniedError):
    """403: the presigned URL, the grant or its STS token has expired."""


class SignatureMismatchError(AccessDeniedError):
    """403: headers, query or path differ from what was signed."""


class ObjectNotFoundError(ReplyError, FileNotFoundError):
    """404: no such object or bucket."""

    _errno = _errno.ENOENT


class UploadNotFoundError(ReplyError, FileNotFoundError):
    """404 NoSuchUpload: the multipart upload was completed, aborted or cleaned up."""

    _errno = _errno.ENOENT


class ObjectExistsError(ReplyError, FileExistsError):
    """409 FileAlreadyExists: an exclusive upload found the object there."""

    _errno = _errno.EEXIST


class InvalidRequestError(ReplyError, ValueError):
    """400-like: the store refuses what was asked, and would refuse it again."""

    _errno = _errno.EINVAL


class EndpointForbiddenError(InvalidRequestError):
    """400 PublicEndpointForbidden: the bucket is closed at OSS's public host."""


class DamagedBodyError(ReplyError):
    """400: the store says that the body was damaged or cut on the way."""


class StoreUnavailableError(ReplyError):
    """5xx or throttled: the store cannot answer for now."""

    _errno = _errno.EAGAIN


class NetworkError(OSSPresignedError, ConnectionError):
    """No answer: refused, reset or cut.

    Attributes:
        sent: whether the whole request went out, so that the server may have acted.
    """

    _errno = _errno.ECONNRESET
    sent = True


class NetworkTimeoutError(NetworkError, TimeoutError):
    """No connection, no answer or no progress in time."""

    _errno = _errno.ETIMEDOUT


class IntegrityError(OSSPresignedError):
    """The checksum that the store reports is not that of the bytes sent.

    Attributes:
        differs: False if the store reported no checksum, and one was required.
    """

    differs = True


class TooLargeError(OSSPresignedError):
    """More bytes than the granted requests can hold; nothing was published."""

    _errno = _errno.EFBIG


class SourceChangedError(OSSPresignedError):
    """The source changed or shrank while it was read; nothing was published."""


class ExclusiveNotEnforcedError(OSSPresignedError):
    """Stored, but OSS ignored forbid-overwrite: the bucket keeps versions.

    Attributes:
        version_id: the version that was made.
    """

    outcome = Outcome.STORED
    version_id = ""


class ReceiptFailedError(OSSPresignedError):
    """Stored, but ``receipts=`` could not take the receipt.

    Attributes:
        receipt: what it was to take.
    """

    outcome = Outcome.STORED
    receipt: Any = None


class OutcomeUnknownError(OSSPresignedError):
    """The reply was lost, and no signed call can tell what happened."""

    outcome = Outcome.UNKNOWN


class UploadDiscardedError(OSSPresignedError):
    """The upload was given up before it was published."""

    _errno = _errno.ECANCELED


class CheckpointInUseError(OSSPresignedError, BlockingIOError):
    """Another process has the same upload, with the same checkpoint."""

    _errno = _errno.EAGAIN


class UploadErrors(OSSPresignedError):  # noqa: N818 - it holds several
    """Several transfers failed.

    Attributes:
        failures: path -> exception, in the order in which they failed.
        receipts: of a transaction: what was published nevertheless.
        discarded: of a transaction: the paths that were not tried.
    """

    def __init__(
        self,
        message: str,
        *,
        failures: Mapping[str, BaseException] | None = None,
        receipts: Iterable[Any] = (),
        discarded: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.failures = dict(failures or {})
        self.receipts = list(receipts)
        self.discarded = list(discarded)

    def __repr__(self) -> str:
        """Count what failed, by kind; ``failures`` has the texts."""
        kinds = Counter(type(error).__name__ for error in self.failures.values())
        told = [f"{count} {kind}" for kind, count in kinds.most_common()]
        told += [f"{len(self.receipts)} stored"] if self.receipts else []
        told += [f"{len(self.discarded)} not tried"] if self.discarded else []
        return f"UploadErrors({', '.join(told)})"

    def _repr_html_(self) -> str:
        """Return a table of the failures for a notebook, of the first ones if many."""
        rows: list[tuple[object, ...]] = [
            (path, getattr(error, "outcome", Outcome.NOT_STORED), error)
            for path, error in islice(self.failures.items(), _SHOWN)
        ]
        more = len(self.failures) - len(rows)
        rows += [(f"... {more} more", "", "")] if more else []
        return html_table(repr(self), ("path", "outcome", "error"), rows)


class PublishWarning(UserWarning):
    """Root of the warnings about published objects."""


class DiscardWarning(PublishWarning):
    """A file was not published: never closed, or while an exception was in flight."""


class CallbackFailedWarning(PublishWarning):
    """The object is stored, but OSS could not reach the callback server."""


class BlindAnswerWarning(PublishWarning):
    """An object that cannot be seen was reported as missing."""
