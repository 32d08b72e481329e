"""The values that cross module borders."""

from __future__ import annotations

import json

import attrs
import pytest

from fsspec_osspresigned.model import (
    Action,
    Operation,
    PartReceipt,
    Receipt,
    Reply,
    SignedRequest,
    split_path,
)
from fsspec_osspresigned.secret import SecretURL


def test_every_action_has_its_method():
    """The method of each call is that of the API reference."""
    methods = {action: action.method for action in Action}
    assert len(methods) == 12
    assert methods[Action.UploadPart] == "PUT"
    assert methods[Action.InitiateMultipartUpload] == "POST"
    assert methods[Action.AbortMultipartUpload] == "DELETE"
    assert methods[Action.HeadObject] == "HEAD"
    assert methods[Action.ListObjectsV2] == "GET"


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
