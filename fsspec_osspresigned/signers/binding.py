"""Whether a signed URL is for what was asked, and for nothing else. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from ..model import Action, Operation
from ..sendable import decoded_path, http_problem, oss_bucket, url_problem
from ..signature import SUBRESOURCES

# Parameters that turn a request into this call, as the OSS API names them.
_UPLOAD = frozenset(("uploadId",))
_PART = frozenset(("uploadId", "partNumber"))
_OWN: dict[Action, frozenset[str]] = {
    Action.InitiateMultipartUpload: frozenset(("uploads",)),
    Action.UploadPart: _PART,
    Action.UploadPartCopy: _PART,
    Action.CompleteMultipartUpload: _UPLOAD,
    Action.AbortMultipartUpload: _UPLOAD,
    Action.ListParts: _UPLOAD,
    Action.ListObjectsV2: frozenset(("list-type",)),
}
# Sub-resources that a signer may add by itself, because they change no meaning.
_SIGNERS_OWN = frozenset(("security-token", "callback", "callback-var"))
# Not sub-resources of the V1 signature, but they choose the call all the same.
_CHOOSING = frozenset(("list-type", "x-oss-process", "x-oss-async-process"))


def check(
    operation: Operation,
    url: str,
    *,
    signer_host: str,
    allowed_hosts: Mapping[str, str | None],
    allow_http: bool,
    loopback_signer: bool,
) -> str | None:
    """Return why *url* is not a URL for *operation*; None if it is.

    The answer names host, rule or option, never a piece of the query.

    Args:
        operation: what was asked.
        url: what a party elsewhere signed.
        signer_host: host name of the signer, which may be the store's too.
        allowed_hosts: host, with or without port -> its bucket; None: any bucket.
        allow_http: plain http may leave this machine.
        loopback_signer: the signer runs on this machine, so it may lead to it.
    """
    problem = url_problem(url) or http_problem(
        url, allow_http=allow_http, local=loopback_signer
    )
    if problem:
        return f"the URL {problem}"
    try:
        path = decoded_path(url)
    except ValueError:
        return "the path of the URL is not UTF-8"
    return _host_problem(
        operation, url, path, signer_host, allowed_hosts
    ) or _query_problem(operation, url)


def _host_problem(
    operation: Operation,
    url: str,
    path: str,
    signer_host: str,
    allowed_hosts: Mapping[str, str | None],
) -> str | None:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    names = [name for name in (parts.netloc.lower(), host) if name in allowed_hosts]
    bucket, key = operation.bucket, operation.key
    keys = {key}
    bound = oss_bucket(host) if not names else allowed_hosts[names[0]]
    if bound is None:
        if not names and host != signer_host.lower():
            return (
                f"the host {host} is neither of OSS nor the signer's own: if it is "
                f'right, allow it by allowed_hosts={{"{host}": "{bucket}"}}'
            )
        keys.add(f"{bucket}/{key}")
        if not key:
            keys.add(bucket)
    elif bound != bucket:
        return f"the host {host} is of bucket {bound!r}, asked was {bucket!r}"
    if path not in keys:
        return f"the path of the URL at {host} is not that of {operation.path!r}"
    return None


def _query_problem(operation: Operation, url: str) -> str | None:
    found: dict[str, str] = {}
    for item in urlsplit(url).query.split("&"):
        name, _, value = item.partition("=")
        name = unquote(name)
        if name in found:
            return f"the parameter {name[:40]!r} comes twice in the URL"
        found[name] = value
    wanted = _wanted(operation)
    for name, value in wanted.items():
        if name not in found:
            return f"the parameter {name!r} is missing from the URL"
        if value not in (unquote(found[name]), unquote(found[name].replace("+", " "))):
            return f"the parameter {name!r} of the URL is not the one asked for"
    for name in found.keys() - wanted.keys() - _SIGNERS_OWN:
        if name in _CHOOSING or name in SUBRESOURCES:
            return f"the parameter {name[:40]!r} makes the URL another call"
    return None


def _wanted(operation: Operation) -> dict[str, str]:
    """Return the parameters, decoded, that the URL must have."""
    values = {
        "partNumber": str(operation.part_number),
        "uploadId": str(operation.upload_id),
        "list-type": "2",
        "uploads": "",
    }
    own = _OWN.get(operation.action, frozenset())
    return {**operation.query, **{name: values[name] for name in own}}
