"""Client factory: makes a client, with signer and transport, from storage options."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import fsspec
from fsspec.config import apply_config, conf

from ..client.client import Client, shared_client
from ..compat import at_fork
from ..engine import abort_at_exit
from ..http.handle import may_have_proxy
from ..http.transport import Transport
from ..model import MAX_MAP
from ..options.options import ALIAS, Options, portable, without_alias
from ..options.trust import check_trust
from ..signers import make_signer
from ..units import shown_bytes
from ..url_checks import is_web
from .arguments import PROTOCOL

_UPLOAD_SERVER = ("upload_server", "upload_server_options")
# Source of signatures -> sources in fsspec's configuration that it replaces if it is
# given explicitly. A map or a grant may be combined with any signer.
_REPLACED = {
    "presigned_url": {
        ALIAS,
        "url_map",
        "grant",
        "signer",
        "signer_token",
        *_UPLOAD_SERVER,
    },
    "signer": {ALIAS, "presigned_url", "url_map", "grant", *_UPLOAD_SERVER},
    "grant": {ALIAS, "presigned_url", "url_map", *_UPLOAD_SERVER},
    "url_map": {ALIAS, "presigned_url", *_UPLOAD_SERVER},
    "upload_server": {
        ALIAS,
        "presigned_url",
        "url_map",
        "grant",
        "signer",
        "upload_server_options",
    },
}

# Modules that this package or its libraries import on first use.
_LAZY = (
    *("upload.journal", "client.error_codes", "signers.s3_checksums"),
    *("signers.batching", "upload.codecs"),
    *("upload.resume", "upload.writer"),
)
_LAZY_LIBRARIES = (
    *("certifi", "difflib", "encodings.utf_8_sig", "fcntl", "secrets"),
    *("termios", "xml.etree.ElementTree", "xml.parsers.expat", "xml.sax.saxutils"),
)
_LAZY_WITH_PROXY = ("requests",)


def read_url(reference: str, limit: int = MAX_MAP) -> bytes:
    """Return the bytes of a URL map that fsspec reads from *reference*.

    Raises:
        OSError: the map is longer than *limit* bytes, or cannot be read.
    """
    # Without blocks, HTTP is streamed. With blocks, the server decides how much arrives
    # at once.
    options = {"block_size": 0} if is_web(reference) else {}
    pieces, left = [], limit + 1
    with fsspec.open(reference, "rb", **options) as file:
        while left and (piece := file.read(left)):
            pieces.append(piece)
            left -= len(piece)
    if not left:
        raise OSError(errno.EFBIG, f"it is longer than {shown_bytes(limit)}")
    return b"".join(pieces)


def configured_options(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options *given*, completed from fsspec's configuration for *kind*.

    A source of signatures in *given* replaces configured ones (``_REPLACED``). The
    result is sorted, paths are absolute, and secrets are hidden.
    """
    configured = apply_config(kind, {})
    given = without_alias(given)
    replaced = {
        other
        for source, others in _REPLACED.items()
        if given.get(source) is not None
        for other in others
    }
    if _goes_elsewhere(given, configured):
        replaced.add("signer_token")
    without = dict.fromkeys(replaced & configured.keys())
    options = portable({**configured, **without, **given})
    if ALIAS in configured:
        options[ALIAS] = None  # fsspec applies its configuration a second time
    if options.get("anon") is True:
        # pandas adds anon=True when it repeats a refused call
        del options["anon"]
    return dict(sorted(options.items()))


def _goes_elsewhere(given: Mapping[str, Any], configured: Mapping[str, Any]) -> bool:
    """Return whether a token from fsspec's configuration would go to another server."""
    signer, grant = given.get("signer"), given.get("grant")
    if signer not in (None, configured.get("signer")):
        return True
    if given.get("upload_server") not in (None, configured.get("upload_server")):
        return True
    # If the grant is a file, the token stays with its signer, because a file takes no
    # token.
    stays = configured.get("signer") is not None and not (
        isinstance(grant, str) and is_web(grant)
    )
    return grant not in (None, configured.get("grant")) and not stays


def client_for(options: Options) -> Client:
    """Return this process's client for *options*, created on first use.

    Raises:
        ConfigurationError: a URL, map, signer, key or token cannot be used, or comes
            from untrusted options.
    """
    check_trust(options, conf.get(PROTOCOL, {}))
    return shared_client(options, _make)


def _make(options: Options) -> Client:
    abort_at_exit.watch()  # here, because the first upload may begin in another thread
    connect, progress = options.timeout
    transport = Transport(
        pool=options.max_connections,
        connect_timeout=connect,
        progress_timeout=progress,
        allow_http=options.allow_http,
    )
    note = None
    if options.receipts is not None:
        from .receipts import receipt_writer  # noqa: PLC0415 - only the used modules are loaded

        note = receipt_writer(options.receipts)
    if options.resume_dir is not None:
        from ..upload.journal import ResumeDirectory  # noqa: PLC0415 - only the used modules are loaded

        # An unusable directory must fail before an upload begins.
        ResumeDirectory(options.resume_dir)
    signer = make_signer(options, read_url)
    return Client(options, signer, transport, note=note)


def load_lazy_modules() -> None:
    """Import all modules that the verbs import on first use.

    This runs before each fork. If another thread imported a module during the fork, the
    import lock would stay locked in the child forever.
    """
    package = __name__.partition(".")[0]
    names = [*(f"{package}.{name}" for name in _LAZY), *_LAZY_LIBRARIES]
    for name in [*names, *(_LAZY_WITH_PROXY if may_have_proxy() else ())]:
        import_module(name)
    time.strptime("", "")  # the call imports a module


at_fork(before=load_lazy_modules)
