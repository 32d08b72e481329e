"""Calls that list objects, uploads and parts in pages, or describe a bucket."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import quote

from ..model import STORAGE_CLASS, Action
from ..units import oss_moment
from .context import OWNER, CallContext
from .messages import EmulatorReply, invalid_argument, quoted, refused, xml_reply
from .store import DELETE_MARKER, StoredObject
from .writing import find_upload, names

_T = TypeVar("_T")

_MAX_PAGE = 1000
_DEFAULT_PAGE = 100
_PRIVATE = {"Grant": "private"}
_AFTER_ALL = "\U0010ffff"


async def list_objects(context: CallContext) -> EmulatorReply:
    query, shown = context.call.parameters, _shown(context)
    is_v2 = context.call.action == Action.ListObjectsV2
    limit = context.number("max-keys", _DEFAULT_PAGE, minimum=1, maximum=_MAX_PAGE)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    passed = query.get("continuation-token" if is_v2 else "marker", "")
    if is_v2 and passed:
        passed = read_token(passed)
    keys, prefixes, following = cut_page(
        sorted(context.bucket.objects),
        prefix=prefix,
        delimiter=delimiter,
        after=passed or (query.get("start-after", "") if is_v2 else ""),
        passed=passed,
        limit=limit,
    )
    paging: dict[str, Any] = {"Marker": shown(passed), "NextMarker": shown(following)}
    if is_v2:
        paging = {
            "StartAfter": shown(query.get("start-after")),
            "ContinuationToken": query.get("continuation-token"),
            "NextContinuationToken": following
            and base64.urlsafe_b64encode(following.encode()).decode(),
            "KeyCount": len(keys) + len(prefixes),
        }
    shows_owner = not is_v2 or query.get("fetch-owner") == "true"
    content = {
        "Name": context.bucket.name,
        "Prefix": shown(prefix),
        "MaxKeys": limit,
        "Delimiter": shown(delimiter),
        "EncodingType": context.encoding,
        **paging,
        "IsTruncated": following is not None,
        "Contents": [
            {
                "Key": shown(stored.key),
                "LastModified": oss_moment(stored.modified),
                **_described(stored),
                "Owner": OWNER if shows_owner else None,
            }
            for stored in map(context.bucket.objects.__getitem__, keys)
        ],
        "CommonPrefixes": [{"Prefix": shown(p)} for p in prefixes],
    }
    return xml_reply("ListBucketResult", content)


def cut_page(
    keys: Iterable[str],
    *,
    prefix: str,
    delimiter: str,
    after: str,
    passed: str,
    limit: int,
) -> tuple[list[str], list[str], str | None]:
    """Return one page of the sorted *keys*: its keys, its common prefixes and its end.

    The page has at most *limit* entries, and begins after the entry *after*. Its end is
    the entry after which the next page begins; None if this page is the last one.
    *passed* is the last entry of the previous page. If it is a common prefix, all keys
    below it are skipped.
    """
    listed: list[str] = []
    prefixes: list[str] = []
    # The previous page, or this one, already shows this common prefix.
    folder = passed if _folded(passed, prefix, delimiter) == passed else ""
    last = after
    for key in keys:
        head = _folded(key, prefix, delimiter)
        if not key.startswith(prefix) or key <= after or (head and head == folder):
            continue
        if len(listed) + len(prefixes) == limit:
            return listed, prefixes, last
        last, folder = head or key, head
        (prefixes if head else listed).append(last)
    return listed, prefixes, None


def _folded(key: str, prefix: str, delimiter: str) -> str:
    """Return the common prefix of *key*; empty if no delimiter follows *prefix*."""
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return "" if end < 0 else key[: end + len(delimiter)]


def read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        message = "The continuation-token is invalid."
        raise invalid_argument(message, "continuation-token") from error


def _described(stored: StoredObject) -> dict[str, Any]:
    return {
        "ETag": quoted(stored.etag),
        "Type": stored.kind,
        "Size": stored.size,
        "StorageClass": stored.headers[STORAGE_CLASS],
    }


async def list_object_versions(context: CallContext) -> EmulatorReply:
    query, shown, bucket = context.call.parameters, _shown(context), context.bucket
    for name in ("delimiter", "key-marker", "version-id-marker"):
        if query.get(name):
            raise refused("NotImplemented", Header=name)
    prefix = query.get("prefix", "")
    plain = {key: {"null": stored} for key, stored in bucket.objects.items()}
    known = plain | bucket.versions
    entries: dict[str, list[dict[str, Any]]] = {"DeleteMarker": [], "Version": []}
    for key in sorted(key for key in known if key.startswith(prefix)):
        newest = next(reversed(known[key]))
        for version_id, stored in reversed(known[key].items()):
            entry = {
                "Key": shown(key),
                "VersionId": version_id,
                "IsLatest": version_id == newest,
                "LastModified": oss_moment(stored.modified),
                "Owner": OWNER,
            }
            if stored.kind == DELETE_MARKER:
                entries["DeleteMarker"].append(entry)
            else:
                entries["Version"].append({**entry, **_described(stored)})
    content = {
        "Name": bucket.name,
        "Prefix": shown(prefix),
        "MaxKeys": _MAX_PAGE,
        "IsTruncated": False,
        "EncodingType": context.encoding,
        **entries,
    }
    return xml_reply("ListVersionsResult", content)


async def list_multipart_uploads(context: CallContext) -> EmulatorReply:
    query, shown = context.call.parameters, _shown(context)
    if query.get("delimiter"):
        raise refused("NotImplemented", Header="delimiter")
    prefix = query.get("prefix", "")
    key, upload_id = query.get("key-marker", ""), query.get("upload-id-marker", "")
    # Without an upload ID, all uploads of the marker's key are skipped.
    after = (key, upload_id or _AFTER_ALL)
    uploads = {(u.key, u.upload_id): u for u in context.bucket.uploads.values()}
    rows = [row for row in sorted(uploads) if row[0].startswith(prefix) and row > after]
    page, limits = _cut(context, "uploads", rows)
    content = {
        "Bucket": context.bucket.name,
        "KeyMarker": shown(key),
        "UploadIdMarker": upload_id,
        "Prefix": shown(prefix),
        **limits,
        "EncodingType": context.encoding,
        "NextKeyMarker": shown(page[-1][0]) if page else "",
        "NextUploadIdMarker": page[-1][1] if page else "",
        "Upload": [
            {
                "Key": shown(upload.key),
                "UploadId": upload.upload_id,
                "StorageClass": upload.headers[STORAGE_CLASS],
                "Initiated": oss_moment(upload.initiated),
            }
            for upload in map(uploads.__getitem__, page)
        ],
    }
    return xml_reply("ListMultipartUploadsResult", content)


async def list_parts(context: CallContext) -> EmulatorReply:
    upload = find_upload(context, "0042-00000002")
    marker = context.number("part-number-marker", 0)
    parts = [part for number, part in sorted(upload.parts.items()) if number > marker]
    page, limits = _cut(context, "parts", parts)
    content = {
        **names(context),
        "UploadId": upload.upload_id,
        "StorageClass": "Standard",
        "PartNumberMarker": marker,
        "NextPartNumberMarker": page[-1].number if page else marker,
        **limits,
        "Part": [
            {
                "PartNumber": part.number,
                "LastModified": oss_moment(part.modified),
                "ETag": quoted(part.etag),
                "HashCrc64ecma": part.crc64,
                "Size": part.size,
            }
            for part in page
        ],
    }
    return xml_reply("ListPartsResult", content)


def _cut(
    context: CallContext, what: str, entries: list[_T], default: int = _MAX_PAGE
) -> tuple[list[_T], dict[str, Any]]:
    limit = context.number(f"max-{what}", default, minimum=1, maximum=_MAX_PAGE)
    limits = {f"Max{what.title()}": limit, "IsTruncated": len(entries) > limit}
    return entries[:limit], limits


def _shown(context: CallContext) -> Callable[[str | None], str | None]:
    if context.encoding:
        return lambda key: key and quote(key, safe="", errors="surrogateescape")
    if context.call.parameters.get("encoding-type"):
        raise invalid_argument("Invalid Encoding Method.", "encoding-type")
    return lambda key: key


async def list_buckets(context: CallContext) -> EmulatorReply:
    query, region = context.call.parameters, context.settings.region
    prefix, marker = query.get("prefix", ""), query.get("marker", "")
    buckets = context.store.buckets
    names = sorted(n for n in buckets if n.startswith(prefix) and n > marker)
    page, limits = _cut(context, "keys", names, _DEFAULT_PAGE)
    content = {
        "Prefix": prefix,
        "Marker": marker,
        **limits,
        "NextMarker": page[-1] if len(page) < len(names) else None,
        "Owner": OWNER,
        "Buckets": {"Bucket": [_description(name, region) for name in page]},
    }
    return xml_reply("ListAllMyBucketsResult", content)


def _description(name: str, region: str) -> dict[str, Any]:
    return {
        "Name": name,
        "CreationDate": "2020-01-01T00:00:00.000Z",
        "Location": f"oss-{region}",
        "Region": region,
        "ExtranetEndpoint": f"oss-{region}.aliyuncs.com",
        "IntranetEndpoint": f"oss-{region}-internal.aliyuncs.com",
        "StorageClass": "Standard",
    }


async def get_bucket_info(context: CallContext) -> EmulatorReply:
    description = {
        **_description(context.bucket.name, context.settings.region),
        "Owner": OWNER,
        "AccessControlList": _PRIVATE,
        "Versioning": "Enabled" if context.bucket.versioned else None,
    }
    return xml_reply("BucketInfo", {"Bucket": description})


async def get_bucket_acl(_: CallContext) -> EmulatorReply:
    """Return the ACL; SDKs send this call to ask whether the bucket exists."""
    content = {"Owner": OWNER, "AccessControlList": _PRIVATE}
    return xml_reply("AccessControlPolicy", content)
