"""The values that cross module borders."""

from __future__ import annotations

import json

import attrs
import pytest

from fsspec_osspresigned.model import (
    OPERATIONS,
    PLAIN_ACTIONS,
    URL_ACTIONS,
    Action,
    Operation,
    PartReceipt,
    Receipt,
    Reply,
    SignedForm,
    SignedRequest,
    split_path,
)
from fsspec_osspresigned.secret import Secret, SecretURL

# Call -> method, parameters that make it, body (OSS API reference, page of each call).
REFERENCE = {
    "PutObject": ("PUT", set(), "data"),
    "PostObject": ("POST", set(), "data"),
    "UploadPart": ("PUT", {"partNumber", "uploadId"}, "data"),
    "CopyObject": ("PUT", set(), ""),
    "UploadPartCopy": ("PUT", {"partNumber", "uploadId"}, ""),
    "InitiateMultipartUpload": ("POST", {"uploads"}, ""),
    "CompleteMultipartUpload": ("POST", {"uploadId"}, "document"),
    "AbortMultipartUpload": ("DELETE", {"uploadId"}, ""),
    "ListParts": ("GET", {"uploadId"}, ""),
    "GetObject": ("GET", set(), ""),
    "HeadObject": ("HEAD", set(), ""),
    "DeleteObject": ("DELETE", set(), ""),
    "ListObjectsV2": ("GET", {"list-type"}, ""),
}


def test_every_action_is_the_call_of_the_reference():
    """Each call has one row, which says what the API reference says."""
    found = {
        str(action): (action.method, {*action.spec.parameters}, action.spec.body)
        for action in OPERATIONS
    }
    assert found == REFERENCE
    assert {*OPERATIONS} == {*Action}


def test_publishing_calls():
    """Four calls make an object visible, and all of them take forbid-overwrite."""
    publishing = {action for action in Action if action.publishes}
    assert publishing == {
        "PutObject",
        "PostObject",
        "CompleteMultipartUpload",
        "CopyObject",
    }
    for action in publishing:
        assert action.spec.pick({"X-Oss-Forbid-Overwrite": "true"})


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


def test_one_plain_call_for_each_method():
    """The calls on an object itself are found by their methods."""
    assert {
        "PUT": Action.PutObject,
        "GET": Action.GetObject,
        "HEAD": Action.HeadObject,
        "DELETE": Action.DeleteObject,
    } == PLAIN_ACTIONS


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


def test_operation_names_itself():
    """Messages name call, part and object."""
    part = Operation(action=Action.UploadPart, bucket="b", key="k", part_number=3)
    assert str(part) == "UploadPart 3 of b/k"
    assert Operation(action=Action.ListObjectsV2, bucket="b").path == "b"
    assert str(Operation(action=Action.PutObject)) == "PutObject of (the signed object)"


def test_mappings_are_frozen_copies():
    """Nobody changes an operation through the dict it was made of."""
    headers = {"a": "1"}
    operation = Operation(action=Action.PutObject, headers=headers)
    headers["a"] = "2"
    assert operation.headers == {"a": "1"}
    with pytest.raises(TypeError):
        operation.headers["a"] = "3"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        operation.bucket = "other"
    assert Operation(action=Action.PutObject, headers=None).headers == {}


def test_url_is_hidden_on_the_way_in():
    """A plain string becomes a secret, a secret stays itself."""
    request = SignedRequest(method="PUT", url="https://h/k?Signature=S")
    assert isinstance(request.url, SecretURL)
    assert "Signature" not in repr(request)
    url = SecretURL("https://h/")
    assert SignedRequest(method="PUT", url=url).url is url


@pytest.mark.parametrize(
    ("life", "left", "stale"),
    [(3600, 31, False), (3600, 29, True), (40, 11, False), (40, 9, True)],
)
def test_stale(life, left, stale):
    """The last 30 seconds, or the last quarter of a short life, do not count."""
    request = SignedRequest(method="PUT", url="u", issued_at=0.0, expires_at=life)
    assert request.is_stale(life - left) is stale


def test_never_stale_without_an_end():
    """Nobody knows when it ends, so it is used."""
    assert not SignedRequest(method="PUT", url="u").is_stale(1e12)


def test_reply_facts():
    """ETag and request id are looked up in both dialects."""
    assert Reply(status=200).etag == ""
    assert Reply(status=200).request_id is None
    both = {"x-amz-request-id": "a", "x-oss-request-id": "o", "etag": '"E"'}
    assert Reply(status=200, headers=both).request_id == "o"
    assert Reply(status=200, headers=both).etag == '"E"'
    amazon = {"x-amz-request-id": "a"}
    assert Reply(status=200, headers=amazon).request_id == "a"


def test_receipt_is_json():
    """A receipt with its parts can be written as JSON."""
    part = PartReceipt(part_number=1, size=5, etag="E")
    found = json.loads(json.dumps(Receipt(path="b/k", size=5, parts=(part,)).as_dict()))
    assert found["path"] == "b/k"
    assert found["parts"] == [{"part_number": 1, "size": 5, "etag": "E", "crc64": None}]
