"""Function signer: calls a function of the user, or imports a signer by name."""

from __future__ import annotations

import functools
import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field

from ..errors import ConfigurationError, NotCoveredError, OSSPresignedError, SignerError
from ..model import Operation, SignedRequest
from ..secret import SecretURL, redact
from ..signing.signed_url import describe
from ..url_checks import header_problems, http_problem, url_problem
from .base import AdaptedSigner, Signer
from .wire_protocol import clean

_MEMBERS = frozenset(("method", "url", "headers", "expires_in"))


@define(eq=False, repr=False)
class FunctionSigner(Signer):
    """Signer that calls a function of the user.

    The function takes a list of Operations and returns a list of the same length. Each
    result is a SignedRequest, a mapping or a URL. A mapping has ``url`` and optionally
    ``headers`` (exactly these are sent), ``expires_in`` (seconds from now) and
    ``method``. With a URL as a string, the required headers of the operation are sent.
    To refuse an operation, the function raises NotCoveredError or another
    PermissionError.
    """

    _function: Callable[[Sequence[Operation]], Any]
    _allow_http: bool = field(default=False, kw_only=True)
    _clock: Callable[[], float] = field(default=time.time, kw_only=True)

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        path = operations[0].path
        now = self._clock()
        try:
            # The answers are hidden at once, so no frame of a traceback shows a URL.
            answers = _hide(self._function(list(operations)))
        except OSSPresignedError:
            raise
        except PermissionError as error:
            raise NotCoveredError(_raised(error), path=path) from error
        except Exception as error:  # a function of the user can raise anything
            raise SignerError(_raised(error), path=path) from error
        single = isinstance(answers, (SecretURL, Mapping, SignedRequest))
        if single and len(operations) == 1:
            answers = [answers]
        if not isinstance(answers, Sequence):
            problem = f"returned a {type(answers).__name__}, not a list"
        elif len(answers) != len(operations):
            problem = f"answered {len(answers)} of {len(operations)}"
        else:
            pairs = zip(operations, answers, strict=True)
            return [self._read(operation, answer, now) for operation, answer in pairs]
        raise SignerError(f"the signer function {problem}", path=path)

    def _read(self, operation: Operation, answer: Any, now: float) -> SignedRequest:
        if isinstance(answer, SignedRequest):
            return answer
        if isinstance(answer, SecretURL):
            answer = {"url": answer, "headers": operation.headers}
        if problem := _problem(answer, allow_http=self._allow_http):
            msg = f"the signer function's result for {operation} is wrong: {problem}"
            raise SignerError(msg, path=operation.path, action=operation.action)
        life = answer.get("expires_in")
        url = answer["url"]
        expires_at = describe(url).expires_at if life is None else now + life
        return SignedRequest(
            method=answer.get("method", operation.action.method),
            url=url,
            headers=answer.get("headers"),
            issued_at=now,
            expires_at=expires_at,
        )


def _hide(answer: Any) -> Any:
    """Return *answer* with its URLs converted to secrets."""
    if isinstance(answer, str):
        return SecretURL(answer)
    if isinstance(answer, Mapping):
        return {name: _hide(v) if name == "url" else v for name, v in answer.items()}
    if isinstance(answer, Sequence) and not isinstance(answer, bytes | bytearray):
        return [_hide(item) for item in answer]
    return answer


def _problem(answer: Any, *, allow_http: bool) -> str | None:
    if not isinstance(answer, Mapping):
        kind = type(answer).__name__
        return f"it is a {kind}, not a URL, a mapping or a SignedRequest"
    if unknown := {str(name) for name in answer} - _MEMBERS:
        return f"it has unknown keys {', '.join(sorted(unknown))}"
    url, life = answer.get("url"), answer.get("expires_in", 1)
    if not isinstance(url, SecretURL):
        return "it has no url"
    if problem := url_problem(url.reveal()) or http_problem(
        url.reveal(), allow_http=allow_http, local=True
    ):
        return f"its URL {problem}"
    if not isinstance(answer.get("method", ""), str):
        return "its method is not a string"
    headers = answer.get("headers") or {}
    if not isinstance(headers, Mapping) or not all(isinstance(n, str) for n in headers):
        return "its headers are not a mapping of strings"
    is_number = isinstance(life, (int, float)) and not isinstance(life, bool)
    if life is not None and not (is_number and life > 0):
        return "its expires_in is not a positive number of seconds"
    return next(header_problems(headers), None)


def _raised(error: BaseException) -> str:
    return f"the signer function raised {type(error).__name__}: {clean(str(error))}"


def as_signer(signer: Any, *, allow_http: bool = False) -> Signer:
    """Return *signer* as a Signer.

    *signer* is a Signer, another object with a method ``sign``, a function, or the
    ``module:name`` of one of these. A class is refused.

    Raises ConfigurationError if *signer* is none of these, or cannot be imported.
    """
    shown = "signer"
    if isinstance(signer, str):
        shown, signer = signer, imported(signer)
    if isinstance(signer, Signer):
        return signer
    if not isinstance(signer, type):
        if callable(getattr(signer, "sign", None)):
            return AdaptedSigner(signer)
        if callable(signer):
            return FunctionSigner(signer, allow_http=allow_http)
    msg = f"{shown} is a {type(signer).__name__}, neither a Signer nor a function"
    raise ConfigurationError(msg)


def imported(reference: str, option: str = "signer") -> Any:
    """Return the object at ``module:name``; None if the module lacks it.

    Raises ConfigurationError if *reference* has another form, or the import fails.
    """
    module, colon, name = reference.partition(":")
    names = name.split(".")
    if not colon or not all(n.isidentifier() for n in (*module.split("."), *names)):
        msg = f"{option}={redact(reference)[:80]!r} is not of the form module:function"
        raise ConfigurationError(msg)
    try:
        loaded: Any = importlib.import_module(module)
    except Exception as error:  # a module of the user can raise anything
        msg = (
            f"{option}={reference!r}: importing {module} raised {type(error).__name__}"
        )
        raise ConfigurationError(f"{msg}: {clean(str(error))}") from error
    return functools.reduce(lambda of, name: getattr(of, name, None), names, loaded)


def function_signer(options: Any, *_: object) -> Signer:
    return as_signer(options.signer, allow_http=options.allow_http)
