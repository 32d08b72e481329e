"""A signer of forms: its policies are made for each call, with the keys of the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from fsspec_osspresigned.emulator.messages import (
    Call,
    FormPart,
    ReceivedForm,
    Refusal,
)
from fsspec_osspresigned.emulator.verifying import verify
from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.model import Action, SignedForm, SignedRequest
from fsspec_osspresigned.owner.grants import GrantTerms
from fsspec_osspresigned.signers.base import Grant, Signer, form_fields
from fsspec_osspresigned.signing import Credentials
from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    form_values,
    lower_names,
    pinned_fields,
    policy_text,
    sign_policy,
    signature_conditions,
)


def signature_refusal(
    fields: Mapping[str, str], key: Credentials, now: float
) -> Refusal | None:
    """Return why OSS would refuse the signature of a form; None if it is valid."""
    form = ReceivedForm(lower_names(fields), FormPart("file"))
    call = Call(bucket="", key="", form=form)
    refusal = verify(call, find=lambda _: key, now=now)
    # The conditions of the policy are judged after the signature.
    is_policy = refusal is not None and refusal.ec.startswith("0006-")
    return None if is_policy else refusal


class FormSigner(Signer):
    """Signs PostObject, and nothing else.

    *conditions* stand beside those of the signature; *more* fields go into each form.
    *ages* are the seconds that one policy after the other is old already; the last one
    stands for all that follow. ``signed`` counts the forms.
    """

    def __init__(
        self,
        oss: Any,
        *,
        version: str = "v4",
        life: float = 3600.0,
        conditions: Iterable[PolicyCondition] = (),
        more: Mapping[str, str] | None = None,
        ages: Iterable[float] = (0.0,),
    ) -> None:
        self.oss, self.version, self.life = oss, version, life
        self.conditions = [*conditions]
        self.more = {"success_action_status": "200", **(more or {})}
        self.ages = [*ages]
        self.signed = 0

    def grant(self, path: str) -> Grant:
        """One form stores an object; there are no parts."""
        assert path
        return Grant(multipart=None, action=Action.PostObject)

    def sign(self, operations):
        """Sign each of *operations* by a policy of its own."""
        return [self._sign(operation) for operation in operations]

    def _sign(self, operation) -> SignedRequest:
        if operation.action is not Action.PostObject:
            msg = f"{operation}: the grant allows uploads only"
            raise NotCoveredError(msg, path=operation.path, action=operation.action)
        age = self.ages[min(self.signed, len(self.ages) - 1)]
        self.signed += 1
        now = time.time()
        how = {"version": self.version, "region": self.oss.region, "now": now - age}
        key = self.oss.credentials
        conditions = [
            PolicyCondition("eq", "bucket", (operation.bucket,)),
            *self.conditions,
            *signature_conditions(key, **how),
        ]
        text = policy_text(conditions, expires_at=now - age + self.life)
        given = {**operation.optional_headers, **operation.headers}
        fields = {
            "key": operation.key,
            **form_fields(given),
            **self.more,
            **sign_policy(key, text, **how),
        }
        return SignedRequest(
            method="POST",
            url=self.oss.endpoint.url(operation.bucket),
            # No expiry is stated, so that the store's reply must decide.
            form=SignedForm(fields=form_values(fields)),
        )


def grant_of(
    oss: Any,
    bucket: str,
    prefix: str,
    *,
    life: float = 3600,
    version: str = "v4",
    **how: Any,
) -> dict[str, Any]:
    """Return a grant of the owner of *oss*, as its file has it; *how* as ``GrantTerms``."""
    now = time.time()
    signing = {"version": version, "region": oss.region, "now": now}
    conditions = [
        *GrantTerms(bucket=bucket, prefix=prefix, **how).conditions(),
        *signature_conditions(oss.credentials, **signing),
    ]
    text = policy_text(conditions, expires_at=now + life)
    return {
        "version": 1,
        "url": oss.endpoint.url(bucket),
        "bucket": bucket,
        "prefix": prefix,
        "expires": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + life)),
        "fields": {
            **pinned_fields(conditions),
            **sign_policy(oss.credentials, text, **signing),
        },
    }
