"""The Python client follows the rules for grants that the upload page follows too.

``tests/contract/browser/node/grant_cases.test.mjs`` reads the same cases.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from fsspec_osspresigned import parsing
from fsspec_osspresigned.errors import ConfigurationError, NotCoveredError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.signers.post_form import check_acl, sign_form
from fsspec_osspresigned.signers.post_grant_parser import read_grant

ALL = json.loads(Path(__file__).with_name("grant_cases.json").read_text("utf-8"))


def document_of(case: dict[str, Any]) -> dict[str, Any]:
    """Return the grant of *case*."""
    conditions = [
        *case.get("every", ALL["conditions"]),
        *case.get("v4", ALL["v4"]),
        *case.get("conditions", []),
    ]
    expiration = case.get("expiration", ALL["expiration"])
    policy = json.dumps({"expiration": expiration, "conditions": conditions})
    fields = {
        "policy": base64.b64encode(policy.encode()).decode(),
        **ALL["fields"],
        **case.get("fields", {}),
    }
    left = {n: v for n, v in fields.items() if n not in case.get("without", ())}
    return {**ALL["grant"], **case.get("grant", {}), "fields": left}


def signed(case: dict[str, Any]):
    """Return the signed form of *case*."""
    file = {**ALL["file"], **case.get("file", {})}
    acl = {"x-oss-object-acl": case["public"]} if "public" in case else {}
    operation = Operation(
        action=Action.PostObject,
        bucket=file["bucket"],
        key=file["key"],
        content_length=file["size"],
        headers=acl,
        optional_headers={"Content-Type": file["type"]},
    )
    grant = read_grant(document_of(case))
    check_acl(grant.fields, operation)
    return sign_form(grant, operation, parsing.moment(case.get("now", ALL["now"])))


@pytest.mark.parametrize("case", ALL["cases"], ids=lambda case: case["name"])
def test_rules_of_grants(case):
    """A grant decides neither key, bucket nor publicity; what OSS would refuse is refused."""
    if case.get("refused"):
        with pytest.raises((ConfigurationError, NotCoveredError)):
            signed(case)
        return
    request = signed(case)
    fields = {name: value.reveal() for name, value in request.form.fields.items()}
    assert {name: fields.get(name) for name in case.get("sent", {})} == case.get(
        "sent", {}
    )
    if "url" in case:
        assert request.url.reveal() == case["url"]
    if "ends" in case:
        assert request.expires_at == parsing.moment(case["ends"])
