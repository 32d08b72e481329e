"""Function signer: any function of the user, or a signer that is imported."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError, NotSignedError, OSSPresignedError, SignerError
from ..model import Operation, SignedRequest
from ..secret import SecretURL, redact
from ..signing.signed_url import describe
from ..urls import header_problems, http_problem, url_problem
from .base import Signer
from .protocol import clean

_MEMBERS = frozenset(("method", "url", "headers", "expires_in"))


class FunctionSigner:
    """Wraps a function of the user.

    The function takes a list of Operations and returns a list of the same length. Each
    answer is a SignedRequest; or a mapping with ``url``, and if wanted ``headers``
    (exactly those are sent), ``expires_in`` (seconds from now) and ``method``; or a
    string, the URL, with which the demanded headers of the operation are sent.
    It refuses with NotSignedError or any other PermissionError.

    Args:
        function: the function.
        allow_http: plain http may leave this machine.
        clock: seconds since the epoch.
    """

    remote = False

    def __init__(
        self,
        function: Callable[[Sequence[Operation]], Any],
        *,
        allow_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._function = function
        self._allow_http = allow_http
        self._clock = clock

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        """Call the function and read its answers.

        Raises:
            NotSignedError: the function refused.
            SignerError: it failed, or answered something else.
        """
        path = operations[0].path
        began = self._clock()
        try:
            # Hidden at once, so that no frame of a traceback shows a URL.
            answers = _hide(self._function(list(operations)))
        except OSSPresignedError:
            raise
        except PermissionError as error:
            raise NotSignedError(_said(error), path=path) from error
        except Exception as error:  # any function of the user's
            raise SignerError(_said(error), path=path) from error
        single = isinstance(answers, (SecretURL, Mapping, SignedRequest))
        if single and len(operations) == 1:
            answers = [answers]
        if not isinstance(answers, Sequence):
            msg = f"the signer function returned a {type(answers).__name__}, not a list"
            raise SignerError(msg, path=path)
        if len(answers) != len(operations):
            msg = f"the signer function answered {len(answers)} of {len(operations)}"
            raise SignerError(msg, path=path)
        pairs = zip(operations, answers, strict=True)
        return [self._read(operation, answer, began) for operation, answer in pairs]

    def _read(self, operation: Operation, answer: Any, began: float) -> SignedRequest:
        if isinstance(answer, SignedRequest):
            return answer
        if isinstance(answer, SecretURL):
            answer = {"url": answer, "headers": operation.headers}
        problem = _problem(answer)
        if problem is None:
            problem = http_problem(
                answer["url"].reveal(), allow_http=self._allow_http, local=True
            )
            problem = problem and f"its URL {problem}"
        if problem:
            msg = f"the signer function's answer to {operation} is wrong: {problem}"
            raise SignerError(msg, path=operation.path, action=operation.action)
        expires_in = answer.get("expires_in")
        url = answer["url"]
        ends = describe(url).expires_at if expires_in is None else began + expires_in
        return SignedRequest(
            method=answer.get("method", operation.action.method),
            url=url,
            headers=answer.get("headers"),
            issued_at=began,
            expires_at=ends,
        )


def _hide(answer: Any) -> Any:
    """Return *answer* with its URLs hidden, whatever else it is."""
    if isinstance(answer, str):
        return SecretURL(answer)
    if isinstance(answer, Mapping):
        return {name: _hide(v) if name == "url" else v for name, v in answer.items()}
    if isinstance(answer, Sequence) and not isinstance(answer, bytes | bytearray):
        return [_hide(one) for one in answer]
    return answer


def _problem(answer: Any) -> str | None:
    """Return what is wrong with an answer that must be a mapping."""
    if not isinstance(answer, Mapping):
        return (
            f"it is a {type(answer).__name__}, not a URL, a mapping or a SignedRequest"
        )
    if unknown := {str(name) for name in answer} - _MEMBERS:
        return f"it has unknown members {', '.join(sorted(unknown))}"
    url, method = answer.get("url"), answer.get("method", "")
    headers, expires_in = answer.get("headers") or {}, answer.get("expires_in")
    if not isinstance(url, SecretURL):
        return "it has no url"
    if found := url_problem(url.reveal()):
        return f"its URL {found}"
    if not isinstance(method, str):
        return "its method is no string"
    if not isinstance(headers, Mapping) or not all(isinstance(n, str) for n in headers):
        return "its headers are no mapping of strings"
    if expires_in is not None and (
        isinstance(expires_in, bool)
        or not isinstance(expires_in, (int, float))
        or not expires_in > 0
    ):
        return "its expires_in is no positive number of seconds"
    return next(header_problems(headers), None)


def _said(error: BaseException) -> str:
    return f"the signer function raised {type(error).__name__}: {clean(str(error))}"


def import_signer(
    reference: str,
    *,
    allow_http: bool = False,
) -> Signer:
    """Return the signer that ``module:name`` means: a Signer, or a function.

    Raises:
        ConfigurationError: no such module or name, or it is neither.
    """
    module, colon, name = reference.partition(":")
    if not colon or not all(
        part.isidentifier() for part in (*module.split("."), *name.split("."))
    ):
        msg = f"signer={redact(reference)[:80]!r} is not of the form module:function"
        raise ConfigurationError(msg)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # a module of the user's can raise anything
        msg = f"signer={reference!r}: importing {module} raised {type(error).__name__}"
        raise ConfigurationError(f"{msg}: {clean(str(error))}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    return as_signer(found, reference, allow_http=allow_http)


def as_signer(
    found: Any,
    shown: str = "signer",
    *,
    allow_http: bool = False,
) -> Signer:
    """Return *found* if it is a Signer, or a signer around it if it is callable.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(found, Signer) and not isinstance(found, type):
        return found
    if callable(found) and not isinstance(found, type):
        return FunctionSigner(found, allow_http=allow_http)
    msg = f"{shown} is a {type(found).__name__}, neither a Signer nor a function"
    raise ConfigurationError(msg)


def function_signer(options: Any, *_: object) -> Signer:
    """Return the signer of ``signer='module:function'``, or of a function."""
    make = import_signer if isinstance(options.signer, str) else as_signer
    return make(options.signer, allow_http=options.allow_http)
