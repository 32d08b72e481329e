"""Reading any reply of a store raises no errors but those of this package."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned import parsing as jsondoc
from fsspec_osspresigned import parsing as xmldoc
from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.client.error_codes import from_reply
from fsspec_osspresigned.client.operations import OSSCalls, listing
from fsspec_osspresigned.client.retry import RetryPolicy
from fsspec_osspresigned.engine.engine import iterated, run
from fsspec_osspresigned.errors import OSSPresignedError, StoreError
from fsspec_osspresigned.model import (
    Action,
    Operation,
    PartReceipt,
    Reply,
    SignedRequest,
)
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.signers.base import MultipartGrant, Signer

# -- what may come ----------------------------------------------------------------------

TEXTS = st.text(max_size=30) | st.sampled_from(
    [
        "",
        "0",
        "1",
        "-1",
        "1e9",
        "true",
        "TRUE",
        "9" * 400,
        "٣",
        "a%zz%00%ff",
        '"D41D8CD98F00B204E9800998ECF8427E"',
        "2024-13-45T99:99:99.000Z",
        "\x00\x1b[31m\r\n",
        "../..//",
    ]
)
TAGS = st.sampled_from(
    [
        "Error",
        "Code",
        "Message",
        "RequestId",
        "EC",
        "Endpoint",
        "HostId",
        "StringToSign",
        "InitiateMultipartUploadResult",
        "UploadId",
        "Bucket",
        "Key",
        "CompleteMultipartUploadResult",
        "ETag",
        "Location",
        "ListPartsResult",
        "Part",
        "PartNumber",
        "Size",
        "IsTruncated",
        "NextPartNumberMarker",
        "ListBucketResult",
        "Contents",
        "LastModified",
        "CommonPrefixes",
        "Prefix",
        "KeyCount",
        "NextContinuationToken",
        "CopyObjectResult",
    ]
)


def escaped(text: str) -> str:
    """Return *text* as XML has it; what XML cannot have goes through too."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def element(tag: str, inner: list[str]) -> str:
    """Return one element."""
    return f"<{tag}>{''.join(inner)}</{tag}>"


TREES = st.recursive(
    st.builds(lambda tag, text: element(tag, [escaped(text)]), TAGS, TEXTS),
    lambda inner: st.builds(element, TAGS, st.lists(inner, max_size=6)),
    max_leaves=25,
)
CONTENTS = (
    "<Contents><Key>k</Key><Size>3</Size><ETag>E</ETag>"
    "<LastModified>2024-01-01T00:00:00.000Z</LastModified></Contents>"
)
PART = '<Part><PartNumber>1</PartNumber><Size>3</Size><ETag>"E"</ETag></Part>'
GOOD = [
    "<Error><Code>NoSuchKey</Code><Message>m</Message><EC>0026-00000001</EC></Error>",
    element("InitiateMultipartUploadResult", ["<UploadId>U</UploadId>"]),
    element("CompleteMultipartUploadResult", ["<ETag>E</ETag>"]),
    element("ListPartsResult", ["<IsTruncated>false</IsTruncated>", PART]),
    element(
        "ListBucketResult",
        [CONTENTS, "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>"],
    ),
    element("CopyObjectResult", ["<ETag>E</ETag>"]),
]
HOSTILE = [
    '<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;">]><Error>&m;</Error>',
    '<!DOCTYPE a SYSTEM "file:///etc/passwd"><Error/>',
    '<?xml version="1.0" encoding="utf-16"?><Error/>',
    '<?xml version="1.0" encoding="nonsense"?><Error/>',
    "<Error>&undefined;</Error>",
    "<Error><Code>A</Code><Code>B</Code></Error>",
    '<a:Error xmlns:a="b"><a:Code>X</a:Code></a:Error>',
    "<Error><!-- c --><?p i?><![CDATA[<Code>]]></Error>",
    "<a>" * 500 + "</a>" * 500,
    "{}",
    "null",
    "[" * 500,
]


@st.composite
def damaged(draw: Any) -> bytes:
    """Return a document with a few pieces cut out, doubled, or replaced."""
    data = draw(st.sampled_from(GOOD + HOSTILE) | TREES).encode("utf-8", "replace")
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        middle = draw(
            st.just(b"")
            | st.just(data[start:end] * 2)
            | st.binary(max_size=6)
            | TEXTS.map(lambda text: text.encode("utf-8", "replace"))
        )
        data = data[:start] + middle + data[end:]
    return data


BODIES = damaged() | st.binary(max_size=60)
ENCODED = BODIES.map(lambda body: base64.b64encode(body).decode())
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "x-oss-ec",
            "x-oss-err",
            "x-oss-request-id",
            "x-amz-request-id",
            "retry-after",
            "etag",
            "date",
            "content-length",
            "content-md5",
            "last-modified",
            "x-oss-hash-crc64ecma",
            "x-oss-version-id",
            "content-type",
            "location",
            "x-oss-server-time",
        ]
    ),
    # The transport passes no control characters on.
    (TEXTS | ENCODED).map(lambda text: "".join(c for c in text if c >= " ")),
    max_size=6,
)
STATUSES = st.sampled_from([200, 203, 204, 206, 100, 301, 400, 403, 404, 409, 500, 999])
REPLIES = st.builds(
    lambda status, headers, body: Reply(status=status, headers=headers, body=body),
    st.just(200) | STATUSES,
    HEADERS,
    BODIES,
)


class Canned(Signer):
    """A transport with one answer to everything, and a signer for it."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.left = 3  # a listing that says that it goes on forever

    def sign(self, operations: Any) -> list[SignedRequest]:
        return [
            SignedRequest(method=o.action.method, url="https://b.example/k")
            for o in operations
        ]

    async def send(self, *_: Any, **__: Any) -> Reply:
        self.left -= 1
        if self.left < 0:
            return Reply(status=404)
        return self.reply


def client(reply: Reply) -> Client:
    """Return a client whose store answers *reply*."""
    canned: Any = Canned(reply)
    return Client(Options(), canned, canned, policy=RetryPolicy(retries=0))


def harmless(step: Callable[[], Any]) -> None:
    """Run *step*: it may work, or fail with one of our errors, which is printable."""
    text = ""
    try:
        step()
    except OSSPresignedError as error:
        text = f"{error} {error!r}"
    assert "\x1b" not in text
    assert len(text) < 4000


# -- documents --------------------------------------------------------------------------


def value_of(read: Callable[[], Any]) -> Any:
    """Return what *read* returns; None after a ValueError of one short line."""
    found: list[Any] = []
    problem = None
    try:
        found.append(read())
    except ValueError as error:
        problem = error
    if problem is None:
        return found[0]
    assert type(problem) is ValueError
    assert "\n" not in str(problem)
    assert len(str(problem)) < 200
    return None


@given(body=BODIES, root=st.none() | TAGS)
def test_xml(body, root):
    """A document is a tree without any declaration, or a ValueError."""
    tree = value_of(lambda: xmldoc.parse(body, root))
    if tree is None:
        return
    assert root in (None, tree.tag)
    assert b"<!DOCTYPE" not in body
    assert all("}" not in found.tag for found in tree.iter())


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=15,
).map(json.dumps)


@given(
    text=JSON | st.text(max_size=40) | st.binary(max_size=40) | damaged(),
    depth=st.none() | st.integers(0, 5),
)
def test_json(text, depth):
    """A document is a value without NaN and infinity, or a ValueError."""
    json.dumps(value_of(lambda: jsondoc.loads(text, max_depth=depth)), allow_nan=False)


# -- replies ----------------------------------------------------------------------------


@given(status=st.integers(100, 999), headers=HEADERS, body=BODIES)
def test_error_reply(status, headers, body):
    """Any answer becomes one of the errors for answers, on one line."""
    error = from_reply(
        Operation(action=Action.PutObject, bucket="bucket", key="key"),
        Reply(status=status, headers=headers, body=body),
    )
    assert isinstance(error, StoreError)
    assert (error.status, error.path) == (status, "bucket/key")
    assert error.message.isprintable()
    assert len(error.message) < 1200


TARGET = Target(path="bucket/key")


@given(reply=REPLIES)
def test_initiate(reply):
    """Either there is an upload ID, or one of our errors."""

    def step() -> None:
        assert run(OSSCalls(client(reply), TARGET).initiate)

    harmless(step)


@given(reply=REPLIES, crc=st.none() | st.integers(0, 2**64 - 1))
def test_complete(reply, crc):
    """A reply that is no clear success raises an error of this package."""
    granted = MultipartGrant(upload_id="U")
    parts = (PartReceipt(part_number=1, size=3, etag='"E"'),)
    calls = OSSCalls(client(reply), TARGET)
    harmless(lambda: run(calls.complete, "U", parts, crc, granted))


@given(reply=REPLIES)
def test_list_parts(reply):
    """Parts that cannot be read are not the parts that were sent."""
    parts = (PartReceipt(part_number=1, size=3, etag='"E"'),)
    granted = MultipartGrant(upload_id="U", complete_all=True, complete_all_proven=True)
    calls = OSSCalls(client(reply), TARGET)
    harmless(lambda: run(calls.complete, "U", parts, None, granted))


SIZES = st.builds(
    lambda size, date: (
        "<ListBucketResult><Contents><Key>k</Key>"
        f"<Size>{escaped(size)}</Size><LastModified>{escaped(date)}</LastModified>"
        "</Contents></ListBucketResult>"
    ).encode("utf-8", "replace"),
    TEXTS,
    TEXTS,
)


@given(
    reply=REPLIES | SIZES.map(lambda body: Reply(status=200, body=body)),
)
def test_listing(reply):
    """A listing that cannot be read is one of our errors."""
    harmless(lambda: list(iterated(listing(client(reply), "bucket", ""))))


@given(reply=REPLIES)
def test_head(reply):
    """Invalid facts about an object raise an error of this package."""
    harmless(lambda: run(OSSCalls(client(reply), TARGET).info))
