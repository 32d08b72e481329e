"""Uploads whose coroutines a plain test calls."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Collection, Sequence

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.http.body import Body
from fsspec_osspresigned.model import Operation, Receipt, SignedRequest
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.signers.base import Grant, Signer
from fsspec_osspresigned.upload.upload import TransferContext, Upload, upload_source
from tests.owner_keys import owner_signer


class OwnerSigner(Signer):
    """The key of the store's owner, with a grant, and without some actions."""

    def __init__(
        self, oss: Emulator, grant: Grant | None = None, refuses: Collection[str] = ()
    ) -> None:
        self.keys = owner_signer(oss)
        self.given, self.refuses = grant or Grant(), refuses

    def grant(self, path: str) -> Grant:
        return self.given

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        for operation in operations:
            if operation.action in self.refuses:
                raise NotCoveredError("the test says so", path=operation.path)
        return self.keys.sign(operations)


class PlainUpload:
    """An ``Upload`` with plain methods."""

    def __init__(self, client: Client, target: Target, **facts: object) -> None:
        self.upload = run(Upload.begin, client, target, **facts)

    def __getattr__(self, name: str) -> object:
        found = getattr(self.upload, name)
        return (
            functools.partial(run, found)
            if inspect.iscoroutinefunction(found)
            else found
        )


def put(client: Client, target: Target, body: Body, progress=None) -> Receipt:
    """Store *body* as ``upload_source`` does."""
    context = TransferContext(progress=progress)
    return run(upload_source, client, target, body, context)
