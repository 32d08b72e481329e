"""Listings: ListObjects (versions 1 and 2), ListMultipartUploads, ListParts, ListBuckets.

Every listing cuts a page of at most ``max-...`` entries after a marker.
"""

from __future__ import annotations

import base64
import bisect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from attrs import frozen

from ...model import STORAGE_CLASS, Action
from ..message.replies import EmulatorReply, Rows, iso_date, quoted, xml_reply
from ..store.store import StoredObject
from .context import OWNER, CallContext, invalid_argument
from .uploads import find_upload, names

_T = TypeVar("_T")

_MOST = 1000
_USUAL = 100
_MADE = "2020-01-01T00:00:00.000Z"
_PRIVATE = ("AccessControlList", [("Grant", "private")])
_AFTER_ALL = "\U0010ffff"


@frozen(kw_only=True)
class Page:
    """One page: keys, common prefixes, and the entry after which the next one begins."""

    keys: Sequence[str]
    prefixes: Sequence[str]
    next_after: str | None


async def list_objects(context: CallContext) -> EmulatorReply:
    """List keys in byte order, rolled up at the delimiter.

    Version 1 pages by marker and always tells the owner; version 2 pages by token.
    """
    given, is_v2 = context.call.parameters, context.call.action == Action.ListObjectsV2
    most, shown = (
        context.number("max-keys", _USUAL, least=1, most=_MOST),
        _shown(context),
    )
    prefix, delimiter = given.get("prefix", ""), given.get("delimiter", "")
    token = given.get("continuation-token") if is_v2 else None
    if is_v2:
        passed = "" if token is None else read_token(token)
    else:
        passed = given.get("marker", "")
    page = cut_page(
        context.bucket.keys(),
        prefix=prefix,
        delimiter=delimiter,
        after=given.get("start-after", "") if is_v2 and token is None else passed,
        passed=passed,
        most=most,
    )
    rows: Rows = [
        ("Name", context.bucket.name),
        ("Prefix", shown(prefix)),
        ("MaxKeys", most),
        ("Delimiter", shown(delimiter)),
        *_encoding(context),
    ]
    following = page.next_after
    if is_v2:
        if "start-after" in given:
            rows.append(("StartAfter", shown(given["start-after"])))
        if token is not None:
            rows.append(("ContinuationToken", token))
        if following is not None:
            written = base64.urlsafe_b64encode(following.encode()).decode()
            rows.append(("NextContinuationToken", written))
        rows.append(("KeyCount", len(page.keys) + len(page.prefixes)))
    else:
        rows.append(("Marker", shown(passed)))
        if following is not None:
            rows.append(("NextMarker", shown(following)))
    rows.append(("IsTruncated", following is not None))
    owner = [OWNER] if not is_v2 or given.get("fetch-owner") == "true" else []
    found = ((shown(key), context.bucket.objects[key]) for key in page.keys)
    rows += [("Contents", [*_contents(*one), *owner]) for one in found]
    rows += [("CommonPrefixes", [("Prefix", shown(p))]) for p in page.prefixes]
    return xml_reply("ListBucketResult", *rows)


def _contents(key: str, stored: StoredObject) -> Rows:
    return [
        ("Key", key),
        ("LastModified", iso_date(stored.modified)),
        ("ETag", quoted(stored.etag)),
        ("Type", stored.kind),
        ("Size", stored.size),
        ("StorageClass", stored.headers[STORAGE_CLASS]),
    ]


def cut_page(
    keys: Sequence[str],
    *,
    prefix: str,
    delimiter: str,
    after: str,
    passed: str,
    most: int,
) -> Page:
    """Return the page of sorted *keys* that follows *after*.

    A common prefix counts as one entry and is passed over as a whole; *passed* is the
    last entry of the previous page. If that is a common prefix, everything below it is
    passed over.
    """
    found: list[str] = []
    prefixes: list[str] = []
    at = max(bisect.bisect_right(keys, after), bisect.bisect_left(keys, prefix))
    # A key may end in the delimiter too; a delimiter folds keys only after the prefix.
    folds = passed.find(delimiter, len(prefix)) if delimiter else -1
    if folds >= 0 and folds + len(delimiter) == len(passed):
        at = max(at, _end_of(keys, passed))
    last = after
    while at < len(keys) and keys[at].startswith(prefix):
        if len(found) + len(prefixes) == most:
            return Page(keys=found, prefixes=prefixes, next_after=last)
        last = keys[at]
        end = last.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            found.append(last)
            at += 1
        else:
            last = last[: end + len(delimiter)]
            prefixes.append(last)
            at = _end_of(keys, last)
    return Page(keys=found, prefixes=prefixes, next_after=None)


def _end_of(keys: Sequence[str], prefix: str) -> int:
    """Return the end index, exclusive, of the keys that begin with *prefix*."""
    return bisect.bisect_right(keys, prefix, key=lambda key: key[: len(prefix)])


def read_token(token: str) -> str:
    """Return the key in a continuation token; RefusedError if there is none."""
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        message = "The continuation-token is invalid."
        raise invalid_argument(message, "continuation-token") from error


async def list_multipart_uploads(context: CallContext) -> EmulatorReply:
    """List the open uploads by key, then by ID; a delimiter has no effect."""
    given = context.call.parameters
    shown = _shown(context)
    prefix = given.get("prefix", "")
    key, upload_id = given.get("key-marker", ""), given.get("upload-id-marker", "")
    # Without an ID, all uploads of the marker's key are passed over.
    after = (key, upload_id or _AFTER_ALL)
    uploads = sorted(
        (upload.key, upload.upload_id, upload)
        for upload in context.bucket.uploads.values()
        if upload.key.startswith(prefix) and (upload.key, upload.upload_id) > after
    )
    page, limits = _cut(context, "uploads", uploads)
    rows: Rows = [
        ("Bucket", context.bucket.name),
        ("KeyMarker", shown(key)),
        ("UploadIdMarker", upload_id),
        ("Prefix", shown(prefix)),
        *limits,
        *_encoding(context),
    ]
    if page:
        rows.append(("NextKeyMarker", shown(page[-1][0])))
        rows.append(("NextUploadIdMarker", page[-1][1]))
    for key, upload_id, upload in page:
        row: Rows = [
            ("Key", shown(key)),
            ("UploadId", upload_id),
            ("StorageClass", upload.headers[STORAGE_CLASS]),
            ("Initiated", iso_date(upload.initiated)),
        ]
        rows.append(("Upload", row))
    return xml_reply("ListMultipartUploadsResult", *rows)


async def list_parts(context: CallContext) -> EmulatorReply:
    """List the parts stored so far, by number."""
    upload = find_upload(context, "0042-00000002")
    marker = context.number("part-number-marker", 0)
    parts = [part for number, part in sorted(upload.parts.items()) if number > marker]
    page, limits = _cut(context, "parts", parts)
    rows: Rows = [
        ("UploadId", upload.upload_id),
        ("StorageClass", "Standard"),
        ("PartNumberMarker", marker),
        ("NextPartNumberMarker", page[-1].number if page else marker),
        *limits,
    ]
    for part in page:
        row: Rows = [
            ("PartNumber", part.number),
            ("LastModified", iso_date(part.modified)),
            ("ETag", quoted(part.piece.etag)),
            ("HashCrc64ecma", part.piece.crc64),
            ("Size", part.piece.size),
        ]
        rows.append(("Part", row))
    return xml_reply("ListPartsResult", *names(context), *rows)


async def list_buckets(context: CallContext) -> EmulatorReply:
    """List the buckets by name; all of them are the owner's."""
    given = context.call.parameters
    prefix, marker = given.get("prefix", ""), given.get("marker", "")
    buckets = [
        (name, bucket)
        for name, bucket in sorted(context.store.buckets.items())
        if name.startswith(prefix) and name > marker
    ]
    page, limits = _cut(context, "keys", buckets, _USUAL)
    rows: Rows = [("Prefix", prefix), ("Marker", marker), *limits]
    if len(page) < len(buckets):
        rows.append(("NextMarker", page[-1][0]))
    location = context.settings.location
    found = [("Bucket", _description(name, location)) for name, _ in page]
    return xml_reply("ListAllMyBucketsResult", *rows, OWNER, ("Buckets", found))


def _description(name: str, region: str) -> Rows:
    return [
        ("Name", name),
        ("CreationDate", _MADE),
        ("Location", f"oss-{region}"),
        ("Region", region),
        ("ExtranetEndpoint", f"oss-{region}.aliyuncs.com"),
        ("IntranetEndpoint", f"oss-{region}-internal.aliyuncs.com"),
        ("StorageClass", "Standard"),
    ]


async def get_bucket_info(context: CallContext) -> EmulatorReply:
    """Answer everything known about a bucket."""
    rows = [*_description(context.bucket.name, context.settings.location)]
    rows += [OWNER, _PRIVATE]
    if context.bucket.versioned:
        rows.append(("Versioning", "Enabled"))
    return xml_reply("BucketInfo", ("Bucket", rows))


async def get_bucket_location(context: CallContext) -> EmulatorReply:
    """Answer the region."""
    return xml_reply("LocationConstraint", f"oss-{context.settings.location}")


async def get_bucket_acl(_: CallContext) -> EmulatorReply:
    """Answer that a bucket is private."""
    return xml_reply("AccessControlPolicy", OWNER, _PRIVATE)


async def get_bucket_stat(context: CallContext) -> EmulatorReply:
    """Answer how much is in a bucket."""
    objects = list(context.bucket.objects.values())
    return xml_reply(
        "BucketStat",
        ("Storage", sum(stored.size for stored in objects)),
        ("ObjectCount", len(objects)),
        ("MultipartUploadCount", len(context.bucket.uploads)),
    )


def _cut(
    context: CallContext, what: str, entries: list[_T], usual: int = _MOST
) -> tuple[list[_T], Rows]:
    """Return the page of *entries* and the rows that tell its limits."""
    most = context.number(f"max-{what}", usual, least=1, most=_MOST)
    rows: Rows = [(f"Max{what.title()}", most), ("IsTruncated", len(entries) > most)]
    return entries[:most], rows


def _shown(context: CallContext) -> Callable[[str], str]:
    """Return how keys are written; RefusedError for an encoding that OSS lacks."""
    if context.encodes_keys:
        return partial(quote, safe="", errors="surrogateescape")
    if context.call.parameters.get("encoding-type"):
        raise invalid_argument("Invalid Encoding Method.", "encoding-type")
    return str


def _encoding(context: CallContext) -> Rows:
    return [("EncodingType", "url")] if context.encodes_keys else []
