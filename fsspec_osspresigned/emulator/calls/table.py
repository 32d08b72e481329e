"""Table of the calls that the emulator answers.

A call of :data:`OPERATIONS` is one row with its handler; a call that only other clients
send also tells how it is recognised. A new call is one row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Mapping
from collections.abc import Set as AbstractSet

from attrs import field, frozen

from ...model import COPY_SOURCE, OPERATIONS, Action
from ..message.call import Call
from ..message.replies import EmulatorReply
from . import listing, objects, reading, uploads
from .context import CallContext

Handler = Callable[[CallContext], Awaitable[EmulatorReply]]


@frozen
class CallRow:
    """One call.

    Attributes:
        action: name in the API reference.
        handler: function that answers it.
        on: ``Object``, ``Bucket`` or ``Service``.
        methods: HTTP methods.
        parameters: query parameters, one of which the call has; empty for any query.
        fixed: parameters that must have this value, unless it is empty.
        copies: whether the call has a copy source.
    """

    action: str
    handler: Handler
    on: str
    methods: Container[str]
    parameters: AbstractSet[str] = frozenset()
    fixed: Mapping[str, str] = field(factory=dict)
    copies: bool = False

    def matches(self, call: Call) -> bool:
        """Return whether *call* is this call."""
        given = call.parameters
        return (
            call.method in self.methods
            and (not self.parameters or not self.parameters.isdisjoint(given))
            and all(
                given.get(name) == value for name, value in self.fixed.items() if value
            )
            and (not self.copies or COPY_SOURCE in call.headers)
        )


_OPERATIONS: Mapping[Action, Handler] = {
    Action.PutObject: objects.put_object,
    Action.CopyObject: objects.copy_object,
    Action.DeleteObject: objects.delete_object,
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
    "DeleteMultipleObjects": ("POST Bucket delete", objects.delete_multiple_objects),
    "GetObjectAcl": ("GET Object acl", reading.get_object_acl),
    "GetObjectTagging": ("GET Object tagging", reading.get_object_tagging),
    "GetObjectMeta": ("GET,HEAD Object objectMeta", reading.get_object_meta),
    "AppendObject": ("POST Object append", objects.append_object),
}


def _rows() -> Iterator[CallRow]:
    for action, (text, handler) in _OTHERS.items():
        methods, on, *parameters = text.split()
        yield CallRow(action, handler, on, methods.split(","), frozenset(parameters))
    for action, handler in _OPERATIONS.items():
        spec = OPERATIONS[action]
        yield CallRow(
            action,
            handler,
            "Bucket" if spec.on_bucket else "Object",
            (spec.method,),
            spec.parameters,
            spec.fixed,
            spec.copies,
        )


CALLS: Mapping[str, CallRow] = {row.action: row for row in _rows()}
_NARROWEST_FIRST = sorted(
    CALLS.values(), key=lambda row: (-len(row.parameters), not row.copies)
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
    method = call.method.title()
    on = "Service" if not call.bucket else "Object" if call.key else "Bucket"
    rows = [row for row in _NARROWEST_FIRST if row.on == on and row.matches(call)]
    if rows and rows[0].parameters:
        return rows[0].action
    for name, called in _SUBRESOURCES[on].items():
        if name in call.parameters:
            return f"{method}{called}"
    return rows[0].action if rows else f"{method}{on}"
