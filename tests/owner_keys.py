"""The owner of an emulator: a signer with its keys, and a service that signs for others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.owner.service.app import ServiceRules, create_ruled_app
from fsspec_osspresigned.owner.service.policy import parse_policies
from fsspec_osspresigned.signers.keys import KeySigner


def owner_signer(oss: Emulator, **more: Any) -> KeySigner:
    """Return a signer with the key of the owner; *more* goes to ``KeySigner``."""
    return KeySigner(
        credentials=lambda: oss.credentials,
        endpoint=oss.endpoint,
        region=oss.region,
        **more,
    )


@contextlib.contextmanager
def signer_service(oss: Emulator, policies: str) -> Iterator[LoopbackServer]:
    """Run the reference service, which signs what *policies* (TOML) permit to tokens."""
    tokens = parse_policies(policies).tokens
    rules = ServiceRules(signer=owner_signer(oss), tokens=tokens)
    with LoopbackServer(create_ruled_app(lambda: rules)) as server:
        yield server
