"""ACL, tags, symbolic links and archived objects."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.emulator import Emulator

BUCKET = "examplebucket"


@pytest.fixture
def ask(client, key):
    """Send a call on a sub-resource of the key."""

    def send(method, name, data=b"", **headers):
        headers = {n.replace("_", "-"): v for n, v in headers.items()}
        return client.call(method, key, query={name: ""}, data=data, headers=headers)

    return send


def tagging(*tags: tuple[str, str]) -> bytes:
    rows = "".join(f"<Tag><Key>{k}</Key><Value>{v}</Value></Tag>" for k, v in tags)
    return f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()


def test_acl(client, key, ask, tree, refusal):
    """It is what the PUT said, until it is set anew; nothing else changes."""
    grant = "AccessControlList/Grant"
    client.put(key, b"data", headers={"x-oss-meta-a": "1"})
    assert tree(ask("GET", "acl")).findtext(grant) == "default"
    client.put(key, b"data", headers={"x-oss-object-acl": "private"})
    assert tree(ask("GET", "acl")).findtext(grant) == "private"
    reply = ask("PUT", "acl", x_oss_object_acl="public-read")
    assert (reply.status_code, reply.content) == (200, b"")
    assert tree(ask("GET", "acl")).findtext(grant) == "public-read"
    assert client.oss.get(BUCKET, key).data() == b"data"
    for headers in ({}, {"x_oss_object_acl": "mine"}):
        assert refusal(ask("PUT", "acl", **headers))[:2] == (400, "InvalidArgument")


def test_tags(client, key, ask, tree, refusal):
    """They are those of the PUT, then those of the document, then none."""

    def seen():
        tags = tree(ask("GET", "tagging")).iter("Tag")
        return [(t.findtext("Key"), t.findtext("Value")) for t in tags]

    client.put(key, b"data", headers={"x-oss-tagging": "a=1&b="})
    assert seen() == [("a", "1"), ("b", "")]
    assert ask("PUT", "tagging", tagging(("c d", "+-=._:/"))).status_code == 200
    assert seen() == [("c d", "+-=._:/")]
    assert client.call("HEAD", key).headers["x-oss-tagging-count"] == "1"
    for body, code in (
        (tagging(("a", "1"), ("a", "2")), "InvalidTag"),
        (tagging(("%@a", "1")), "InvalidTag"),
        (tagging(("a", "&amp;")), "InvalidTag"),
        (b"no xml", "MalformedXML"),
    ):
        assert refusal(ask("PUT", "tagging", body))[:2] == (400, code)
    assert ask("DELETE", "tagging").status_code == 204
    assert seen() == []
    assert client.oss.get(BUCKET, key).data() == b"data"


def test_a_property_makes_no_version(make_client):
    """ACL and tags belong to the version that is there."""
    with Emulator(buckets=[], versioned=["vvv"]) as oss:
        client = make_client(oss)
        version = client.put("k", bucket="vvv").headers["x-oss-version-id"]
        acl = {"x-oss-object-acl": "private"}
        client.call("PUT", "k", bucket="vvv", query={"acl": ""}, headers=acl)
        assert oss.get("vvv", "k").version_id == version
        assert client.put("k", bucket="vvv").headers["x-oss-version-id"] != version


@pytest.mark.parametrize(
    ("method", "name"),
    [("GET", "acl"), ("PUT", "acl"), ("GET", "tagging"), ("DELETE", "tagging"),
     ("GET", "symlink"), ("POST", "restore")],
)  # fmt: skip
def test_an_absent_object(ask, refusal, method, name):
    """None of them makes an object."""
    headers = {"x_oss_object_acl": "private"} if method == "PUT" else {}
    assert refusal(ask(method, name, **headers))[:2] == (404, "NoSuchKey")


def test_a_link_is_read_as_its_target(client, key, ask, refusal):
    """GET and HEAD give the bytes of the target, GetSymlink its name; one step only."""
    target = f"{key} target"
    quoted = target.replace(" ", "%20")
    assert refusal(ask("PUT", "symlink"))[:2] == (400, "InvalidArgument")
    reply = ask("PUT", "symlink", x_oss_symlink_target=quoted, x_oss_meta_a="1")
    assert reply.status_code == 200
    assert refusal(client.call("GET", key))[:2] == (404, "SymlinkTargetNotExist")
    client.put(target, b"data")
    got = client.call("GET", key)
    assert got.content == b"data"
    assert got.headers["x-oss-object-type"] == "Symlink"
    assert got.headers["x-oss-meta-a"] == "1"
    assert client.call("HEAD", key).headers["Content-Length"] == "4"
    assert ask("GET", "symlink").headers["x-oss-symlink-target"] == quoted
    reply = client.call("GET", target, query={"symlink": ""})
    assert refusal(reply)[:2] == (400, "NotSymlink")
    copy = {"x-oss-copy-source": f"/{BUCKET}/{key}"}
    assert client.call("PUT", f"{key}2", headers=copy).status_code == 200
    assert client.call("GET", f"{key}2").content == b"data"
    link = {"x-oss-symlink-target": key}
    client.call("PUT", target, query={"symlink": ""}, headers=link)
    assert refusal(client.call("GET", key))[:2] == (400, "InvalidTargetType")


@pytest.mark.parametrize("kind", ["Archive", "ColdArchive", "DeepColdArchive"])
def test_an_archived_object_is_restored_first(client, key, ask, refusal, kind):
    """Until then it can be looked at, and neither read nor copied."""
    client.put(key, b"data", headers={"x-oss-storage-class": kind})
    copy = {"x-oss-copy-source": f"/{BUCKET}/{key}"}
    assert "x-oss-restore" not in client.call("HEAD", key).headers
    for reply in (client.call("GET", key), client.call("PUT", "c", headers=copy)):
        assert refusal(reply)[:2] == (403, "InvalidObjectState")
    assert [ask("POST", "restore").status_code for _ in range(2)] == [202, 200]
    got = client.call("GET", key)
    assert got.content == b"data"
    assert got.headers["x-oss-restore"].startswith('ongoing-request="false", expiry')
    assert client.call("PUT", "c", headers=copy).status_code == 200


def restoring(tier):
    """Return the document of RestoreObject."""
    job = f"<JobParameters><Tier>{tier}</Tier></JobParameters>" if tier else ""
    return f"<RestoreRequest><Days>2</Days>{job}</RestoreRequest>".encode()


@pytest.mark.parametrize(
    ("kind", "document", "found"),
    [
        ("ColdArchive", b"", "Standard"),
        ("ColdArchive", restoring(""), "Standard"),
        ("DeepColdArchive", restoring("Bulk"), "Bulk"),
        ("ColdArchive", restoring("soon"), (400, "InvalidArgument")),
        ("ColdArchive", b"no xml", (400, "MalformedXML")),
        ("Archive", restoring(""), None),
        ("Archive", restoring("Bulk"), (400, "MalformedXML")),
    ],
)
def test_priority_of_a_restoring(client, key, ask, refusal, kind, document, found):
    """Cold classes have three, and tell which; the others know none."""
    client.put(key, b"data", headers={"x-oss-storage-class": kind})
    reply = ask("POST", "restore", document)
    if isinstance(found, tuple):
        assert refusal(reply)[:2] == found
    else:
        assert reply.status_code == 202
        assert reply.headers.get("x-oss-object-restore-priority") == found
    listing = client.call("GET", "", query={"prefix": key}).content
    is_restored = b"<RestoreInfo>ongoing-request=" in listing
    assert is_restored == (reply.status_code == 202)


def test_what_is_not_archived_needs_no_restoring(client, key, ask, refusal):
    """OSS refuses it."""
    client.put(key)
    reply = ask("POST", "restore")
    assert refusal(reply)[:2] == (400, "OperationNotSupported")
