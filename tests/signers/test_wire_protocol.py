"""Requests say what the page of the protocol says; a URL must be for what was asked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.signers.wire_protocol import URLBinding, encode

B = "https://b.oss-cn-hangzhou.aliyuncs.com"
HOSTS = {
    "cdn.example.com": "b",
    "any.example.com": None,
    "port.example.com:8443": "b",
    "other.example.com": "c",
}


def problem(url: str, action: str = "PutObject", **members: object) -> str | None:
    """Return what the check says about *url*."""
    members = {"bucket": "b", "key": "dir/k +%", **members}
    operation = Operation(action=Action(action), **members)  # type: ignore[arg-type]
    binding = URLBinding(signer_host="sign.example.com", allowed_hosts=HOSTS)
    found = binding.problem(operation, url)
    assert "CANARY" not in (found or "")
    return found


K = "dir/k%20+%25"


@pytest.mark.parametrize(
    "url",
    [
        f"{B}/{K}?Signature=CANARY&OSSAccessKeyId=i&callback=x&security-token=t",
        f"{B}/{K}?x-oss-signature=CANARY&x-oss-traffic-limit=819200&",
        f"{B}/{K}?X-Amz-Signature=CANARY&X-Amz-Date=d&x-id=PutObject",
        f"{B}/dir%2Fk%20%2B%25",
        "https://b.oss-accelerate.aliyuncs.com:443/" + K,
        "https://b.oss-cn-x-internal.aliyuncs.com/" + K,
        "https://b.us-west-1.oss.aliyuncs.com/" + K,
        "https://b.cn-shanghai-finance.oss.aliyuncs.com/" + K,
        "https://cdn.example.com/" + K,
        "https://port.example.com:8443/" + K,
        "https://any.example.com/" + K,
        "https://any.example.com/b/" + K,
        "https://sign.example.com/" + K,
        "https://SIGN.example.com:9/b/" + K,
    ],
)
def test_bound_urls_pass(url):
    """OSS hosts, listed hosts and the signer's own may serve the object."""
    assert problem(url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://b.oss-cn-hangzhou.aliyuncs.com/" + K, "plain http"),
        ("https://u@b.oss-cn-hangzhou.aliyuncs.com/" + K, "user information"),
        (f"{B}/{K}#x", "fragment"),
        (f"{B}/%ff", "not UTF-8"),
        ("https://evil.example.com/" + K, 'allowed_hosts={"evil.example.com": "b"}'),
        ("https://evil.aliyuncs.com/" + K, "neither an OSS host"),
        ("https://b.evil.oss.aliyuncs.com/" + K, "neither an OSS host"),
        ("https://b.oss.aliyuncs.com/" + K, "neither an OSS host"),
        ("https://s3.oss-cn-hangzhou.aliyuncs.com/" + K, "neither an OSS host"),
        (
            "https://b-1.oss-cn-x.oss-accesspoint.aliyuncs.com/" + K,
            "neither an OSS host",
        ),
        ("https://c.us-west-1.oss.aliyuncs.com/" + K, "belongs to bucket 'c'"),
        ("https://b.evil.oss-cn-hangzhou.aliyuncs.com/" + K, "neither an OSS host"),
        ("https://b.oss-cn-hangzhou.aliyuncs.com.evil.com/" + K, "neither an OSS host"),
        ("https://127.0.0.1/b/" + K, "neither an OSS host"),
        ("https://c.oss-cn-hangzhou.aliyuncs.com/" + K, "belongs to bucket 'c'"),
        ("https://other.example.com/" + K, "belongs to bucket 'c'"),
        ("https://port.example.com/" + K, "neither an OSS host"),
        (f"{B}/b/{K}", "is not that of 'b/dir/k +%'"),
        (f"{B}/dir/./k%20+%25", "is not that of"),
        (f"{B}/dir/k%20+%2525", "is not that of"),
        (f"{B}/dir/k%20%20%25", "is not that of"),
        ("https://cdn.example.com/b/" + K, "is not that of"),
        (f"{B}/{K}?a=1&%61=2", "appears twice"),
        (f"{B}/{K}?acl", "may turn the URL into another call"),
        (f"{B}/{K}?partNumber=1", "may turn the URL into another call"),
        (f"{B}/{K}?x-oss-process=x", "may turn the URL into another call"),
        (f"{B}/{K}?symlink=", "may turn the URL into another call"),
        (f"{B}/{K}?retention", "may turn the URL into another call"),
        (f"{B}/{K}?legalHold=", "may turn the URL into another call"),
        (f"{B}/{K}?x-oss-invented-tomorrow=1", "may turn the URL into another call"),
        (f"https://b.oss-cn-x.aliyuncs.com:8443/{K}", "do not listen on port 8443"),
    ],
)
def test_other_urls_are_refused(url, said):
    """The message names the host and the option, or the rule."""
    assert said in (problem(url) or "")


PART = {"action": "UploadPart", "upload_id": "U/+", "part_number": 3}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("partNumber=3&uploadId=U%2F%2B", None),
        ("uploadId=U%2F%2B", "'partNumber' is missing"),
        ("partNumber=3", "'uploadId' is missing"),
        (
            "partNumber=4&uploadId=U%2F%2B",
            "'partNumber' of the URL differs from the request",
        ),
        ("partNumber=3&uploadId=V", "'uploadId' of the URL differs from the request"),
        ("partNumber=3&partNumber=3&uploadId=U%2F%2B", "appears twice"),
        ("partNumber=3&uploadId=U%2F%2B&uploads", "another call"),
    ],
)
def test_part_and_upload_are_bound(query, said):
    """Bytes of one part never land in another, or in another upload."""
    found = problem(f"{B}/{K}?{query}", **PART)
    assert found is None if said is None else said in (found or "")


@pytest.mark.parametrize(
    ("action", "query"),
    [
        ("InitiateMultipartUpload", "uploads"),
        ("InitiateMultipartUpload", "uploads="),
        ("CompleteMultipartUpload", "uploadId=U"),
        ("AbortMultipartUpload", "uploadId=U"),
        ("ListParts", "uploadId=U"),
        ("HeadObject", ""),
    ],
)
def test_calls_have_their_own_parameters(action, query):
    """Each call is recognised by its sub-resource."""
    assert problem(f"{B}/{K}?{query}", action, upload_id="U") is None
    if query:
        assert problem(f"{B}/{K}", action, upload_id="U")


def test_listing_is_bound_to_its_prefix():
    """A listing is of the bucket, with every parameter that was asked for."""
    query = {"prefix": "my dir/", "max-keys": "9"}
    asked = {"key": "", "query": query}
    good = "list-type=2&prefix=my%20dir%2F&max-keys=9"
    for place in (f"{B}/", "https://any.example.com/b/", "https://any.example.com/b"):
        assert problem(f"{place}?{good}", "ListObjectsV2", **asked) is None
    plus = good.replace("%20", "+")
    assert problem(f"{B}/?{plus}", "ListObjectsV2", **asked) is None
    for bad in ("list-type=2&max-keys=9", good.replace("my", "your"), good[12:]):
        assert problem(f"{B}/?{bad}", "ListObjectsV2", **asked)


@pytest.mark.parametrize("loopback", [True, False])
def test_only_a_local_signer_leads_to_this_machine(loopback):
    """A remote signer must not reach local daemons, whatever is allowed."""
    binding = URLBinding(
        signer_host="127.0.0.1" if loopback else "sign.example.com",
        allowed_hosts={} if loopback else {"127.0.0.1": None},
        allow_http=not loopback,
    )
    put = Operation(action=Action.PutObject, bucket="b", key="k")
    found = binding.problem(put, "http://127.0.0.1:9/b/k")
    assert (found is None) is loopback


@pytest.mark.usefixtures("oss")
def test_requests_have_the_members_of_their_action():
    """A signer that refuses members of other actions can sign every kind of upload."""
    page = Path(__file__).parents[2] / "docs" / "signer-protocol.md"
    row = r"^\| `(upload_id|part_number|content_length)` \| [^|]* \| ([\w, ]+) \|$"
    table = re.findall(row, page.read_text(encoding="utf-8"), re.MULTILINE)
    asked = []

    def sign(operations):
        asked.extend(json.loads(encode(operation)) for operation in operations)
        return KeySigner.from_options().sign(operations)

    fs = OSSPresignedFileSystem(signer=sign, part_size=102_400, multipart_threshold=1)
    fs.pipe_file("examplebucket/parts", b"x" * 250_000)
    fs.cp_file("examplebucket/parts", "examplebucket/copy")
    with fs.open("examplebucket/stream", "wb") as file:
        file.write(b"x" * 250_000)
    fs.pipe_file("examplebucket/empty", b"")
    assert fs.cat_file("examplebucket/copy") == b"x" * 250_000
    fs.rm(fs.ls("examplebucket", detail=False))
    for request in asked:
        for member, actions in table:
            assert (member in request) is (request["action"] in actions.split(", "))
    used = {"PutObject", "InitiateMultipartUpload", "UploadPart", "DeleteObject"}
    assert len(table) == 3
    assert used <= {request["action"] for request in asked}
