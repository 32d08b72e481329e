"""Grants made by an owner: one signature for all objects below a prefix."""

from __future__ import annotations

from ..errors import ConfigurationError
from ..model import split_path
from ..signers.keys import KeySigner
from ..signing.grant_file import GrantTerms, SignedGrant, sign_grant


def place_of(path: str, *, whole_bucket: bool) -> tuple[str, str]:
    """Return bucket and prefix of ``bucket/prefix/``.

    Raises:
        ConfigurationError: it is a whole bucket without the option for that, or has a
            prefix although that option is given.
    """
    bucket, prefix = split_path(path)
    if not prefix and not whole_bucket:
        hint = f"name a directory, {bucket or 'bucket'}/prefix/, or use --whole-bucket"
        raise ConfigurationError(f"every object of a bucket could be replaced: {hint}")
    if prefix and whole_bucket:
        msg = f"--whole-bucket and the prefix {prefix[:80]!r}: give one of them"
        raise ConfigurationError(msg)
    return bucket, prefix


def make_grant(signer: KeySigner, terms: GrantTerms) -> SignedGrant:
    """Sign *terms* with the key of *signer*.

    Raises:
        ConfigurationError: *terms* cannot or should not be signed; lists all problems.
    """
    return sign_grant(
        signer.credentials(),
        signer.endpoint,
        terms,
        version=signer.version,
        region=signer.region,
        now=signer.clock(),
    )
