"""Table of the calls that the emulator answers.

A call of :data:`OPERATIONS` is one row with its handler; a call that only other clients
send also tells how it is recognised. A new call is one row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...model import COPY_SOURCE, OPERATIONS, Action, Spec
from ..message.call import Call
from . import listing, reading, uploads, writing
from .context import Handler

_OPERATIONS: Mapping[Action, Handler] = {
    Action.PutObject: writing.put_object,
    Action.CopyObject: writing.copy_object,
    Action.DeleteObject: writing.delete_object,
    Action.GetObject: reading.get_object,
    Action.HeadObject: reading.head_object,
    Action.ListObjectsV2: listing.list_objects,
    Action.InitiateMultipartUpload: uploads.initiate_multipart_upload,
    Action.UploadPart: uploads.upload_part,
    Action.UploadPartCopy: uploads.upload_part_copy,
    Action.ListParts: listing.list_parts,
    Action.CompleteMultipartUpload: uploads.complete_multipart_upload,
    Action.AbortMultipartUpload: uploads.abort_multipart_upload,
}
# Calls that only other clients send: methods, what the call is on, its parameter.
_OTHERS: Mapping[str, tuple[str, Handler]] = {
    "ListBuckets": ("GET Service", listing.list_buckets),
    "ListObjects": ("GET Bucket", listing.list_objects),
    "ListMultipartUploads": ("GET Bucket uploads", listing.list_multipart_uploads),
    "GetBucketInfo": ("GET Bucket bucketInfo", listing.get_bucket_info),
    "GetBucketLocation": ("GET Bucket location", listing.get_bucket_location),
    "GetBucketAcl": ("GET Bucket acl", listing.get_bucket_acl),
    "GetBucketStat": ("GET Bucket stat", listing.get_bucket_stat),
    "DeleteMultipleObjects": ("POST Bucket delete", writing.delete_multiple_objects),
    "GetObjectAcl": ("GET Object acl", reading.get_object_acl),
    "GetObjectTagging": ("GET Object tagging", reading.get_object_tagging),
    "GetObjectMeta": ("GET,HEAD Object objectMeta", reading.get_object_meta),
    "AppendObject": ("POST Object append", writing.append_object),
}
HANDLERS: Mapping[str, Handler] = {
    **{action: handler for action, (_, handler) in _OTHERS.items()},
    **{str(action): handler for action, handler in _OPERATIONS.items()},
}


def _rows() -> Iterator[tuple[str, Spec, str]]:
    """Yield what each call is on, how it is recognised, and its name."""
    for action, (text, _) in _OTHERS.items():
        methods, on, *names = text.split()
        for method in methods.split(","):
            yield on, Spec(method=method, fixed=dict.fromkeys(names, "")), action
    for action in _OPERATIONS:
        spec = OPERATIONS[action]
        yield "Bucket" if spec.on_bucket else "Object", spec, action


def _matches(spec: Spec, call: Call) -> bool:
    """Return whether *call* has one of the parameters and every value of *spec*."""
    given, fixed = call.parameters, spec.fixed.items()
    return (
        call.method == spec.method
        and (not spec.parameters or not spec.parameters.isdisjoint(given))
        and all(given.get(name) == value for name, value in fixed if value)
        and (not spec.copies or COPY_SOURCE in call.headers)
    )


_NARROWEST_FIRST = sorted(
    _rows(), key=lambda row: (-len(row[1].parameters), not row[1].copies)
)
# Names of the calls on sub-resources, with the method before them.
_ON_OBJECT = {
    "acl": "ObjectAcl",
    "tagging": "ObjectTagging",
    "symlink": "Symlink",
    "restore": "RestoreObject",
}
_ON_BUCKET = {
    name: f"Bucket{name.title()}"
    for name in (
        *("acl", "cname", "cors", "encryption", "lifecycle", "location", "logging"),
        *("policy", "referer", "replication", "stat", "tagging", "versioning"),
        *("versions", "website", "worm"),
    )
}
_SUBRESOURCES = {"Object": _ON_OBJECT, "Bucket": _ON_BUCKET, "Service": {}}


def action_of(call: Call) -> str:
    """Return the name of *call*; one that is not answered gets a name too."""
    if call.method == "OPTIONS":
        return "OptionObject"
    on = "Service" if not call.bucket else "Object" if call.key else "Bucket"
    rows = [
        (spec, action)
        for where, spec, action in _NARROWEST_FIRST
        if where == on and _matches(spec, call)
    ]
    if rows and rows[0][0].parameters:
        return rows[0][1]
    for name, called in _SUBRESOURCES[on].items():
        if name in call.parameters:
            return f"{call.method.title()}{called}"
    return rows[0][1] if rows else f"{call.method.title()}{on}"
