"""Options of an object: from the constructor and the call, on the right requests."""

from __future__ import annotations

import base64
import json

import pytest

from fsspec_osspresigned.errors import (
    ConfigurationError,
    NotCoveredError,
)
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from tests.filesystem.conftest import VERBS, service

ROOT = "examplebucket"
CALL = {"callbackUrl": "https://example.com/done", "callbackBody": "k=${object}"}
OPTIONS = {
    "content_type": "text/x-test",
    "headers": {"Cache-Control": "no-cache"},
    "metadata": {"k": "v"},
    "storage_class": "IA",
    "tagging": {"a": "b"},
    "acl": "private",
    "server_side_encryption": "AES256",
    "traffic_limit": 838_860_800,
    "callback": CALL,
    "overwrite": False,
}
ENCODED = base64.b64encode(json.dumps(CALL, separators=(",", ":")).encode()).decode()
ON_INITIATE = {
    "content-type": "text/x-test",
    "cache-control": "no-cache",
    "x-oss-meta-k": "v",
    "x-oss-storage-class": "IA",
    "x-oss-tagging": "a=b",
    "x-oss-server-side-encryption": "AES256",
    "x-oss-forbid-overwrite": "true",
}
ON_COMPLETE = {
    "x-oss-object-acl": "private",
    "x-oss-callback": ENCODED,
    "x-oss-forbid-overwrite": "true",
}
ON_PART = {"x-oss-traffic-limit": "838860800"}
CALLS = {
    "PutObject": ON_INITIATE | ON_COMPLETE | ON_PART,
    "InitiateMultipartUpload": ON_INITIATE,
    "UploadPart": ON_PART,
    "CompleteMultipartUpload": ON_COMPLETE,
}
OURS = {name for headers in CALLS.values() for name in headers}


def sent(owner):
    """Return the headers of each kind of request that concern us."""
    found = {}
    for record in owner.oss.requests:
        headers = {n.lower(): v for n, v in record.request_headers.items()}
        ours = {n: v for n, v in headers.items() if n in OURS}
        assert found.setdefault(record.action, ours) == ours
    return found


@pytest.mark.parametrize("where", ["constructor", "call"])
@pytest.mark.parametrize("verb", VERBS)
def test_each_option_goes_with_the_calls_that_take_it(
    only, owner, tmp_path, verb, where
):
    """Initiate, UploadPart and Complete share what one PutObject takes."""
    sizes = {"part_size": "100KiB", "multipart_threshold": "200KiB"}
    fs = only(**sizes, **(OPTIONS if where == "constructor" else {}))
    for name, size in (("small", 10), ("large", 250 * 1024)):
        options = dict(OPTIONS) if where == "call" else {}
        VERBS[verb](fs, f"{ROOT}/{name}", bytes(size), tmp_path, **options)
    assert sent(owner) == CALLS
    stored = owner.oss.get(ROOT, "large").headers
    assert stored["x-oss-meta-k"] == "v"
    assert stored["content-type"] == "text/x-test"


def test_all_problems_of_a_call_come_at_once(blind, owner):
    """Nothing is sent, and nothing is ignored."""
    with pytest.raises(ConfigurationError) as caught:
        blind.pipe_file(
            f"{ROOT}/a", b"x", acl="x", tagging=7, traffic_limit=0, callback={}, typo=1
        )
    assert len(caught.value.problems) == 5
    with pytest.raises(ConfigurationError, match="given by headers= and by its own"):
        blind.pipe_file(
            f"{ROOT}/a", b"x", acl="private", headers={"X-OSS-Object-ACL": "private"}
        )
    assert not owner.actions()


def map_of(owner, tmp_path, key, headers):
    """Write a map of one URL that is signed with *headers*, and says so."""
    place = tmp_path / "map.json"
    entry = {"url": owner.url(key, headers=headers), "headers": headers}
    place.write_text(json.dumps({"version": 1, "objects": {f"{ROOT}/{key}": entry}}))
    place.chmod(0o600)
    return str(place)


@pytest.mark.parametrize("option", OPTIONS)
def test_what_a_url_was_not_signed_for_is_an_error(owner, tmp_path, option):
    """A map's URL cannot honour it, so nothing is sent, and the error names it."""
    fs = OSSPresignedFileSystem(url_map=map_of(owner, tmp_path, "a", {}))
    with pytest.raises(NotCoveredError) as caught:
        fs.pipe_file(f"{ROOT}/a", b"x", **{option: OPTIONS[option]})
    names = {
        "content_type": "content-type",
        "headers": "cache-control",
        "metadata": "x-oss-meta-k",
        "overwrite": "x-oss-forbid-overwrite",
        "acl": "x-oss-object-acl",
    }
    wanted = names.get(option, f"x-oss-{option.replace('_', '-')}")
    assert wanted in str(caught.value).lower()
    assert not owner.actions()


def test_a_signer_service_signs_what_its_policy_grants(environment, owner):
    """Demanded headers go to the service with each call, and come back signed."""
    headers = {"content-type", "cache-control", "x-oss-*", "x-oss-callback"}
    sizes = {"part_size": "100KiB", "multipart_threshold": "200KiB"}
    with service(headers=headers, acls={"private"}) as signing:
        fs = OSSPresignedFileSystem(**signing, **sizes)
        # No "overwrite": to see whether the object is there would be other requests.
        options = {n: v for n, v in OPTIONS.items() if n != "overwrite"}
        fs.pipe_file(f"{ROOT}/small", b"x", **options)
        fs.pipe_file(f"{ROOT}/large", bytes(250 * 1024), **options)
    forbid = {"x-oss-forbid-overwrite"}
    assert sent(owner) == {
        action: {n: v for n, v in headers.items() if n not in forbid}
        for action, headers in CALLS.items()
    }
