"""Uploads whose coroutines a plain test calls."""

from __future__ import annotations

import functools
import inspect

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.engine.engine import run
from fsspec_osspresigned.http.body import Body
from fsspec_osspresigned.model import Receipt
from fsspec_osspresigned.options.of_objects import Target
from fsspec_osspresigned.upload.upload import TransferContext, Upload, upload_source


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
