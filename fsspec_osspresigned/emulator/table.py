"""Table of the calls that the emulator supports, and the search for a request's call.

Each call has one row. If the call is in :data:`OPERATIONS`, the row has only a handler;
otherwise it also has method and parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote, unquote_plus

from attrs import evolve

from ..model import COPY_SOURCE, OPERATIONS, Action, Spec
from ..signing.canonical import OWN_PARAMETERS, SUBRESOURCES
from . import forms, listing, reading, writing
from .context import Handler
from .messages import Call

_OPERATIONS: Mapping[Action, Handler] = {
    Action.PutObject: writing.put_object,
    Action.PostObject: forms.post_object,
    Action.CopyObject: writing.copy_object,
    Action.DeleteObject: writing.delete_object,
    Action.GetObject: reading.get_object,
    Action.HeadObject: reading.head_object,
    Action.ListObjectsV2: listing.list_objects,
    Action.InitiateMultipartUpload: writing.initiate_multipart_upload,
    Action.UploadPart: writing.upload_part,
    Action.UploadPartCopy: writing.upload_part_copy,
    Action.ListParts: listing.list_parts,
    Action.CompleteMultipartUpload: writing.complete_multipart_upload,
    Action.AbortMultipartUpload: writing.abort_multipart_upload,
}
# Calls that only `check store` and the clients in docs/interop.md send: method, target
# of the call (service, bucket or object), and parameter.
_OTHERS: Mapping[str, tuple[str, Handler]] = {
    "ListBuckets": ("GET Service", listing.list_buckets),
    "ListObjects": ("GET Bucket", listing.list_objects),
    "ListObjectVersions": ("GET Bucket versions", listing.list_object_versions),
    "ListMultipartUploads": ("GET Bucket uploads", listing.list_multipart_uploads),
    "GetBucketInfo": ("GET Bucket bucketInfo", listing.get_bucket_info),
    "GetBucketAcl": ("GET Bucket acl", listing.get_bucket_acl),
    "DeleteMultipleObjects": ("POST Bucket delete", writing.delete_multiple_objects),
    "GetObjectMeta": ("HEAD Object objectMeta", reading.get_object_meta),
    "GetObjectAcl": ("GET Object acl", reading.get_object_acl),
    "AppendObject": ("POST Object append", writing.append_object),
}
HANDLERS: Mapping[str, Handler] = {
    **{action: handler for action, (_, handler) in _OTHERS.items()},
    **{str(action): handler for action, handler in _OPERATIONS.items()},
}


# Parameters that change how a call is done. Any other parameter makes the request a
# different call in three cases: it has no value, an SDK signs it as a sub-resource, or
# OSS uses its name.
_CHANGES = OWN_PARAMETERS.union(
    ("callback", "callback-var", "list-type", "marker", "position"),
    ("key-marker", "max-uploads", "upload-id-marker", "version-id-marker"),
    *(spec.query for spec in OPERATIONS.values()),
)


def _rows() -> Iterator[tuple[str, Spec, str]]:
    for action, (text, _) in _OTHERS.items():
        method, on, *names = text.split()
        yield on, Spec(method=method, fixed=dict.fromkeys(names, "")), action
    for action in _OPERATIONS:
        spec = OPERATIONS[action]
        yield "Bucket" if spec.on_bucket or spec.form else "Object", spec, action


# Calls with the sub-resources that select them, most sub-resources first.
_CALLS = sorted(
    ((on, spec.parameters - _CHANGES, spec, action) for on, spec, action in _rows()),
    key=lambda row: (-len(row[2].parameters), not row[2].copies),
)
_NAME = r"([a-z0-9][a-z0-9-]{1,61}[a-z0-9])"
_bucket_host = re.compile(
    rf"{_NAME}(?:\.localhost|\.(?:[a-z0-9-]+\.)?oss[a-z0-9-]*\.aliyuncs\.com)"
).fullmatch


def read_call(scope: MutableMapping[str, Any], cnames: Mapping[str, str]) -> Call:
    """Return the call of an ASGI *scope*; *cnames* are host -> bucket.

    This does not use routes of a web framework, because they match the decoded path, in
    which ``a%2Fb`` is ``a/b``, and normalise it.
    """
    headers: dict[str, str] = {}
    for header, value in scope["headers"]:
        # Bytes that are not UTF-8 become lone surrogates.
        text = value.decode("utf-8", "surrogateescape").strip()
        headers.setdefault(header.decode("latin-1"), text)
    path: str = scope["raw_path"].decode("latin-1")
    host = re.sub(r":\d+\Z", "", headers.get("host", "")).lower()
    match = _bucket_host(host)
    bucket = cnames.get(host) or (match[1] if match else None)
    raw_key = path.removeprefix("/")
    if bucket is None:
        raw_bucket, _, raw_key = raw_key.partition("/")
        bucket = unquote(raw_bucket, errors="surrogateescape")
    call = Call(
        method=scope["method"],
        bucket=bucket,
        key=unquote_plus(raw_key, errors="surrogateescape"),
        path=path,
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
    )
    return evolve(call, action=_action_of(call))


def _action_of(call: Call) -> str:
    """Return the OSS API name of *call*, even if it is not supported."""
    on = "Service" if not call.bucket else "Object" if call.key else "Bucket"
    query = call.parameters
    named = {
        name
        for name in query.keys() - _CHANGES
        if not query[name] or name in SUBRESOURCES or name.startswith("x-oss-")
    }
    for where, names, spec, action in _CALLS:
        if (
            (where, spec.method, bool(names)) == (on, call.method, bool(named))
            and named <= names
            and all(query.get(n) == v for n, v in spec.fixed.items() if v)
            and (not spec.copies or COPY_SOURCE in call.headers)
        ):
            return action
    strange = (name[:1].upper() + name[1:] for name in sorted(named))
    return "".join((call.method.title(), on, *strange))
