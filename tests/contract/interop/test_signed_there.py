"""URLs that the official SDKs have signed, uploaded through this filesystem."""

from __future__ import annotations

import fsspec
import pytest
import requests

from fsspec_osspresigned import parsing as xmldoc
from tests.contract.interop.conftest import BUCKET
from tests.contract.interop.signers import Wanted, by_ali_oss, by_oss2, by_oss_v2
from tests.contract.interop.table import SIGNED_THERE

ODD = [
    "a//b",
    "a/../b/./c",
    "100%",
    "a%2Fb",
    "a+b",
    "~x",
    "ü é 目😀",
    "inner  blanks",
    "q?x=y",
    "h#x",
    "&=;,:@$",
    "!'()*",
    '"<>|\\^`{}[]',
]
DATA = bytes(range(256)) * 1600
PART = 100 * 1024
SIGNERS = ["oss2", "alibabacloud-oss-v2", "ali-oss"]


def each(what: str, **notes: str) -> pytest.MarkDecorator:
    """Run a test with each signer, and mark each row of the table."""
    return pytest.mark.parametrize(
        "who",
        [
            pytest.param(
                who,
                marks=pytest.mark.interop(
                    SIGNED_THERE,
                    who,
                    what,
                    note=notes.get(who.replace("-", "_"), "V1, V4, STS"),
                ),
            )
            for who in SIGNERS
        ],
    )


@pytest.fixture
def signer(who, oss, identity, node):
    """Each signing tool, with each version of the signature and each kind of key."""
    if who == "ali-oss":
        return by_ali_oss(oss.url, identity, node)
    return (by_oss2 if who == "oss2" else by_oss_v2)(oss.url, identity)


def uploader(**options):
    """Return this filesystem, which has no key."""
    return fsspec.filesystem(
        "osspresigned", allow_http=True, skip_instance_cache=True, **options
    )


@each("odd keys")
def test_odd_keys(signer, oss):
    """Each key arrives as it is, whatever its URL looks like."""
    keys = [f"odd/{key}" for key in ODD]
    urls = signer([Wanted("PUT", key) for key in keys])
    paths = {f"{BUCKET}/{key}": url for key, url in zip(keys, urls, strict=True)}
    fs = uploader(url_map=paths)
    for number, path in enumerate(paths):
        fs.pipe_file(path, b"%d" % number)
    stored = oss.objects(BUCKET)
    assert {key: stored[key] for key in stored} == {
        key: b"%d" % number for number, key in enumerate(keys)
    }


@each("headers")
def test_headers(signer, oss):
    """Signed type and metadata are sent; the object has them."""
    headers = {"Content-Type": "text/csv", "x-oss-meta-owner": "me"}
    (url,) = signer([Wanted("PUT", "h/a.csv", headers)])
    fs = uploader(url_map={f"{BUCKET}/h/a.csv": {"url": url, "headers": headers}})
    fs.pipe_file(f"{BUCKET}/h/a.csv", b"n\n1\n")
    stored = oss.get(BUCKET, "h/a.csv")
    assert stored.data() == b"n\n1\n"
    assert (
        headers.items()
        <= {
            name.replace("content-type", "Content-Type"): value
            for name, value in stored.headers.items()
        }.items()
    )
    with pytest.raises(PermissionError):
        uploader(url=url).pipe_file("", b"without what was signed")
    assert stored.data() == b"n\n1\n"


@each("one URL")
def test_one_url(signer, oss, tmp_path):
    """One URL takes a file, an open file and a stream."""
    (url,) = signer([Wanted("PUT", "one/a.bin")])
    source = tmp_path / "source"
    source.write_bytes(DATA)
    fs = uploader(url=url)
    fs.put_file(str(source), "")
    assert oss.get(BUCKET, "one/a.bin").data() == DATA
    with fs.open("", "wb") as file:
        file.write(b"abc")
    assert oss.get(BUCKET, "one/a.bin").data() == b"abc"


@each("parts")
def test_parts(signer, oss, tmp_path):
    """An upload that the SDK's URLs begin travels in parts, and reads back."""
    key = "parts/ü+ a.bin"
    headers = {"x-oss-meta-owner": "me"}
    (begin,) = signer([Wanted("POST", key, headers, {"uploads": ""})])
    reply = requests.post(begin, headers=headers, timeout=10)
    assert reply.status_code == 200, reply.text
    upload = xmldoc.parse(reply.content).findtext("UploadId")
    named = {"uploadId": upload}
    numbers = range(1, 6)
    *parts, complete, abort, get, head = signer(
        [
            *(
                Wanted("PUT", key, query={"partNumber": str(n), **named})
                for n in numbers
            ),
            Wanted("POST", key, query=named),
            Wanted("DELETE", key, query=named),
            Wanted("GET", key),
            Wanted("HEAD", key),
        ]
    )
    path = f"{BUCKET}/{key}"
    entry = {
        "upload_id": upload, "part_size": PART, "parts": parts,
        "complete": complete, "abort": abort, "get": get, "head": head,
    }  # fmt: skip
    source = tmp_path / "source"
    source.write_bytes(DATA)
    fs = uploader(url_map={path: entry})
    fs.put_file(str(source), path)
    stored = oss.get(BUCKET, key)
    assert (stored.kind, stored.data()) == ("Multipart", DATA)
    assert stored.headers["x-oss-meta-owner"] == "me"
    assert fs.cat_file(path, 10, 20) == DATA[10:20]
    assert fs.info(path)["size"] == len(DATA)
