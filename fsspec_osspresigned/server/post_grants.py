"""Grants for the tokens of a policy, in the format of OSS's own sample servers.

``GET /get_post_signature_for_oss_upload`` replies as in "Obtain signature information
from the server and upload data to OSS" (V4), so existing upload code works with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import ConfigurationError, OSSPresignedError
from ..model import MAX_SINGLE_PUT, STORAGE_CLASS, Action, split_path
from ..signers.base import Signer
from ..signers.keys import KeySigner
from ..signing.grant_file import GrantTerms, SignedGrant, sign_grant
from ..signing.post_policy import STATUS_FIELD, TOKEN_FIELD
from .policy import Policy, ServiceError

PATH = "/get_post_signature_for_oss_upload"

_NAMES = {  # form fields -> members, where another one than with underscores
    "x-oss-signature": "signature",
    TOKEN_FIELD: "security_token",
}


def place_in(policy: Policy, wish: Mapping[str, str]) -> str:
    """Return the ``bucket/prefix`` that the query parameters *wish* request.

    The parameters are ``bucket`` and ``dir``; a missing one defaults to the policy's
    only value.

    Raises:
        ServiceError: the policy does not grant the prefix, or grants several and a
            missing parameter does not say which.
    """
    if Action.PostObject not in policy.actions:
        raise ServiceError("action_not_granted", "PostObject is not granted")
    bucket, folder = wish.get("bucket"), wish.get("dir")
    found = {path for path in policy.prefixes if bucket in (None, split_path(path)[0])}
    if folder is not None:
        if folder and not folder.endswith("/"):
            folder += "/"
        buckets = {split_path(path)[0] for path in found}
        found = {
            f"{one}/{folder}" for one in buckets if policy.covers(f"{one}/{folder}")
        }
    if not found:
        raise ServiceError("forbidden", "bucket or dir lies outside what is granted")
    if len(found) > 1:
        raise ServiceError("invalid_request", "say which: ?bucket=...&dir=...")
    return found.pop()


def terms_of(policy: Policy, path: str) -> GrantTerms:
    """Return the terms of a grant with the permissions of *policy* below *path*."""
    bucket, prefix = split_path(path)
    most = min(policy.max_size or MAX_SINGLE_PUT, MAX_SINGLE_PUT)
    classes = policy.storage_classes
    # What a policy names has to be sent, which the sample's clients do not. So the ACL is
    # pinned only where the owner lists some: to the one that comes first by its name,
    # which is also the closest. By its name Standard is the last class.
    return GrantTerms(
        bucket=bucket,
        prefix=prefix,
        expires_in=policy.max_expires_in,
        sizes=(0, most),
        overwrite=policy.overwrite,
        acl=min(policy.acls or (), default=None),
        content_types=policy.content_types or (),
        fields={STORAGE_CLASS: max(classes)} if classes else {},
    )


def granted(signer: Signer, policy: Policy, path: str) -> dict[str, str]:
    """Return the members of the reply with the grant, which is a secret.

    Raises:
        ServiceError: the grant cannot be signed, or the signer is unavailable.
    """
    if not isinstance(signer, KeySigner) or signer.version != "v4":
        detail = "this signer makes no grants: it needs a key and V4"
        raise ServiceError("action_not_granted", detail)
    try:
        made = sign_grant(
            signer.credentials(),
            signer.endpoint,
            terms_of(policy, path),
            region=signer.region,
            now=signer.clock(),
        )
    except ConfigurationError as error:
        raise ServiceError("invalid_request", error.message) from None
    except OSSPresignedError:
        raise ServiceError("unavailable", "the signer cannot sign now") from None
    return _shape(made)


def _shape(made: SignedGrant) -> dict[str, str]:
    answer = {
        _NAMES.get(name, name.replace("-", "_")): value.reveal()
        for name, value in made.fields.items()
        if name != STATUS_FIELD  # which the sample's clients know by themselves
    }
    answer.setdefault("security_token", "")
    return {**answer, "host": made.url.removesuffix("/"), "dir": made.prefix}
