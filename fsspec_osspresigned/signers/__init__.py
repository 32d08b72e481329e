"""Signers: sources of signed requests for operations.

Begin with ``base``, the interface. A new signer is one module with a function that
creates it from options, and one row of ``SIGNERS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from attrs import frozen

from ..compat import lazy
from ..url_checks import is_web

if TYPE_CHECKING:
    from .base import Signer


@frozen
class SignerKind:
    """One kind of signer, a row of ``SIGNERS``."""

    option: str  # the storage option that selects this kind
    # ``module:function``. The function is called with the options and with a function
    # that opens remote URL maps. The module is loaded only if this kind is selected.
    maker: str
    # Returns whether a value of the option selects this kind. The first kind that
    # accepts the value applies.
    accepts: Callable[[Any], bool] = lambda _: True
    # Options that are errors unless a kind that lists them is selected.
    own_options: tuple[str, ...] = ()
    hint: str = ""  # an example value of the option, for messages


# Kinds in the order in which they are asked. Requests signed in advance come first.
SIGNERS = (
    SignerKind("presigned_url", "presigned_urls:one_url_signer"),
    SignerKind("url_map", "presigned_urls:url_map_signer"),
    SignerKind(
        "grant",
        "post_grant:fetched_grant_signer",
        lambda value: isinstance(value, str) and is_web(value),
        ("signer_token",),
    ),
    SignerKind("grant", "post_grant:local_grant_signer"),
    SignerKind(
        "signer",
        "http:http_signer",
        lambda value: isinstance(value, str) and "://" in value,
        ("signer_token",),
        "'https://...', or for grant='https://...'",
    ),
    SignerKind(
        "signer",
        "keys:key_signer",
        lambda value: value == "keys",
        ("region", "endpoint", "addressing_style"),
        "'keys'; a URL names its own host",
    ),
    SignerKind("signer", "function:function_signer"),
    SignerKind(
        "upload_server",
        "described_server:upload_server_signer",
        own_options=("signer_token", "upload_server_options"),
        hint="an upload server, such as 'dashscope'",
    ),
)


# A host with a port, or a host with a dot, and a path.
_NO_SCHEME = r"[^:/]+:\d+(/.*)?|[^:/]+\.[^:/]+(/[^:]*)?"


def chosen(value_of: Callable[[str], Any]) -> dict[str, SignerKind]:
    """Return the kinds of signers that the options select, by the name of the option.

    *value_of* returns the value of an option, None if it is not set.
    """
    kinds: dict[str, SignerKind] = {}
    for kind in SIGNERS:
        value = value_of(kind.option)
        if value is not None and kind.accepts(value):
            kinds.setdefault(kind.option, kind)
    return kinds


def misplaced_options(value_of: Callable[[str], Any]) -> list[str]:
    """Return a text for each option that needs a kind of signer that is not selected."""
    signer = value_of("signer")
    if isinstance(signer, str) and re.fullmatch(_NO_SCHEME, signer):
        address = re.split("/?[?#]", signer)[0]  # an invitation ends with its token
        text = f"signer={address!r} is not of the form module:function"
        return [f"{text}; for an address, write https://{address}"]
    used = {name for kind in chosen(value_of).values() for name in kind.own_options}
    misplaced: dict[str, str] = {}
    for kind in SIGNERS:
        for name in kind.own_options:
            if kind.hint and name not in used and value_of(name):
                misplaced.setdefault(name, f"{name}= is for {kind.option}={kind.hint}")
    return [*misplaced.values()]


def make_signer(options: Any, opener: Callable[[str], bytes]) -> Signer:
    """Return the signer that *options* select.

    If they select several signers, the first one that can sign an operation signs it.
    *opener* returns the bytes of a remote URL map. Raises ConfigurationError if a URL, map,
    signer, key or token cannot be used.
    """
    signers: list[Signer] = []
    for kind in chosen(lambda name: getattr(options, name)).values():
        module, _, function = kind.maker.partition(":")
        make = getattr(import_module(f".{module}", __name__), function)
        signers.append(make(options, opener))
    if len(signers) == 1:
        return signers[0]
    from .base import ChainSigner  # noqa: PLC0415 - needed only for several signers

    return ChainSigner(*signers)


# what docs/existing-servers.md names, for servers that no description fits
__all__, __getattr__, __dir__ = lazy(
    __name__,
    bound="bound_request",
    upload_server="OpenUpload ServerRefusedError UploadServer UploadServerContext",
)
