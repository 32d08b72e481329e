"""Errors and warnings, all derived from builtin ones; docs/errors.md explains them.

A message names the problem and the remedy. It never contains a query string, a
signature or a token. All errors can be pickled. ``client.retry`` decides by the class
of an error whether to send a request again.
"""

from __future__ import annotations

import enum
import errno as _errno
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

# address of the documentation, for messages
SITE = "https://fsspec-osspresigned.github.io/fsspec-osspresigned/"


class RefusalReason(enum.StrEnum):
    """Reasons for which a store refuses a request, for programs."""

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
    """Explanation of one refusal, without any signature, token or key.

    Attributes:
        reason: the reason of the refusal.
        cause: one sentence that says what happened.
        remedy: advice for the user.
        differences: for ``RefusalReason.MISMATCH``, the proven differences between the
            request and the signature, one line each; empty if the store received what
            was sent, or did not report it.
        clock_offset: seconds by which this machine's clock is ahead of the store's,
            negative if it is behind; None if the store's time is unknown.
    """

    reason: RefusalReason
    cause: str
    remedy: str
    differences: tuple[str, ...] = ()
    clock_offset: float | None = None

    def __str__(self) -> str:
        return f"{self.cause}: {self.remedy}"


class Outcome(enum.StrEnum):
    """State of the object after a failed call."""

    NOT_STORED = "not stored"
    STORED = "stored"
    UNKNOWN = "unknown"


class OSSPresignedError(OSError):
    """Root of all errors of this package.

    Attributes:
        path: ``bucket/key``, also as ``filename``; None if the error concerns no
            object.
        status: HTTP status; None without a reply.
        code: OSS error code such as ``NoSuchUpload``; None without one.
        ec: detailed error number of OSS (header ``x-oss-ec``); for diagnostics only.
        request_id: request ID for OSS support.
        action: OSS API name of the call.
        retry_after: seconds to wait, as requested by the server; None if it sent none.
        tries: number of times that the request was sent.
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
    # True if a try timed out after it was sent, so the server may still act on it
    is_late = False

    def __init__(self, message: str, *, path: str | None = None, **facts: Any) -> None:
        super().__init__(self._errno, message, path)
        self.path = path
        for name, value in facts.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    def __str__(self) -> str:
        if self.path is not None and repr(self.path) in self.message:
            return f"[Errno {self.errno}] {self.message}"
        return super().__str__()

    @property
    def message(self) -> str:
        """The message of the error without errno and path."""
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError's own method loses the attributes.
        return _rebuild, (type(self), self.message, self.path), self.__dict__


def _rebuild(
    cls: type[OSSPresignedError], message: str, path: str | None
) -> OSSPresignedError:
    error = cls.__new__(cls, message)
    OSSPresignedError.__init__(error, message, path=path)
    return error


class ConfigurationError(OSSPresignedError, ValueError):
    """Options, a URL map or an upload plan are invalid; nothing was sent.

    Attributes:
        problems: every problem found, one line each.
    """

    _errno = _errno.EINVAL

    def __init__(
        self, problems: str | Iterable[str], *, path: str | None = None
    ) -> None:
        lines = (problems,) if isinstance(problems, str) else tuple(problems)
        title = [f"{len(lines)} problems:"] if len(lines) > 1 else []
        super().__init__("\n- ".join([*title, *lines]), path=path)
        self.problems = lines


class NotCoveredError(OSSPresignedError, PermissionError):
    """No signature covers this call: it is not granted, or not in the map.

    Attributes:
        nearest: the most similar keys of a URL map, for the message; may be empty.
        final: True if the signer does not grant this action anywhere in the bucket
            (``action_not_granted``).
    """

    _errno = _errno.EACCES
    nearest: tuple[str, ...] = ()
    final = False

    def __init__(
        self, message: str, *, nearest: Iterable[str] = (), **facts: Any
    ) -> None:
        super().__init__(message, nearest=tuple(nearest), **facts)


class ObjectNotVisibleError(NotCoveredError, FileNotFoundError):
    """A call is not granted, so it is unknown whether the object exists.

    It is also a FileNotFoundError, which tools understand as "nothing to read yet".
    """


class SignerError(OSSPresignedError):
    """The signer is unreachable, refused the call, or sent an invalid reply."""


class SignerUnavailableError(SignerError):
    """The signer is temporarily unavailable (429, 5xx, no connection); retry later."""

    _errno = _errno.EAGAIN


class WrongRequestSignedError(SignerError, PermissionError):
    """The signer signed a different request than requested; nothing was sent."""

    _errno = _errno.EACCES


class StoreError(OSSPresignedError):
    """The store replied with an error, or its reply is invalid.

    Errors with a known meaning have subclasses.

    Attributes:
        explanation: explanation of a refusal; None if the cause is unknown.
        host: host and port of the store that replied; empty if unknown.
    """

    explanation: Explanation | None = None
    host: str = ""

    @property
    def reason(self) -> RefusalReason | None:
        """The reason of a refusal, for programs; None if the reason is unknown."""
        return None if self.explanation is None else self.explanation.reason


class AccessDeniedError(StoreError, PermissionError):
    """403: the signing key lacks the permission, or is disabled."""

    _errno = _errno.EACCES


class URLExpiredError(AccessDeniedError):
    """403: the presigned URL, the grant or its STS token has expired."""


class SignatureMismatchError(AccessDeniedError):
    """403: headers, query or path differ from the signed ones."""


class ObjectNotFoundError(StoreError, FileNotFoundError):
    """404: no such object or bucket."""

    _errno = _errno.ENOENT


class UploadNotFoundError(StoreError, FileNotFoundError):
    """404 NoSuchUpload: the multipart upload was completed, aborted or expired."""

    _errno = _errno.ENOENT


class ObjectExistsError(StoreError, FileExistsError):
    """409 FileAlreadyExists: the object exists, and the upload must not replace it."""

    _errno = _errno.EEXIST


class InvalidRequestError(StoreError, ValueError):
    """400 and similar: the request is invalid, so a retry would fail too."""

    _errno = _errno.EINVAL


class EndpointForbiddenError(InvalidRequestError):
    """400 PublicEndpointForbidden: OSS's public host does not accept uploads."""


class BodyCorruptedError(StoreError):
    """400: the store reports that the body was corrupted or truncated in transit."""


class StoreUnavailableError(StoreError):
    """5xx or throttled: the store is temporarily unavailable; a retry may succeed."""

    _errno = _errno.EAGAIN


class NetworkError(OSSPresignedError, ConnectionError):
    """No complete reply: the connection was refused, reset or closed.

    A reply that confirms nothing, such as the page of a proxy, counts as no reply.

    Attributes:
        sent: True if the whole request was sent, so the server may have executed it.
    """

    _errno = _errno.ECONNRESET
    sent = True


class NetworkTimeoutError(NetworkError, TimeoutError):
    """No connection, no reply or no progress within the timeout."""

    _errno = _errno.ETIMEDOUT


class IntegrityError(OSSPresignedError):
    """The store does not confirm the bytes that were sent, received or copied.

    The store's checksum, ETag or list of parts differs, or is missing.

    Attributes:
        differs: False if the store reported no checksum, although the option
            ``checksum`` requires one.
    """

    differs = True


class TooLargeError(OSSPresignedError):
    """The object is too large for the granted requests; nothing was published."""

    _errno = _errno.EFBIG


class SourceChangedError(OSSPresignedError):
    """A local file, a buffer or an object changed while it was read.

    No object was published, and no local file was replaced.
    """


class OverwriteProtectionIgnoredError(OSSPresignedError):
    """The object was stored, but may have replaced an existing object against the option.

    OSS ignores ``x-oss-forbid-overwrite`` in a bucket with versioning.

    Attributes:
        version_id: the version that was created.
    """

    outcome = Outcome.STORED
    version_id = ""


class ReceiptFailedError(OSSPresignedError):
    """The upload succeeded, but its receipt could not be written to ``receipts=``.

    Attributes:
        receipt: the receipt; with status ``pending``, the object is not stored yet.
    """

    outcome = Outcome.STORED
    receipt: Any = None


class OutcomeUnknownError(OSSPresignedError):
    """The reply to an upload was lost, and no granted call can check the object.

    This is also raised if the body changed, or could not be read, after a try that may
    have stored it; and if an interrupt has ended the wait for a reply.
    """

    outcome = Outcome.UNKNOWN


class UploadDiscardedError(OSSPresignedError):
    """The upload was discarded before it was published."""

    _errno = _errno.ECANCELED


class UploadInProgressError(OSSPresignedError, BlockingIOError):
    """Another process or thread runs the same upload with the same ``resume_dir``."""

    _errno = _errno.EAGAIN


class UploadErrors(OSSPresignedError):  # noqa: N818 - the name says that it contains several errors
    """Several calls of one method failed, or a transaction published only some objects.

    Attributes:
        failures: path -> exception, in the order in which they failed.
        receipts: receipts of the objects that a transaction published nevertheless.
        discarded: paths of objects that a transaction did not try to publish.
        outcome: the outcome of all failures; ``unknown`` if their outcomes differ, or
            one of them is no error of this package.
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
        outcomes = {
            getattr(error, "outcome", Outcome.UNKNOWN)
            for error in self.failures.values()
        }
        if outcomes:
            self.outcome = outcomes.pop() if len(outcomes) == 1 else Outcome.UNKNOWN

    def __repr__(self) -> str:
        kinds = Counter(type(error).__name__ for error in self.failures.values())
        counts = [f"{count} {kind}" for kind, count in kinds.most_common()]
        counts += [f"{len(self.receipts)} stored"] if self.receipts else []
        counts += [f"{len(self.discarded)} not tried"] if self.discarded else []
        return f"UploadErrors({', '.join(counts)})"


class PublishWarning(UserWarning):
    """Base class of this package's warnings, and the warning about skipped local paths."""


class DiscardWarning(PublishWarning):
    """A file was not published: it was never closed, or an exception closed it."""


class CallbackFailedWarning(PublishWarning):
    """The object is stored, but OSS could not reach the callback server."""


class ExistenceNotVerifiedWarning(PublishWarning):
    """An object was reported as missing, or a list may be incomplete.

    The signer does not grant the call that would check this in the store.
    """


class SecretFileReadableWarning(PublishWarning):
    """A file that contains presigned URLs or a grant is readable by other users."""


class UnreadableMapWarning(PublishWarning):
    """A changed URL map or grant cannot be read, so the old content stays in use."""
