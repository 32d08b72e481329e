"""Puts a client together from options: which signer, which transport."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..client.client import Client, shared_client
from ..concurrency import shutdown
from ..http.transport import Transport
from ..options.options import Options
from ..secret import resolve_text
from ..signers.base import Signer

Opener = Callable[[str], bytes]


def client_for(options: Options, opener: Opener) -> Client:
    """Return this process's client for *options*, made when it is the first.

    Args:
        options: the validated options.
        opener: reads a URL map that is not on this machine.

    Raises:
        ConfigurationError: a URL, map, signer, key or token cannot be used.
    """
    return shared_client(options, lambda found: _make(found, opener))


def _make(options: Options, opener: Opener) -> Client:
    shutdown.watch()  # the first upload may begin in another thread
    connect, progress = options.timeout
    transport = Transport(
        pool=options.max_concurrency,
        connect_timeout=connect,
        progress_timeout=progress,
        allow_http=options.allow_http,
    )
    note = journals = None
    if options.receipts is not None:
        from ..client.receipts import receipt_writer  # noqa: PLC0415 - only what is used

        note = receipt_writer(options.receipts)
    if options.checkpoint is not None:
        from ..checkpoint.directory import Checkpoint  # noqa: PLC0415 - only what is used

        journals = Checkpoint(options.checkpoint)
    signer = _signer(options, transport, opener)
    return Client(options, signer, transport, note=note, checkpoint=journals)


def _signer(options: Options, transport: Transport, opener: Opener) -> Signer:
    """Return the signer that the options mean; a URL map is asked before another."""
    if options.url is not None:
        from ..signers.presigned import OneURLSigner  # noqa: PLC0415 - only what is used

        url = options.url
        return OneURLSigner(lambda: resolve_text(url), allow_http=options.allow_http)
    signers: list[Signer] = []
    if options.url_map is not None:
        from ..signers.presigned import URLMapSigner  # noqa: PLC0415
        from ..url_map.source import load  # noqa: PLC0415

        source = load(options.url_map, opener, allow_http=options.allow_http)
        signers.append(URLMapSigner(source, allow_http=options.allow_http))
    if options.signer is not None:
        signers.append(_live_signer(options.signer, options, transport))
    if len(signers) == 1:
        return signers[0]
    from ..signers.chain import ChainSigner  # noqa: PLC0415

    return ChainSigner(*signers)


def _live_signer(signer: Any, options: Options, transport: Transport) -> Signer:
    if signer == "keys":
        from ..signers.keys import KeySigner  # noqa: PLC0415

        return KeySigner.from_options(
            region=options.region,
            endpoint=options.endpoint,
            version=options.signature_version,
            expires_in=options.expires_in,
            style=options.addressing_style,
        )
    if isinstance(signer, str) and "://" in signer:
        from ..signers.http import HTTPSigner, token_source  # noqa: PLC0415

        return HTTPSigner(
            signer,
            exchange=transport.exchange,
            token=token_source(options.signer_token),
            allowed_hosts=options.allowed_hosts,
            allow_http=options.allow_http,
        )
    from ..signers.function import as_signer, import_signer  # noqa: PLC0415

    if isinstance(signer, str):
        return import_signer(signer, allow_http=options.allow_http)
    return as_signer(signer, allow_http=options.allow_http)
