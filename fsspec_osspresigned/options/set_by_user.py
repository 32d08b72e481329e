"""Options set by the user: those that have an effect only if the user set them.

Options may come from untrusted data: a catalog, a JSON file, the arguments of a job.
Such data must not choose which code is imported, to which host the user's keys sign,
or which file is sent as a token. Values from the environment, fsspec's configuration, a
command line or a pickle count as set by the user.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..request_checks import is_loopback, oss_bucket
from ..secret import redact
from .options import Options, portable

VARIABLE = "OSSPRESIGNED_TRUST"  # values that options may have, with commas between
_GUARDED = ("signer", "signer_token", "endpoint")
_OURS = "osspresigned"  # in the name of a token's file, or of its directory

_trusted: set[str] = set()


def trust(given: Mapping[str, Any]) -> None:
    """Trust the security-relevant options in *given* until this process ends."""
    _trusted.update(_guarded(given))


def check_trust(options: Options, configured: Mapping[str, Any]) -> None:
    """Refuse security-relevant *options* that come from untrusted data.

    *configured* are options that the user set.

    Raises:
        ConfigurationError: the message lists all such options, and how to trust each.
    """
    named = os.environ.get(VARIABLE, "").split(",")
    listed = (text for one in named for text in _guarded({"signer_token": one.strip()}))
    own = {*listed, *_trusted, *_guarded(configured), os.environ.get("OSS_ENDPOINT")}
    if problems := [*_problems(options, own)]:
        raise ConfigurationError(problems)


def _guarded(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield a text for each security-relevant option in *given*."""
    options = portable(given)
    values = (options.get(name) for name in _GUARDED)
    return (value for value in values if isinstance(value, str))


def _problems(options: Options, own: set[str | None]) -> Iterator[str]:
    signer, token, endpoint = options.signer, options.signer_token, options.endpoint
    is_name = isinstance(signer, str) and "://" not in signer and signer != "keys"
    if is_name and not own & {signer, signer.partition(":")[0]}:
        yield (
            f"signer={_shown(signer)} would import code, and options may be those of "
            f"others: pass the function itself, or set {VARIABLE}={_shown(signer)}"
        )
    if isinstance(token, str) and token.startswith("file:"):
        folder, name = os.path.split(token)
        is_ours = _OURS in f"{os.path.basename(folder)}/{name}".lower()
        if not is_ours and token not in own:
            yield (
                f"signer_token={_shown(token)} may be another program's secret, and "
                f"options those of others: the name of the file or of its directory must "
                f"contain {_OURS!r}. Rename it, or set {VARIABLE}={_shown(token)}"
            )
    if signer == "keys" and endpoint is not None:
        host = _host(endpoint)
        if (
            host
            and not _is_safe(host)
            and host not in {_host(one or "") for one in own}
        ):
            yield (
                f"endpoint={_shown(endpoint)} is not a host of OSS. It would get what your "
                "keys sign, and options may be those of others: set OSS_ENDPOINT "
                f"instead, or {VARIABLE}={host}"
            )


def _host(endpoint: str) -> str:
    """Return host and port of *endpoint*; empty if it is invalid."""
    from ..signing.endpoint import Endpoint  # noqa: PLC0415 - only for keys

    try:
        return Endpoint.parse(endpoint).host
    except ConfigurationError:
        return ""


def _is_safe(host: str) -> bool:
    """Return whether *host* is this machine, or a host of OSS."""
    name = urlsplit(f"//{host}").hostname or ""
    return is_loopback(name) or any(map(oss_bucket, (name, f"bucket.{name}")))


def _shown(value: str) -> str:
    return redact(value)[:80]
