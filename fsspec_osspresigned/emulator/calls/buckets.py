"""Calls on a bucket: GetBucketInfo, GetBucketLocation, GetBucketAcl, GetBucketStat."""

from __future__ import annotations

from ..message.replies import EmulatorReply, Rows, xml_reply
from .context import OWNER, CallContext

_MADE = "2020-01-01T00:00:00.000Z"
_PRIVATE = ("AccessControlList", [("Grant", "private")])


def description(name: str, region: str) -> Rows:
    """Return what lists and GetBucketInfo tell of a bucket."""
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
    rows = [*description(context.bucket.name, context.settings.location)]
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
