"""``oss://`` with the option names of ossfs, for programs that were written for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import fsspec
from fsspec.config import apply_config

from ..errors import ConfigurationError
from ..options.options import Options, surroundings, without_alias
from ..options.trust import check_trust, trust
from ..secret import Secret
from ..signers import chosen
from ..signers.keys import KeySigner
from ..signing.canonical import Credentials
from .filesystem import OSSPresignedFileSystem

_KEY = ("key", "secret", "token")
# Options of the key signer. A filesystem with a signer object rejects them.
_SIGNING = ("region", "endpoint", "addressing_style", "signature_version", "expires_in")


class _TakesKeys(type(OSSPresignedFileSystem)):  # type: ignore[misc]  # fsspec is untyped
    """Turns ``key``, ``secret`` and ``token`` into a signer before fsspec stores them."""

    def __call__(cls, **given: Any) -> Any:
        # no frame of a traceback may contain the text of a secret
        given = _hidden(given)
        configured = _hidden(apply_config(cls, {}))
        trust(configured)
        own_key = {name: given.pop(name, None) for name in _KEY}
        has_own_key = any(own_key.values())
        key = own_key if has_own_key else {n: configured.get(n) for n in _KEY}
        values = {**configured, **given}
        if chosen(without_alias(given).get):
            if has_own_key:
                raise ConfigurationError(
                    "key=, secret= and token= are an access key, and other options name "
                    "another source of signatures: give one of them"
                )
            if given.get("signer") != "keys":
                # the configured options belong to the key signer
                given = dict.fromkeys(configured.keys() & {*_SIGNING}) | given
        elif any(key.values()):
            given["signer"] = _signer_of(key, values, is_own=has_own_key)
            given |= dict.fromkeys(_SIGNING)
        elif not chosen(without_alias(values).get):
            given["signer"] = "keys"
        # fsspec applies its configuration a second time.
        given |= dict.fromkeys(configured.keys() & {*_KEY})
        return super().__call__(**given)


class OSSFileSystem(OSSPresignedFileSystem, metaclass=_TakesKeys):
    """The filesystem ``oss``: paths are ``oss://bucket/key``.

    The options are those of :class:`OSSPresignedFileSystem` and ``key``, ``secret`` and
    ``token`` of ossfs. Without a source of signatures, ``signer="keys"`` is used.
    """

    protocol = "oss"


def register_oss() -> None:
    """Use this package for ``oss://`` in this process, even if ossfs is installed.

    The filesystem reads fsspec's configuration for ``oss``, such as
    ``FSSPEC_OSS_REGION``.
    """
    fsspec.register_implementation(OSSFileSystem.protocol, OSSFileSystem, clobber=True)


def _hidden(options: dict[str, Any]) -> dict[str, Any]:
    texts = {n for n in _KEY[1:] if isinstance(options.get(n), str) and options[n]}
    return options | {name: Secret(options[name]) for name in texts}


def _signer_of(
    key: dict[str, Any], values: dict[str, Any], *, is_own: bool
) -> KeySigner:
    name, secret, token = key.values()
    if not (isinstance(name, str) and isinstance(secret, Secret)):
        raise ConfigurationError(
            "an access key needs key= and secret=, two texts, and for a temporary one token="
        )
    given = {name: values.get(name) for name in (*_SIGNING, "allow_http")}
    options = Options.from_storage_options({"signer": "keys", **given})
    # A caller that passes its own key may send it to any endpoint.
    if not is_own:
        check_trust(options, {})
    credentials = Credentials(name, secret, token or None)
    signing = (getattr(options, name) for name in _SIGNING)
    return _signer(credentials, *signing, surroundings())


@lru_cache(maxsize=256)  # filesystems with one signer share their client
def _signer(
    credentials: Credentials,
    region: str | None,
    endpoint: str | None,
    style: str | None,
    version: str,
    expires_in: int,
    _: tuple[str | None, ...],
) -> KeySigner:
    return KeySigner.from_options(
        region,
        endpoint,
        version,
        expires_in,
        style=style,
        credentials=lambda: credentials,
    )
