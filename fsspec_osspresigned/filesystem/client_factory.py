"""Client factory: a client from options, with its signer and transport."""

from __future__ import annotations

from collections.abc import Callable

from ..client.client import Client, shared_client
from ..concurrency import shutdown
from ..http.transport import Transport
from ..options.options import Options
from ..signers import make_signer

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
    signer = make_signer(options, transport.exchange, opener)
    return Client(options, signer, transport, note=note, checkpoint=journals)
