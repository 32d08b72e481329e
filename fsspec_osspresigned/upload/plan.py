"""Upload plan: part sizes, and errors that are certain before the first byte.

The functions derive a plan, or an error, from options, grant and size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from attrs import evolve, frozen

from ..client.client import Client
from ..errors import ConfigurationError, NotCoveredError
from ..model import (
    LARGEST_PART,
    MAX_PART,
    MAX_PARTS,
    MAX_POST_OBJECT,
    MAX_SINGLE_PUT,
    MIN_PART,
    Action,
    Operation,
    split_path,
)
from ..options.options import Options
from ..options.target import Target
from ..other_stores import S3_MIN_PART
from ..signers.base import Grant, MultipartGrant
from ..units import MIB, shown_bytes, shown_moment

# A stream keeps its part size for the first half of the 10,000 parts, and then doubles
# it every 500 parts. With parts of 8 MiB, it reaches 39 GiB before the first doubling
# and 7 TiB in all.
_CONSTANT_PARTS = 5_000
_DOUBLE_EVERY = 500
# Number of parts that may be as small as OSS permits if memory is short. They hold 200
# MB.
_SMALL_PARTS = 2_000
# Number of parts of a file up to 256 MiB: one for each of 16 connections. It depends
# only on the size of the file, because a resumed upload must have the same parts.
_PARTS = 16


@frozen(kw_only=True)
class UploadPlan:
    """Decision on how one object is split and sent."""

    # request that stores the whole object if it needs no parts
    action: Action = Action.PutObject
    largest: int = MAX_SINGLE_PUT  # maximum bytes of a stream in that request
    # True sends parts from the start; False sends one request if possible
    multipart: bool
    part_size: int  # bytes of every part except the last
    min_part: int = MIN_PART  # minimum bytes of every part except the last
    max_parts: int = MAX_PARTS
    grows: bool = False  # True: later parts of a stream get larger
    # True: a stream is spooled to disk, because only one request is granted
    spools: bool = False

    def size_of(self, number: int) -> int:
        """Return the size in bytes of part *number*; the last part may be smaller."""
        if not self.grows or number <= _CONSTANT_PARTS:
            return self.part_size
        doublings = (number - _CONSTANT_PARTS - 1) // _DOUBLE_EVERY + 1
        return min(self.part_size << doublings, MAX_PART)

    def early_size(self, number: int) -> int | None:
        """Return the smallest size in bytes that part *number* may have if memory is short.

        None means that the part must have its planned size.
        """
        if self.spools:  # a spooled stream has no parts
            return MIN_PART
        if not self.grows or number > _CONSTANT_PARTS:
            return None
        return self.min_part if number <= _SMALL_PARTS else max(MIB, self.min_part)

    def cut(self, size: int | None) -> Iterator[tuple[int, int]]:
        """Yield number and size in bytes of each part of an object of *size* bytes.

        *size* None, for a stream, yields all parts that it may have.
        """
        remaining = size
        for number in range(1, self.max_parts + 1):
            part = self.size_of(number)
            if remaining is not None:
                part = min(part, remaining)
                remaining -= part
            yield number, part
            if remaining == 0:
                return


_WHOLE = {  # plans for a single request, which stores an object of any permitted size
    action: UploadPlan(action=action, multipart=False, part_size=MAX_SINGLE_PUT)
    for action in (Action.PutObject, Action.PostObject)
}
_PUT = _WHOLE[Action.PutObject]


def plan_for(
    grant: Grant, options: Options, size: int | None, *, path: str
) -> UploadPlan:
    """Return the plan for an object of *size* bytes; None means a stream.

    Above the threshold, an object is sent in parts. If neither options nor grant fix
    the part size, it is a sixteenth of the object, in whole MiB, from 1 to 16 MiB. It
    is larger if there would be too many parts. Equal arguments give equal plans.

    Raises:
        ConfigurationError: the granted requests cannot store the object; the message
            lists every reason.
    """
    if size is None:
        return _plan_stream(grant, options.piece_size, path)
    parts = grant.multipart
    fits_single = grant.single and size <= grant.action.spec.largest
    if fits_single and (parts is None or size <= options.threshold):
        return _WHOLE[grant.action]
    problems = []
    if grant.single and not fits_single:
        problems.append(f"{limit_of(grant.action)}, the object has {shown_bytes(size)}")
    if parts is None:
        problems.append("no parts are granted")
        if grant.action.spec.form:
            problems[-1] += ": use a signer or part URLs"
        raise ConfigurationError(problems, path=path)
    wanted = options.part_size or min(_whole_mib(-(-size // _PARTS)), LARGEST_PART)
    cut = parts.part_size or _part_size_for(size, wanted, parts)
    misfits = list(_misfits(size, cut, parts))
    if not misfits:
        return UploadPlan(
            multipart=True,
            part_size=cut,
            min_part=parts.min_part,
            max_parts=parts.max_parts,
        )
    if fits_single:
        return _WHOLE[grant.action]
    raise ConfigurationError(problems + misfits, path=path)


def limit_of(action: Action, largest: int | None = None) -> str:
    """Return a text for errors with the largest body of *action*.

    The limit is *largest* bytes; None means the limit of OSS.
    """
    name = "the form of a grant" if action.spec.form else "one PUT"
    maximum = action.spec.largest if largest is None else largest
    room = " (5 GiB with its fields)" if maximum == MAX_POST_OBJECT else ""
    return f"{name} holds {shown_bytes(maximum)}{room} at most"


def too_small(cut: int, minimum: int) -> str:
    limit = "100 KiB" if minimum == MIN_PART else "5 MiB of S3-compatible stores"
    return f"parts of {cut} bytes are below the minimum of {limit}"


def _misfits(size: int, cut: int, parts: MultipartGrant) -> Iterator[str]:
    need, available = max(1, -(-size // cut)), parts.max_parts
    if need > available:
        yield f"{size} bytes in parts of {cut} need {need} parts, {available} can be signed"
    if need > 1 and cut < parts.min_part:
        yield too_small(cut, parts.min_part)
    if min(cut, size) > MAX_PART:
        yield f"parts of {cut} bytes are above the maximum of 5 GiB"


def _whole_mib(size: int) -> int:
    return max(1, -(-size // MIB)) * MIB


def _part_size_for(size: int, wanted: int, parts: MultipartGrant) -> int:
    minimum = max(parts.min_part, -(-size // parts.max_parts))
    if parts.is_owners:
        return minimum  # a URL map needs as many parts as it has URLs
    return wanted if minimum <= wanted else _whole_mib(minimum)


def _plan_stream(grant: Grant, part_size: int, path: str) -> UploadPlan:
    parts = grant.multipart
    unsized = parts is not None and parts.is_owners and parts.part_size is None
    largest = grant.action.spec.largest
    if grant.largest is not None:
        largest = min(largest, grant.largest)
    if parts is None or (unsized and grant.single):
        return UploadPlan(
            action=grant.action,
            largest=largest,
            multipart=False,
            part_size=part_size,
            max_parts=1,
            spools=True,
        )
    if unsized:
        raise ConfigurationError(
            'a stream needs to know the part size of its part URLs: put "part_size" into '
            "the entry, or upload a file of known size",
            path=path,
        )
    cut = parts.part_size or max(part_size, parts.min_part)
    if cut < parts.min_part:
        raise ConfigurationError(too_small(cut, parts.min_part), path=path)
    return UploadPlan(
        action=grant.action,
        largest=largest,
        multipart=not grant.single,
        part_size=cut,
        min_part=parts.min_part,
        max_parts=parts.max_parts,
        grows=parts.part_size is None,
    )


# -- checks before sending ----------------------------------------------------------------


async def planned(
    client: Client, target: Target, size: int | None
) -> tuple[UploadPlan, Grant]:
    """Return the plan for an upload of *size* bytes to *target*, and its grant.

    *size* None means a stream. Nothing is sent to the store. Raises like ``plan_for``,
    ``refuse_expired`` and ``check_plan``, and NotCoveredError if a request that the
    upload needs is not granted.
    """
    grant = client.grant_of_all
    is_small = size is not None and size <= client.options.threshold
    if grant is not None and is_small and client.signer.grants_by_prefix:
        # this grant permits all ways, so the checks below would not change the plan
        return _PUT, grant
    grant = await granted(client, target.path)
    if grant.expires_at is not None:
        refuse_expired(grant, target.path)
    plan = plan_for(grant, client.options, size, path=target.path)
    if plan is not _PUT:  # this plan has no conditions
        check_plan(client.options, target, grant, plan)
    if not client.signer.grants_by_prefix:
        # for such a signer, all requests are granted
        for operation in needed_requests(target, grant, plan, size):
            await client.preflight(operation)
    return plan, grant


async def granted(client: Client, path: str) -> Grant:
    """Return the signer's grant for *path*, with the minimum part size of the store."""
    grant = await client.grant(path)
    parts = grant.multipart
    s3_buckets = client.s3_buckets
    if parts is not None and s3_buckets and split_path(path)[0] in s3_buckets:
        return evolve(grant, multipart=evolve(parts, min_part=S3_MIN_PART))
    return grant


async def first_request(client: Client, target: Target, size: int) -> Operation:
    """Return the first request of an upload of *size* bytes, not yet signed.

    Raises like ``plan_for``.
    """
    grant = await granted(client, target.path)
    if plan_for(grant, client.options, size, path=target.path).multipart:
        return target.operation(Action.InitiateMultipartUpload)
    return target.operation(grant.action, content_length=size)


def refuse_expired(grant: Grant, path: str) -> None:
    """Raise NotCoveredError if the presigned URLs or the grant have expired."""
    expiry = grant.expires_at
    if expiry is not None and expiry <= time.time():
        what = "its grant" if grant.action.spec.form else "its presigned URL"
        msg = f"{what} expired at {shown_moment(expiry)}: ask the owner for a new one"
        raise NotCoveredError(msg, path=path)


def check_plan(
    options: Options, target: Target, grant: Grant, plan: UploadPlan
) -> None:
    """Raise ConfigurationError with every reason why *plan* cannot work."""
    problems: list[str] = []
    if plan.multipart:
        parts = grant.multipart or MultipartGrant()
        if not parts.completes and options.receipts is None:
            problems.append(
                "the owner completes this upload from its receipts: receipts= is required"
            )
        begins, ends = Action.InitiateMultipartUpload, Action.CompleteMultipartUpload
        at_begin = begins.spec.pick(target.kind.headers).keys()
        lost = ", ".join(sorted(at_begin - ends.spec.pick(target.kind.headers).keys()))
        if parts.is_owners and lost:
            problems.append(
                f"the owner has initiated this upload: {lost} cannot be set now"
            )
    elif plan.action.spec.form and target.kind.checksum == "md5":
        problems.append(
            "checksum='md5' cannot be used: the ETag of a form upload is not an MD5; "
            "'auto' compares the CRC-64"
        )
    if problems:
        raise ConfigurationError(problems, path=target.path)


def needed_requests(
    target: Target, grant: Grant, plan: UploadPlan, size: int | None
) -> Iterator[Operation]:
    """Yield requests that the upload needs, to check that they are granted.

    For a stream, *size* is None, and the requests are those that it may need. Only the
    first part is yielded.
    """
    # A form of known size is checked when it is signed, right before it is sent.
    is_form = plan.action.spec.form and size is not None
    if grant.single and not plan.multipart and not is_form:
        yield target.operation(grant.action, content_length=size)
    parts = grant.multipart
    streams = size is None and not plan.spools
    if parts is None or not parts.upload_id or not (plan.multipart or streams):
        return
    length = None if size is None else min(size, plan.part_size)
    yield target.operation(
        Action.UploadPart,
        upload_id=parts.upload_id,
        part_number=1,
        content_length=length,
    )
    if parts.completes:
        yield target.operation(
            Action.CompleteMultipartUpload, upload_id=parts.upload_id
        )
