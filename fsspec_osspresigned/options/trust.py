"""Trust: security-relevant options, which have an effect only if the user set them.

Options may come from untrusted data: a catalog, a JSON file, the arguments of a job.
Such data must not choose which code is imported, to which host the user's keys sign,
or which file is sent as a token. Values from the environment, fsspec's configuration, a
command line or a pickle count as set by the user.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError
from ..secret import redact
from ..url_checks import is_loopback, is_oss_endpoint
from .options import Options, is_true, portable

if TYPE_CHECKING:
    from ..signing.endpoint import Endpoint

VARIABLE = "OSSPRESIGNED_TRUST"  # comma-separated values of options that are trusted
_GUARDED = ("signer", "upload_server", "signer_token", "endpoint")
_ALLOW_HTTP = "allow_http=True"
_ENDPOINT = "OSS_ENDPOINT"
_OURS = "osspresigned"  # part of the name of a token's file, or of the file's directory

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
    listed = (t for name in named for t in _guarded({"signer_token": name.strip()}))
    trusted = {*listed, *_trusted, *_guarded(configured), os.environ.get(_ENDPOINT)}
    if problems := [*_problems(options, trusted)]:
        raise ConfigurationError(problems)


def _guarded(given: Mapping[str, Any]) -> Iterator[str]:
    options = portable(given)
    values = (options.get(name) for name in _GUARDED)
    yield from (value for value in values if isinstance(value, str))
    if is_true(options.get("allow_http")):
        yield _ALLOW_HTTP


def _problems(options: Options, trusted: set[str | None]) -> Iterator[str]:
    signer, token = options.signer, options.signer_token
    is_name = isinstance(signer, str) and "://" not in signer and signer != "keys"
    if is_name and not trusted & {signer, signer.partition(":")[0]}:
        yield (
            f"signer={_shown(signer)} would import code, and options may be those of "
            f"others: pass the function itself, or set {VARIABLE}={_shown(signer)}"
        )
    if isinstance(token, str) and token.startswith("file:"):
        folder, name = os.path.split(token)
        is_ours = _OURS in f"{os.path.basename(folder)}/{name}".lower()
        if not is_ours and token not in trusted:
            yield (
                f"signer_token={_shown(token)} is not read: options may be those of others, "
                "who could send any secret file to their signer. The name of a token's "
                f"file, or of its directory, must contain {_OURS!r}: rename it, or set "
                f"{VARIABLE}={_shown(token)}"
            )
    if signer == "keys":
        yield from _endpoint_problems(options, trusted)
    if isinstance(options.upload_server, str) and options.upload_server not in trusted:
        from ..signers.description import is_path, spelled  # noqa: PLC0415 - needed only for descriptions

        name, _ = spelled(options.upload_server)
        if (is_path(name) or ":" in name) and name not in trusted:
            what = "read a description" if is_path(name) else "import code"
            yield (
                f"upload_server={_shown(name)} would {what}, and options may be those of "
                f"others: set {VARIABLE}={_shown(name)}"
            )


def _endpoint_problems(options: Options, trusted: set[str | None]) -> Iterator[str]:
    """Yield why requests signed with the user's keys must not go to the endpoint."""
    text, style = options.endpoint, options.addressing_style
    endpoint = _parsed(text or os.environ.get(_ENDPOINT), style)
    if endpoint is None:
        return
    name = urlsplit(f"//{endpoint.host}").hostname or ""
    is_own = not text or endpoint in {_parsed(known, style) for known in trusted}
    if not is_own and not _is_safe(endpoint, name):
        address = f"{endpoint.scheme}://{endpoint.host}"
        yield (
            f"endpoint={_shown(text or '')} would get what your keys sign, and options "
            "may be those of others: they may name only a regional endpoint of OSS, by "
            "https, without a port, and with addressing_style='virtual'. Set "
            f"{_ENDPOINT}={address} instead, or {VARIABLE}={address}"
        )
    is_plain = endpoint.scheme == "http" and not is_loopback(name)
    if options.allow_http and is_plain and _ALLOW_HTTP not in trusted:
        yield (
            f"{_ALLOW_HTTP} would send what your keys sign in clear text, and options "
            "may be those of others: set FSSPEC_OSSPRESIGNED_ALLOW_HTTP=true, or "
            f"{VARIABLE}={_ALLOW_HTTP}"
        )


def _parsed(text: str | None, style: str | None) -> Endpoint | None:
    from ..signing.endpoint import Endpoint  # noqa: PLC0415 - needed only for keys

    try:
        return Endpoint.parse(text or "", style=style)
    except ConfigurationError:
        return None


def _is_safe(endpoint: Endpoint, name: str) -> bool:
    """Return whether requests go to this machine, or to the bucket's host at OSS.

    With another addressing style or host, the request could reach another customer's
    bucket, and this customer could read its signature.
    """
    is_oss = endpoint.scheme == "https" and is_oss_endpoint(endpoint.host)
    return is_loopback(name) or (is_oss and endpoint.style == "virtual")


def _shown(value: str) -> str:
    return redact(value)[:80]
