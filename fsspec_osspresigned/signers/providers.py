"""Where the access key of a key signer comes from, and how it is kept fresh."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from attrs import field, frozen

from ..errors import ConfigurationError, SignerUnavailableError
from ..secret import Secret
from ..signature import Credentials
from .keys import environment_credentials

# The official chain renews a temporary key this long before its end
# (alibabacloud-credentials, RefreshCachedSupplier.STALE_TIME).
_RENEWED_BEFORE = 900


def _with_end(provider: Any) -> Any:
    """Return what *provider* has, from the one inside it that knows when it ends.

    The chain and the profiles hand on what another provider has, without its end.
    """
    found = provider.get_credentials()
    if found.get_security_token() and not found.get_expiration():
        for inner in getattr(provider, "__dict__", {}).values():
            if hasattr(inner, "get_credentials"):
                deeper = _with_end(inner)
                if deeper.get_expiration():
                    return deeper
    return found


@frozen(kw_only=True)
class ChainCredentials:
    """Reads the official chain anew for every batch; the chain itself caches.

    Attributes:
        chain: a provider with ``get_credentials()``.
        clock: seconds since the epoch.
    """

    chain: Any = field(repr=False)
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def __call__(self) -> Credentials:
        """Return the access key of now.

        Raises:
            SignerUnavailableError: no provider of the chain has one.
        """
        try:
            found = _with_end(self.chain)
        except Exception as error:  # noqa: BLE001 - every provider has its own
            # Its message may quote what a metadata service answered.
            msg = f"the credential chain has no access key now ({type(error).__name__})"
            raise SignerUnavailableError(msg) from None
        name = found.get_access_key_id()
        secret = Secret(found.get_access_key_secret() or "")
        if not name or not secret.reveal():
            msg = "the credential chain answered without an access key"
            raise SignerUnavailableError(msg)
        token = Secret(found.get_security_token() or "")
        if not token.reveal():
            return Credentials(name, secret)
        end = found.get_expiration() or self.clock() + _RENEWED_BEFORE
        return Credentials(name, secret, token, float(end))


def credential_provider(name: str) -> Callable[[], Credentials]:
    """Return the source of access keys that *name* stands for.

    Args:
        name: ``environment``, or ``alibabacloud`` for the official chain: variables,
            OIDC role, profiles, instance role, URI.

    Raises:
        ConfigurationError: no such source, or its package is not installed.
    """
    if name == "environment":
        return environment_credentials
    if name != "alibabacloud":
        msg = f"credentials {name[:40]!r}: use environment or alibabacloud"
        raise ConfigurationError(msg)
    try:
        from alibabacloud_credentials.provider import (  # noqa: PLC0415 - an extra
            DefaultCredentialsProvider,
        )
    except ImportError:
        msg = (
            "credentials 'alibabacloud' needs the package alibabacloud-credentials: "
            "pip install 'fsspec-osspresigned[credentials]'"
        )
        raise ConfigurationError(msg) from None
    try:
        chain = DefaultCredentialsProvider()
    except Exception as error:  # noqa: BLE001 - what it dislikes in the environment
        msg = f"credentials 'alibabacloud': the chain fails ({type(error).__name__})"
        raise ConfigurationError(msg) from None
    return ChainCredentials(chain=chain)
