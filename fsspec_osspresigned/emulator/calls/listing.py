"""ListObjectsV2, ListObjects and ListMultipartUploads."""

from __future__ import annotations

import base64
import binascii
import bisect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from attrs import frozen

from ..message.answers import Answer, iso_date, quoted, xml, xml_answer
from ..message.call import Call, read_number
from ..store.store import Store, StoredObject
from .exchange import OWNER, Exchange, Settings, invalid_argument
from .properties import STORAGE_CLASS

# What is said of buckets: the list of them, and of each where it is and whose.

_MADE = "2020-01-01T00:00:00.000Z"
_MOST = 1000
_USUAL = 100
_OWNER = ("Owner", [("ID", OWNER), ("DisplayName", OWNER)])
_ACL = ("AccessControlList", [("Grant", "private")])

Rows = list[tuple[str, Any]]


def list_buckets(call: Call, store: Store, settings: Settings) -> Answer:
    """List the buckets by name; all of them are the owner's."""
    given = call.parameters
    asked = given.get("max-keys", "") or str(_USUAL)
    most = read_number(asked)
    if most is None or not 1 <= most <= _MOST:
        raise invalid_argument(
            "max-keys must be between 1 and 1000.", ArgumentName="max-keys"
        )
    prefix, marker = given.get("prefix", ""), given.get("marker", "")
    names = sorted(n for n in store.buckets if n.startswith(prefix) and n > marker)
    page = names[:most]
    buckets = [("Bucket", _rows(name, settings.region)) for name in page]
    rows: Rows = [
        ("Prefix", prefix),
        ("Marker", marker),
        ("MaxKeys", most),
        ("IsTruncated", len(names) > most),
    ]
    if len(names) > most:
        rows.append(("NextMarker", page[-1]))
    return xml_answer(
        xml("ListAllMyBucketsResult", *rows, _OWNER, ("Buckets", buckets))
    )


async def get_bucket_info(exchange: Exchange) -> Answer:
    """Answer what can be said of a bucket."""
    rows = _rows(exchange.bucket.name, exchange.settings.region)
    rows += [_OWNER, _ACL]
    if exchange.bucket.versioned:
        rows.append(("Versioning", "Enabled"))
    return xml_answer(xml("BucketInfo", ("Bucket", rows)))


async def get_bucket_location(exchange: Exchange) -> Answer:
    """Answer the region, in the one document that is a bare text."""
    return xml_answer(xml("LocationConstraint", text=f"oss-{exchange.settings.region}"))


async def get_bucket_acl(_: Exchange) -> Answer:
    """Answer that a bucket is private."""
    return xml_answer(xml("AccessControlPolicy", _OWNER, _ACL))


async def get_bucket_stat(exchange: Exchange) -> Answer:
    """Answer how much is in a bucket."""
    objects = list(exchange.bucket.objects.values())
    body = xml(
        "BucketStat",
        ("Storage", sum(stored.size for stored in objects)),
        ("ObjectCount", len(objects)),
        ("MultipartUploadCount", len(exchange.bucket.uploads)),
    )
    return xml_answer(body)


def _rows(name: str, region: str) -> Rows:
    return [
        ("Name", name),
        ("CreationDate", _MADE),
        ("Location", f"oss-{region}"),
        ("Region", region),
        ("ExtranetEndpoint", f"oss-{region}.aliyuncs.com"),
        ("IntranetEndpoint", f"oss-{region}-internal.aliyuncs.com"),
        ("StorageClass", "Standard"),
    ]


@frozen(kw_only=True)
class Page:
    """What one answer holds: keys, common prefixes, and where the next one begins."""

    keys: Sequence[str]
    prefixes: Sequence[str]
    next_after: str | None


async def list_objects_v2(exchange: Exchange) -> Answer:
    """List keys in byte order, rolled up at the delimiter."""
    given = exchange.call.parameters
    most, shown = _most(exchange, "max-keys", _USUAL), _shown(exchange)
    token = given.get("continuation-token")
    after, passed = given.get("start-after", ""), ""
    if token is not None:
        after = passed = _read_token(token)
    page = cut_page(
        exchange.bucket.keys(),
        prefix=given.get("prefix", ""),
        delimiter=given.get("delimiter", ""),
        after=after,
        passed=passed,
        most=most,
    )
    rows = _head(exchange, most, shown)
    if "start-after" in given:
        rows.append(("StartAfter", shown(given["start-after"])))
    if token is not None:
        rows.append(("ContinuationToken", token))
    if page.next_after is not None:
        rows.append(("NextContinuationToken", _write_token(page.next_after)))
    rows.append(("KeyCount", len(page.keys) + len(page.prefixes)))
    owner = given.get("fetch-owner") == "true"
    rows += _entries(exchange, page, shown, owner=owner)
    return xml_answer(xml("ListBucketResult", *rows))


async def list_objects(exchange: Exchange) -> Answer:
    """List keys as version 1 of the call does: from a marker on, owners always told."""
    given = exchange.call.parameters
    most, shown = _most(exchange, "max-keys", _USUAL), _shown(exchange)
    marker = given.get("marker", "")
    page = cut_page(
        exchange.bucket.keys(),
        prefix=given.get("prefix", ""),
        delimiter=given.get("delimiter", ""),
        after=marker,
        passed=marker,
        most=most,
    )
    rows = _head(exchange, most, shown)
    rows.append(("Marker", shown(marker)))
    if page.next_after is not None:
        rows.append(("NextMarker", shown(page.next_after)))
    rows += _entries(exchange, page, shown, owner=True)
    return xml_answer(xml("ListBucketResult", *rows))


async def list_multipart_uploads(exchange: Exchange) -> Answer:
    """List the open uploads by key, then by id; a delimiter is not acted upon."""
    given = exchange.call.parameters
    most, shown = _most(exchange, "max-uploads", _MOST), _shown(exchange)
    prefix = given.get("prefix", "")
    after = given.get("key-marker", ""), given.get("upload-id-marker", "")
    # Without an id, all uploads of the marker's key are passed over.
    behind = (after[0], after[1] or "\U0010ffff")
    uploads = sorted(
        (upload.key, upload.upload_id, upload)
        for upload in exchange.bucket.uploads.values()
        if upload.key.startswith(prefix) and (upload.key, upload.upload_id) > behind
    )
    page = uploads[:most]
    rows: Rows = [
        ("Bucket", exchange.bucket.name),
        ("KeyMarker", shown(after[0])),
        ("UploadIdMarker", after[1]),
        ("Prefix", shown(prefix)),
        ("MaxUploads", most),
        ("IsTruncated", len(uploads) > most),
    ]
    if given.get("encoding-type") == "url":
        rows.append(("EncodingType", "url"))
    if page:
        rows.append(("NextKeyMarker", shown(page[-1][0])))
        rows.append(("NextUploadIdMarker", page[-1][1]))
    rows += [
        (
            "Upload",
            [
                ("Key", shown(key)),
                ("UploadId", upload_id),
                ("StorageClass", upload.headers[STORAGE_CLASS]),
                ("Initiated", iso_date(upload.initiated)),
            ],
        )
        for key, upload_id, upload in page
    ]
    return xml_answer(xml("ListMultipartUploadsResult", *rows))


def _most(exchange: Exchange, name: str, usual: int) -> int:
    asked = exchange.call.parameters.get(name, "") or str(usual)
    most = read_number(asked)
    if most is None or not 1 <= most <= _MOST:
        raise invalid_argument(
            f"{name} must be between 1 and 1000.",
            ArgumentName=name,
            ArgumentValue=asked,
        )
    return most


def _shown(exchange: Exchange) -> Callable[[str], str]:
    """Return how keys are written.

    Raises:
        RefusedError: in another way than OSS knows.
    """
    encoding = exchange.call.parameters.get("encoding-type")
    if encoding not in (None, "", "url"):
        raise invalid_argument("Invalid Encoding Method.", ArgumentName="encoding-type")
    if encoding == "url":
        return partial(quote, safe="", errors="surrogateescape")
    return str


def _head(exchange: Exchange, most: int, shown: Callable[[str], str]) -> Rows:
    given = exchange.call.parameters
    rows: Rows = [
        ("Name", exchange.bucket.name),
        ("Prefix", shown(given.get("prefix", ""))),
        ("MaxKeys", most),
        ("Delimiter", shown(given.get("delimiter", ""))),
    ]
    if given.get("encoding-type") == "url":
        rows.append(("EncodingType", "url"))
    return rows


def _entries(
    exchange: Exchange, page: Page, shown: Callable[[str], str], *, owner: bool
) -> Rows:
    objects = exchange.bucket.objects
    rows: Rows = [("IsTruncated", page.next_after is not None)]
    rows += [
        ("Contents", _contents(objects[k], shown(k), owner=owner)) for k in page.keys
    ]
    rows += [("CommonPrefixes", [("Prefix", shown(p))]) for p in page.prefixes]
    return rows


def cut_page(
    keys: Sequence[str],
    *,
    prefix: str,
    delimiter: str,
    after: str,
    passed: str,
    most: int,
) -> Page:
    """Return the page of sorted *keys* that comes behind *after*.

    A common prefix counts as one entry and is passed over as a whole; *passed* is the
    last entry of the page before, and everything below it if it was one.
    """
    found: list[str] = []
    prefixes: list[str] = []
    at = max(bisect.bisect_right(keys, after), bisect.bisect_left(keys, prefix))
    # A key may end in the delimiter too; only behind the prefix does it fold keys.
    folds = passed.find(delimiter, len(prefix)) if delimiter else -1
    if folds >= 0 and folds + len(delimiter) == len(passed):
        at = max(at, _behind(keys, passed))
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
            at = _behind(keys, last)
    return Page(keys=found, prefixes=prefixes, next_after=None)


def _behind(keys: Sequence[str], prefix: str) -> int:
    """Return the index behind all keys that begin with *prefix*."""
    return bisect.bisect_right(keys, prefix, key=lambda key: key[: len(prefix)])


def _contents(stored: StoredObject, key: str, *, owner: bool) -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = [
        ("Key", key),
        ("LastModified", iso_date(stored.modified)),
        ("ETag", quoted(stored.etag)),
        ("Type", stored.kind),
        ("Size", stored.size),
        ("StorageClass", stored.headers[STORAGE_CLASS]),
    ]
    if owner:
        rows.append(("Owner", [("ID", OWNER), ("DisplayName", OWNER)]))
    return rows


def _write_token(after: str) -> str:
    return base64.urlsafe_b64encode(after.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise invalid_argument(
            "The continuation-token is invalid.", ArgumentName="continuation-token"
        ) from error
