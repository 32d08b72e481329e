"""Listings of objects, versions, uploads, parts and buckets, page by page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.emulator.listing import cut_page
from fsspec_osspresigned.http.checksums import crc64
from tests.emulator.authorization import encoded, signed_headers
from tests.emulator.conftest import tree

BUCKET = "examplebucket"
KEYS = ["a", "b/1", "b/2", "b/c/3", "d", "ü ü"]
keys_of = st.lists(st.text("ab/", min_size=1, max_size=5), unique=True).map(sorted)


@pytest.fixture
def look(client):
    """List KEYS: keys, common prefixes and the document."""
    for key in KEYS:
        client.put(key, key.encode())

    def looked(**query):
        query = {name.replace("_", "-"): value for name, value in query.items()}
        document = tree(client.call("GET", "", query=query))
        keys = [e.text for e in document.iterfind("Contents/Key")]
        prefixes = [e.text for e in document.iterfind("CommonPrefixes/Prefix")]
        return keys, prefixes, document

    return looked


def test_version_2(look):
    """Keys come in byte order; those below a delimiter are one common prefix."""
    keys, prefixes, document = look(list_type="2")
    assert (keys, prefixes) == (KEYS, [])
    assert document.findtext("IsTruncated") == "false"
    assert document.findtext("MaxKeys") == "100"
    assert document.findtext("KeyCount") == "6"
    assert document.findtext("Contents/Size") == "1"
    assert document.findtext("Contents/StorageClass") == "Standard"
    assert document.find("Contents/Owner") is None
    assert look(list_type="2", delimiter="/")[:2] == (["a", "d", "ü ü"], ["b/"])
    found = look(list_type="2", delimiter="/", prefix="b/")
    assert found[:2] == (["b/1", "b/2"], ["b/c/"])
    assert look(list_type="2", prefix="b/c")[:2] == (["b/c/3"], [])
    keys, _, document = look(list_type="2", start_after="b/2", fetch_owner="true")
    assert keys == ["b/c/3", "d", "ü ü"]
    assert document.findtext("StartAfter") == "b/2"
    assert document.findtext("Contents/Owner/ID")
    # As oss2 asks for the first page.
    assert look(list_type="2", start_after="b/2", continuation_token="")[0] == keys
    keys, _, document = look(list_type="2", encoding_type="url", prefix="ü")
    assert (keys, document.findtext("Prefix")) == (["%C3%BC%20%C3%BC"], "%C3%BC")


@pytest.mark.parametrize("size", ["1", "2", "3", "6"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_pages_add_up(look, size, delimiter):
    """The pages of a listing are the whole listing, each once."""
    found, query = [], {"list_type": "2", "max_keys": size, "delimiter": delimiter}
    for _ in KEYS:
        keys, prefixes, document = look(**query)
        assert len(keys) + len(prefixes) <= int(size)
        found += keys + prefixes
        following = document.findtext("NextContinuationToken")
        if following is None:
            break
        assert document.findtext("IsTruncated") == "true"
        query["continuation_token"] = following
    assert sorted(found) == (["a", "b/", "d", "ü ü"] if delimiter else KEYS)


@given(keys_of, st.text("ab/", max_size=2), st.sampled_from(["", "/", "ab"]),
       st.integers(1, 4))  # fmt: skip
def test_pages_are_what_a_plain_loop_finds(keys, prefix, delimiter, most):
    """Each entry is on one page, whatever the prefix, the delimiter and the size."""
    expected = []
    for key in keys:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if end < 0 else key[: end + len(delimiter)]
            if entry not in expected or end < 0:
                expected.append(entry)
    found, passed = [], ""
    while passed is not None:
        page, prefixes, passed = cut_page(
            keys, prefix=prefix, delimiter=delimiter, after=passed, passed=passed,
            limit=most,
        )  # fmt: skip
        assert len(page) + len(prefixes) <= most
        found += [*page, *prefixes]
    assert sorted(found) == sorted(expected)


def test_version_1(look):
    """ListObjects continues from a marker, and always returns the owner."""
    keys, _, document = look()
    assert keys == KEYS
    assert document.findtext("Contents/Owner/ID")
    assert document.find("NextMarker") is None
    keys, prefixes, document = look(max_keys="2", delimiter="/")
    assert (keys, prefixes) == (["a"], ["b/"])
    assert document.findtext("NextMarker") == "b/"
    keys, prefixes, document = look(marker="b/", delimiter="/", encoding_type="url")
    assert (keys, prefixes) == (["d", "%C3%BC%20%C3%BC"], [])
    assert document.findtext("Marker") == "b%2F"
    assert look(prefix="b/", marker="b/1")[0] == ["b/2", "b/c/3"]


def test_a_prefix_that_is_no_utf8(client):
    """Bytes that are no text match nothing and break nothing."""
    query = {"list-type": "2", "encoding-type": "url"}
    url = client.url("GET", "", query=query, version="v1") + "&prefix=%FF"
    assert b"<Prefix>%FF</Prefix>" in client.send("GET", url).content


def test_uploads(client):
    """ListMultipartUploads lists open uploads by key and id."""
    keys = ("u/ü a", "u/b", "u/b", "v")
    wanted = sorted((key, client.initiate(key)) for key in keys)

    def look(**query):
        query = {name.replace("_", "-"): value for name, value in query.items()}
        return tree(client.call("GET", "", query={"uploads": "", **query}))

    def rows(document):
        found = document.iterfind("Upload")
        return [(e.findtext("Key"), e.findtext("UploadId")) for e in found]

    assert rows(look()) == wanted
    assert rows(look(prefix="u/")) == wanted[:3]
    page = look(max_uploads="1")
    assert (rows(page), page.findtext("IsTruncated")) == (wanted[:1], "true")
    key, upload = page.findtext("NextKeyMarker"), page.findtext("NextUploadIdMarker")
    assert rows(look(key_marker=key, upload_id_marker=upload)) == wanted[1:]
    assert rows(look(key_marker="u/b")) == wanted[2:]
    found = look(encoding_type="url", prefix="u/ü")
    assert found.findtext("Upload/Key") == "u%2F%C3%BC%20a"


def test_parts(client):
    """ListParts gives number, ETag, size and CRC-64."""
    upload, sent = client.uploaded("a ü", b"1", b"22", b"333")

    def look(**query):
        return tree(client.call("GET", "a ü", query={"uploadId": upload, **query}))

    found = [
        (int(part.findtext("PartNumber")), part.findtext("ETag"))
        for part in look().iterfind("Part")
    ]
    assert found == sent
    page = look(**{"max-parts": "2", "encoding-type": "url"})
    assert [part.findtext("Size") for part in page.iterfind("Part")] == ["1", "2"]
    assert page.findtext("Part/HashCrc64ecma") == str(crc64(b"1"))
    assert (page.findtext("Key"), page.findtext("IsTruncated")) == (
        "a%20%C3%BC",
        "true",
    )
    rest = look(**{"part-number-marker": page.findtext("NextPartNumberMarker")})
    assert [part.findtext("Size") for part in rest.iterfind("Part")] == ["3"]


def versions_of(document):
    """Return tag, key, ID and IsLatest of all entries: delete markers come first."""
    return [
        (e.findtext("Key"), e.findtext("VersionId"), e.tag, e.findtext("IsLatest"))
        for e in (*document.iterfind("DeleteMarker"), *document.iterfind("Version"))
    ]


def test_versions(make_client):
    """ListObjectVersions lists versions and delete markers, the newest of a key first."""
    with Emulator(versioned=[BUCKET]) as oss:
        client = make_client(oss)
        ids = [client.put(k).headers["x-oss-version-id"] for k in ("a", "b/ü", "b/ü")]
        marker = client.call("DELETE", "b/ü").headers["x-oss-version-id"]

        def look(**query):
            query = {name.replace("_", "-"): value for name, value in query.items()}
            return tree(client.call("GET", "", query={"versions": "", **query}))

        wanted = [
            ("b/ü", marker, "DeleteMarker", "true"),
            ("a", ids[0], "Version", "true"),
            ("b/ü", ids[2], "Version", "false"),
            ("b/ü", ids[1], "Version", "false"),
        ]
        assert versions_of(look()) == wanted
        assert versions_of(look(prefix="b/")) == [wanted[0], *wanted[2:]]
        assert look().findtext("IsTruncated") == "false"
        encoded_key = look(encoding_type="url", prefix="b/").findtext("Version/Key")
        assert encoded_key == "b%2F%C3%BC"


def test_versions_of_a_bucket_without_versioning(client):
    """Each object is its only version."""
    client.put("k")
    document = tree(client.call("GET", "", query={"versions": ""}))
    assert versions_of(document) == [("k", "null", "Version", "true")]


def test_buckets(make_client):
    """ListBuckets, GetBucketInfo and GetBucketAcl tell what SDKs ask for."""
    with Emulator(buckets=(BUCKET, "other", "third"), versioned=("third",)) as oss:
        client = make_client(oss)

        def ask(bucket="", **query):
            query = {name.replace("_", "-"): value for name, value in query.items()}
            headers = signed_headers(
                oss.credentials, "v4", "GET", bucket=bucket, query=query
            )
            url = f"{oss.url}/{bucket}{'/' if bucket else ''}{encoded(query)}"
            return tree(client.send("GET", url, headers=headers))

        def names(document):
            return [found.text for found in document.iterfind("Buckets/Bucket/Name")]

        document = ask()
        assert names(document) == [BUCKET, "other", "third"]
        assert document.findtext("Buckets/Bucket/Location") == "oss-cn-hangzhou"
        assert document.find("NextMarker") is None
        document = ask(max_keys="1", marker=BUCKET)
        assert (names(document), document.findtext("NextMarker")) == (
            ["other"],
            "other",
        )
        assert names(ask(prefix="th")) == ["third"]
        info = ask(BUCKET, bucketInfo="").find("Bucket")
        assert info.findtext("Name") == BUCKET
        assert info.findtext("Region") == "cn-hangzhou"
        assert info.find("Versioning") is None
        assert ask("third", bucketInfo="").findtext("Bucket/Versioning") == "Enabled"
        grant = "AccessControlList/Grant"
        assert ask(BUCKET, acl="").findtext(grant) == info.findtext(grant) == "private"
        assert ask("absent", bucketInfo="").findtext("Code") == "NoSuchBucket"
