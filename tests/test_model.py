"""The values that cross module borders."""

from __future__ import annotations

import json

import attrs
import pytest

from fsspec_osspresigned.model import (
    URL_ACTIONS,
    Action,
    Operation,
    PartReceipt,
    Receipt,
    SignedForm,
    SignedRequest,
    split_path,
)
from fsspec_osspresigned.secret import Secret


def test_headers_go_with_the_calls_that_take_them():
    """Initiate stores the content, Complete publishes it, and a part is throttled."""
    given = {
        "Content-Type": "text/csv",
        "x-oss-object-acl": "private",
        "X-OSS-Traffic-Limit": "819200",
        "x-oss-forbid-overwrite": "true",
    }
    kind, acl, limit, lock = given
    picked = {
        Action.PutObject: [kind, acl, limit, lock],
        Action.InitiateMultipartUpload: [kind, lock],
        Action.CompleteMultipartUpload: [acl, lock],
        Action.UploadPart: [limit],
        Action.AbortMultipartUpload: [],
    }
    for action, names in picked.items():
        assert [*action.spec.pick(given)] == names


def test_a_form_is_no_call_of_a_url():
    """A policy is signed for it, so neither a map nor a signer service has it."""
    assert {*Action} - {*URL_ACTIONS} == {Action.PostObject}
    assert Action.PostObject.spec.slot is None


def test_form_keeps_its_order_and_hides_its_values():
    """The fields go out as they were put in, and no text of the request shows them."""
    fields = {"key": Secret("in/a"), "policy": Secret("eyJ"), "Signature": Secret("s3")}
    form = SignedForm(fields=fields)
    fields.clear()
    assert [*form.fields] == ["key", "policy", "Signature"]
    request = SignedRequest(method="POST", url="https://b.h/", form=form)
    for hidden in ("in/a", "eyJ", "s3"):
        assert hidden not in repr(request)


def test_parameters_of_an_operation():
    """Upload ID and part number are in the query of the calls that take them only."""
    part = Operation(action=Action.UploadPart, key="k", upload_id="U+", part_number=3)
    assert part.parameters == {"uploadId": "U+", "partNumber": "3"}
    put = Operation(action=Action.PutObject, key="k", upload_id="U", part_number=3)
    assert put.parameters == {}
    listing = Operation(
        action=Action.ListObjectsV2, bucket="b", query={"prefix": "a/b"}
    )
    assert listing.parameters == {"list-type": "2"}
    assert (listing.listed_path, part.listed_path) == ("b/a/b", "/k")


@pytest.mark.parametrize(
    ("path", "pair"),
    [("b/k/l", ("b", "k/l")), ("b", ("b", "")), ("b//k", ("b", "/k")), ("", ("", ""))],
)
def test_split_path(path, pair):
    """The first slash ends the bucket, every other one belongs to the key."""
    assert split_path(path) == pair


def test_mappings_are_frozen_copies():
    """A later change of the dict does not change the operation."""
    headers = {"a": "1"}
    operation = Operation(action=Action.PutObject, headers=headers)
    headers["a"] = "2"
    assert operation.headers == {"a": "1"}
    with pytest.raises(TypeError):
        operation.headers["a"] = "3"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        operation.bucket = "other"
    assert Operation(action=Action.PutObject, headers=None).headers == {}


@pytest.mark.parametrize(
    ("life", "left", "stale"),
    [(3600, 31, False), (3600, 29, True), (40, 11, False), (40, 9, True)],
)
def test_stale(life, left, stale):
    """The last 30 seconds, or the last quarter of a short life, do not count."""
    request = SignedRequest(method="PUT", url="u", issued_at=0.0, expires_at=life)
    assert request.is_stale(life - left) is stale


def test_receipt_is_json():
    """A receipt with its parts can be written as JSON."""
    part = PartReceipt(part_number=1, size=5, etag="E")
    found = json.loads(json.dumps(Receipt(path="b/k", size=5, parts=(part,)).as_dict()))
    assert found["path"] == "b/k"
    assert found["parts"] == [{"part_number": 1, "size": 5, "etag": "E", "crc64": None}]
