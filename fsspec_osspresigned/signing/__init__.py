"""Signatures: make and describe presigned URLs and POST policies.

Begin with ``canonical``, which has the formulas of both versions. ``presigning`` makes
URLs, ``post_policy`` the policies of PostObject and their signatures. ``mismatch``
explains why the store refused a signature.
"""

from __future__ import annotations

from ..compat import lazy

__all__, __getattr__, __dir__ = lazy(
    __name__,
    canonical="ALGORITHM Credentials MAX_V4_LIFE OWN_PARAMETERS SIGNATURES SKEW "
    "SUBRESOURCES TERMINATOR TOKENS canonical_query canonical_request_v4 "
    "day_key parse_moment parse_query quote_path sign_v1 sign_v4 "
    "string_to_sign_v1 string_to_sign_v4",
    endpoint="Endpoint MAX_KEY_BYTES check_bucket check_key is_public_mainland "
    "region_of",
    mismatch="Comparison SignedPieces compare received_request sent_request summary unsent_headers",
    post_policy="PolicyCondition PolicyFault PostPolicy RANGE "
    "SIGNATURE_FIELDS STATUS_FIELD TOKEN_FIELD TYPE_FIELD V4_FIELDS form_values "
    "lower_names pinned_fields policy_text post_signature sign_policy "
    "signature_conditions",
    presigning="PresignRequest region_problem",
    signed_url="SignedURL damage describe",
)
