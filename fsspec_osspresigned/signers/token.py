"""Where the bearer token of a signer comes from: always by reference."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigurationError
from ..model import KIB
from ..options import token_reference
from ..secret import Secret

TokenSource = Callable[[], Secret | None]

_MAX_TOKEN = 4 * KIB
# RFC 6750, section 2.1: b64token.
_SYNTAX = re.compile(r"[A-Za-z0-9._~+/-]+=*")


def token_source(reference: str | Callable[[], object] | None) -> TokenSource:
    """Return a callable that reads the token anew at each call.

    Args:
        reference: ``env:OSSPRESIGNED_...``, ``file:PATH``, a callable that returns a
            string, a Secret or None; or None for no token.

    Raises:
        ConfigurationError: *reference* is none of them. The returned callable raises it
            too, if what it reads is missing or no bearer token.
    """
    if reference is None:
        return lambda: None
    try:
        token_reference(reference)
    except ValueError as error:
        msg = f"signer_token= must be {error}"
        raise ConfigurationError(msg) from None
    if callable(reference):
        return lambda: _from_callable(reference())
    kind, _, place = reference.partition(":")
    if kind == "env":
        return lambda: _checked(Secret(_variable(place)), f"the variable {place}")
    return lambda: _checked(Secret(_file(place)), place)


def _variable(name: str) -> str:
    text = os.environ.get(name)
    if text is None:
        msg = f"signer_token=: the environment variable {name} is not set"
        raise ConfigurationError(msg)
    return text


def _file(place: str) -> str:
    try:
        with Path(place).expanduser().open("rb") as file:
            data = file.read(_MAX_TOKEN + 3)
    except OSError as error:
        msg = f"signer_token=: cannot read {place}: {error.strerror}"
        raise ConfigurationError(msg) from None
    # One line: its own end is taken off, any other makes the token invalid.
    return data.decode("latin-1").removesuffix("\n").removesuffix("\r")


def _from_callable(answer: object) -> Secret | None:
    if answer is None:
        return None
    if not isinstance(answer, str | Secret):
        msg = f"the function of signer_token= returned a {type(answer).__name__}"
        raise ConfigurationError(msg)
    held = answer if isinstance(answer, Secret) else Secret(answer)
    del answer  # what is refused must not stay in a variable: tracebacks may show them
    return _checked(held, "the function of signer_token=")


def _checked(held: Secret, place: str) -> Secret:
    if len(held.reveal()) > _MAX_TOKEN or not _SYNTAX.fullmatch(held.reveal()):
        msg = f"{place} holds no bearer token (RFC 6750: one line, at most 4 KiB)"
        raise ConfigurationError(msg)
    return held
