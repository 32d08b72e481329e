"""What is checked before the first byte of an upload leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from .client import Client
from .errors import ConfigurationError, NotSignedError
from .ledger import Plan, plan_for
from .model import LARGEST_FILE_PART, LARGEST_PART, Action, Operation
from .publish import Target
from .signers.base import Grant, MultipartGrant, grant_for, preflight


def plan(
    client: Client,
    target: Target,
    grant: Grant,
    size: int | None,
    *,
    at_hand: bool = False,
) -> Plan:
    """Return into what an object of *size* bytes is cut; None for a stream.

    Args:
        client: the options.
        target: where to.
        grant: how the object may be uploaded.
        size: bytes in all; None for a stream.
        at_hand: whether parts take no memory. They may be large then, unless what was
            sent of them is to be kept through a crash.

    Raises:
        ConfigurationError: what is granted cannot carry it, with every reason.
    """
    return plan_for(
        grant,
        size=size,
        part_size=client.options.part_size,
        threshold=client.options.multipart_threshold,
        path=target.path,
        largest=LARGEST_FILE_PART
        if at_hand and client.checkpoint is None
        else LARGEST_PART,
    )


def opening(client: Client, target: Target, size: int) -> Operation:
    """Return the first request of an upload of *size* bytes.

    Raises:
        ConfigurationError: what is granted cannot carry it.
        NotSignedError: the signer has nothing for this path.
    """
    grant = grant_for(client.signer, target.path)
    if plan(client, target, grant, size).multipart:
        return target.initiate_operation()
    return target.put_operation(size)


def refuse_expired(grant: Grant, path: str) -> None:
    """Refuse what can no longer start.

    Raises:
        NotSignedError: the first of the presigned URLs has expired.
    """
    if (ends := grant.expires_at) is not None and ends <= time.time():
        when = datetime.fromtimestamp(ends, UTC).isoformat(" ", "seconds")
        msg = f"its presigned URL expired at {when}: ask the owner for a new one"
        raise NotSignedError(msg, path=path)


def check(
    client: Client, target: Target, grant: Grant, cut: Plan, size: int | None
) -> None:
    """Refuse what the granted requests cannot carry.

    Costs no call: a signer that must be asked first is not asked here.

    Args:
        client: the options, and the signer.
        target: where to, and with which headers.
        grant: how the object may be uploaded.
        cut: into which parts it will be.
        size: bytes in all; None for a stream.

    Raises:
        ConfigurationError: with every reason.
        NotSignedError: a presigned URL that will be needed cannot be used so.
    """
    granted = grant.multipart or MultipartGrant()
    problems = []
    if cut.multipart and not granted.completes and client.options.receipts is None:
        problems.append(
            "the owner completes this upload from its receipts: receipts= is required"
        )
    lost = sorted(set(target.on_initiate) - set(target.on_complete))
    if cut.multipart and granted.is_owners and lost:
        problems.append(
            f"the owner has initiated this upload: {', '.join(lost)} cannot be set now"
        )
    if problems:
        raise ConfigurationError(problems, path=target.path)
    if hasattr(client.signer, "preflight"):  # else nobody would look at them
        for operation in _needed(target, grant, cut, size):
            preflight(client.signer, operation)


def _needed(
    target: Target, grant: Grant, cut: Plan, size: int | None
) -> Iterator[Operation]:
    """Yield the requests that the upload will surely need, or may if it is a stream."""
    if grant.single and not cut.multipart:
        yield target.put_operation(size)
    parts = grant.multipart
    streams = size is None and not cut.spools
    if parts is None or not parts.upload_id or not (cut.multipart or streams):
        return
    length = None if size is None else min(size, cut.part_size)
    yield target.part_operation(parts.upload_id, 1, length)
    if parts.completes:
        yield target.operation(
            Action.CompleteMultipartUpload,
            headers=target.on_complete,
            upload_id=parts.upload_id,
        )
