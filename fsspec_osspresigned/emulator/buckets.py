"""What is said of buckets: the list of them, and of each where it is and whose."""

from __future__ import annotations

from typing import Any

from .answers import Answer, xml, xml_answer
from .call import Call, read_number
from .exchange import OWNER, Exchange, Settings, invalid_argument
from .store import Store

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
