"""ListObjectsV2, ListObjects, ListObjectVersions and ListMultipartUploads."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.emulator.listing import cut_page

KEYS = ["a", "b/1", "b/2", "b/c/3", "d", "ü ü"]
keys_of = st.lists(st.text("ab/", min_size=1, max_size=5), unique=True).map(sorted)


@pytest.fixture(scope="module")
def listed():
    """An emulator that holds KEYS."""
    with Emulator() as oss:
        yield oss


@pytest.fixture
def lister(listed, make_client, tree):
    """A function that lists, and its client."""
    client = make_client(listed)
    for key in set(KEYS) - set(listed.objects("examplebucket")):
        client.put(key, key.encode())

    def ask(**query):
        query = {name.replace("_", "-"): value for name, value in query.items()}
        return client.call("GET", "", query={"list-type": "2", **query})

    def look(**query):
        document = tree(ask(**query))
        keys = [e.text for e in document.iterfind("Contents/Key")]
        prefixes = [e.text for e in document.iterfind("CommonPrefixes/Prefix")]
        assert document.findtext("KeyCount") == str(len(keys) + len(prefixes))
        return keys, prefixes, document

    look.ask = ask
    return look


def test_all_keys_in_order(lister):
    """Without options everything comes, in byte order."""
    keys, prefixes, document = lister()
    assert keys == sorted(KEYS)
    assert prefixes == []
    assert document.findtext("IsTruncated") == "false"
    assert document.findtext("MaxKeys") == "100"
    assert document.findtext("Contents/Size") == "1"
    assert document.findtext("Contents/StorageClass") == "Standard"
    assert document.find("Contents/Owner") is None


def test_prefix_and_delimiter(lister):
    """Keys below a delimiter are rolled up into common prefixes."""
    assert lister(delimiter="/")[:2] == (["a", "d", "ü ü"], ["b/"])
    assert lister(delimiter="/", prefix="b/")[:2] == (["b/1", "b/2"], ["b/c/"])
    assert lister(prefix="b/c")[:2] == (["b/c/3"], [])
    assert lister(prefix="x")[:2] == ([], [])


@pytest.mark.parametrize("size", ["1", "2", "3", "6"])
@pytest.mark.parametrize("delimiter", ["", "/"])
def test_pages_add_up(lister, size, delimiter):
    """The pages of a listing are the whole listing, each once."""
    found, token = [], {}
    for _ in KEYS:
        keys, prefixes, document = lister(max_keys=size, delimiter=delimiter, **token)
        assert len(keys) + len(prefixes) <= int(size)
        found += keys + prefixes
        following = document.findtext("NextContinuationToken")
        if following is None:
            break
        assert document.findtext("IsTruncated") == "true"
        token = {"continuation_token": following}
    expected = ["a", "b/", "d", "ü ü"] if delimiter else KEYS
    assert sorted(found) == sorted(expected)


def test_start_after_and_owner(lister):
    """start-after leaves out what stands before; fetch-owner names the owner."""
    keys, _, document = lister(start_after="b/2", fetch_owner="true")
    assert keys == ["b/c/3", "d", "ü ü"]
    assert document.findtext("StartAfter") == "b/2"
    assert document.findtext("Contents/Owner/ID")
    assert lister(start_after="b/2", continuation_token="")[0] == keys  # as oss2 asks


def test_encoded_keys(lister):
    """encoding-type=url encodes keys and prefixes."""
    keys, _, document = lister(encoding_type="url", prefix="ü")
    assert keys == ["%C3%BC%20%C3%BC"]
    assert unquote(keys[0]) == "ü ü"
    assert document.findtext("EncodingType") == "url"
    assert document.findtext("Prefix") == "%C3%BC"


def test_a_prefix_that_is_no_utf8(listed, make_client):
    """Bytes that are no text match nothing and break nothing."""
    client = make_client(listed)
    query = {"list-type": "2", "encoding-type": "url"}
    url = client.url("GET", "", query=query, version="v1") + "&prefix=%FF"
    assert b"<Prefix>%FF</Prefix>" in client.send("GET", url).content


@pytest.mark.parametrize(
    "query",
    [
        {"max_keys": "9" * 5000},
        {"max_keys": "0"},
        {"max_keys": "1001"},
        {"max_keys": "x"},
        {"encoding_type": "base64"},
        {"continuation_token": "%"},
        {"continuation_token": "/w=="},
    ],
)
def test_bad_arguments(lister, refusal, query):
    """What cannot be read is InvalidArgument."""
    assert refusal(lister.ask(**query))[:2] == (400, "InvalidArgument")


def test_a_key_that_goes_is_no_longer_listed(lister, listed, make_client):
    """Deleting and adding keep the order."""
    client = make_client(listed)
    lister()
    client.put("c")
    assert lister()[0] == sorted([*KEYS, "c"])
    client.call("DELETE", "c")
    assert lister()[0] == KEYS


@given(keys_of, st.text("ab/", max_size=2), st.sampled_from(["", "/", "ab"]),
       st.integers(1, 4))  # fmt: skip
def test_pages_are_what_a_plain_loop_finds(keys, prefix, delimiter, most):
    """Skipping by bisection finds what looking at every key finds."""
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


def test_version_1(listed, make_client, tree, lister):
    """ListObjects goes on from a marker, and always tells the owner."""
    lister()
    client = make_client(listed)

    def look(**query):
        query = {name.replace("_", "-"): value for name, value in query.items()}
        document = tree(client.call("GET", "", query=query))
        keys = [e.text for e in document.iterfind("Contents/Key")]
        prefixes = [e.text for e in document.iterfind("CommonPrefixes/Prefix")]
        return keys, prefixes, document

    keys, _, document = look()
    assert keys == sorted(KEYS)
    assert document.findtext("Contents/Owner/ID")
    assert document.find("NextMarker") is None
    keys, prefixes, document = look(max_keys="2", delimiter="/")
    assert (keys, prefixes) == (["a"], ["b/"])
    assert document.findtext("NextMarker") == "b/"
    keys, prefixes, document = look(marker="b/", delimiter="/", encoding_type="url")
    assert (keys, prefixes) == (["d", "%C3%BC%20%C3%BC"], [])
    assert (document.findtext("Marker"), document.findtext("EncodingType")) == (
        "b%2F",
        "url",
    )
    assert look(prefix="b/", marker="b/1")[0] == ["b/2", "b/c/3"]


def test_uploads(make_client, tree, refusal):
    """ListMultipartUploads lists open uploads by key and id, page by page."""
    with Emulator() as oss:
        client = make_client(oss)
        wanted = sorted(
            (key, client.initiate(key)) for key in ("u/ü a", "u/b", "u/b", "v")
        )

        def look(**query):
            query = {name.replace("_", "-"): value for name, value in query.items()}
            return client.call("GET", "", query={"uploads": "", **query})

        def rows(document):
            return [
                (e.findtext("Key"), e.findtext("UploadId"))
                for e in document.iterfind("Upload")
            ]

        assert rows(tree(look())) == wanted
        assert rows(tree(look(prefix="u/"))) == wanted[:3]
        page = tree(look(max_uploads="1"))
        assert rows(page) == wanted[:1]
        assert page.findtext("IsTruncated") == "true"
        key, upload = (
            page.findtext("NextKeyMarker"),
            page.findtext("NextUploadIdMarker"),
        )
        assert rows(tree(look(key_marker=key, upload_id_marker=upload))) == wanted[1:]
        assert rows(tree(look(key_marker="u/b"))) == wanted[2:]
        found = tree(look(encoding_type="url", prefix="u/ü"))
        assert found.findtext("Upload/Key") == "u%2F%C3%BC%20a"
        assert found.findtext("EncodingType") == "url"
        found = tree(look(prefix="none"))
        assert found.findtext("NextKeyMarker") == ""
        assert found.findtext("NextUploadIdMarker") == ""
        found = tree(look(delimiter="/"))
        assert rows(found) == wanted[3:]
        assert found.findtext("Delimiter") == "/"
        assert [e.text for e in found.iterfind("CommonPrefixes/Prefix")] == ["u/"]
        page = tree(look(delimiter="/", max_uploads="1"))
        assert (rows(page), page.findtext("NextKeyMarker")) == ([], "u/")
        assert rows(tree(look(delimiter="/", key_marker="u/"))) == wanted[3:]
        assert refusal(look(max_uploads="0"))[:2] == (400, "InvalidArgument")


def versions_of(document):
    """Return tag, key, ID and IsLatest of all entries: delete markers come first."""
    return [
        (e.findtext("Key"), e.findtext("VersionId"), e.tag, e.findtext("IsLatest"))
        for e in (*document.iterfind("DeleteMarker"), *document.iterfind("Version"))
    ]


def test_versions(make_client, tree, refusal):
    """ListObjectVersions lists versions and delete markers, page by page."""
    with Emulator(versioned=["examplebucket"]) as oss:
        client = make_client(oss)
        ids = [client.put(k).headers["x-oss-version-id"] for k in ("a", "b/ü", "b/ü")]
        marker = client.call("DELETE", "b/ü").headers["x-oss-version-id"]

        def look(**query):
            query = {name.replace("_", "-"): value for name, value in query.items()}
            return client.call("GET", "", query={"versions": "", **query})

        wanted = [
            ("b/ü", marker, "DeleteMarker", "true"),
            ("a", ids[0], "Version", "true"),
            ("b/ü", ids[2], "Version", "false"),
            ("b/ü", ids[1], "Version", "false"),
        ]
        below = [wanted[0], *wanted[2:]]
        assert versions_of(tree(look())) == wanted
        assert versions_of(tree(look(prefix="b/"))) == below
        found, query = [], {}
        for _ in wanted:
            page = tree(look(max_keys="1", **query))
            found += versions_of(page)
            query = {
                "key_marker": page.findtext("NextKeyMarker"),
                "version_id_marker": page.findtext("NextVersionIdMarker"),
            }
        # The newest of a key comes first.
        assert found == [wanted[1], wanted[0], *wanted[2:]]
        assert page.findtext("IsTruncated") == "false"
        assert versions_of(tree(look(key_marker="a"))) == below
        assert versions_of(tree(look(prefix="none"))) == []
        encoded = tree(look(encoding_type="url", prefix="b/"))
        assert encoded.findtext("Version/Key") == "b%2F%C3%BC"
        assert refusal(look(delimiter="/"))[:2] == (400, "NotImplemented")


def test_versions_of_a_bucket_without_versioning(make_client, tree):
    """Each object is its only version."""
    with Emulator() as oss:
        client = make_client(oss)
        client.put("k")
        document = tree(client.call("GET", "", query={"versions": ""}))
        assert versions_of(document) == [("k", "null", "Version", "true")]
