"""The policy file: permissions, and mistakes with their position."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.owner.service.policy import (
    Policy,
    ServiceError,
    SignerSettings,
    hash_token,
    parse_policies,
    permitted,
)
from fsspec_osspresigned.signers.wire_protocol import ITEM_STATUS
from fsspec_osspresigned.signing.presigning import region_problem

HASH = hash_token("a-token-of-one")
OTHER = hash_token("a-token-of-two")
FULL = f"""
[signer]
region = "cn-hangzhou"
endpoint = "https://oss-cn-hangzhou-internal.aliyuncs.com"
style = "virtual"
credentials = "alibabacloud"

[[tokens]]
name = "nightly"
sha256 = "{HASH.upper()}"
buckets = ["examplebucket", "other-bucket"]
prefixes = ["data/", "more/"]
actions = ["PutObject", "InitiateMultipartUpload", "UploadPart"]
max_expires = "15m"
max_size = "1GiB"
max_part_size = 8388608
storage_classes = ["IA"]
headers = ["Content-Type", "x-oss-meta-*", "x-oss-callback"]
acls = ["private"]
overwrite = false
requests_per_minute = 600

[[tokens]]
name = "copies"
sha256 = "{OTHER}"
buckets = ["examplebucket"]
prefixes = [""]
actions = ["CopyObject"]
max_expires = 60
copy_sources = ["examplebucket/in/"]
callback = "https://app.example.com/uploaded"
"""
PUT = Operation(action=Action.PutObject, bucket="b-1", key="d/k", content_length=3)
PART = Operation(
    action=Action.UploadPart,
    bucket="b-1",
    key="d/k",
    upload_id="U",
    part_number=1,
    content_length=3,
)
POLICY = Policy(name="p", prefixes=("b-1/d/",), actions=frozenset(Action))


def entry(**members: str) -> str:
    """Return a policy with one token, some members replaced; None leaves one out."""
    lines = {
        "name": '"n"',
        "sha256": f'"{HASH}"',
        "buckets": '["examplebucket"]',
        "prefixes": '["data/"]',
        "actions": '["PutObject"]',
        **members,
    }
    text = "\n".join(f"{k} = {v}" for k, v in lines.items() if v is not None)
    return f"[[tokens]]\n{text}\n"


def problems(text: str) -> tuple[str, ...]:
    """Return the mistakes in *text*."""
    with pytest.raises(ConfigurationError) as caught:
        parse_policies(text)
    return caught.value.problems


def test_file_becomes_frozen_values():
    """Each key of the file is read, and hashes are in lower case."""
    found = parse_policies(FULL)
    assert found.signer == SignerSettings(
        region="cn-hangzhou",
        endpoint="https://oss-cn-hangzhou-internal.aliyuncs.com",
        style="virtual",
        credentials="alibabacloud",
    )
    assert set(found.tokens) == {HASH, OTHER}
    assert found.tokens[HASH] == Policy(
        name="nightly",
        prefixes=(
            "examplebucket/data/",
            "examplebucket/more/",
            "other-bucket/data/",
            "other-bucket/more/",
        ),
        actions=("PutObject", "InitiateMultipartUpload", "UploadPart"),
        max_expires_in=900,
        headers=("content-type", "x-oss-meta-*", "x-oss-callback"),
        storage_classes=("IA",),
        acls=("private",),
        max_size=1 << 30,
        max_part_size=8 << 20,
        overwrite=False,
        requests_per_minute=600,
    )
    copies = found.tokens[OTHER]
    assert copies.copy_sources == ("examplebucket/in/",)
    assert copies.prefixes == ("examplebucket/",)
    assert copies.callback == "https://app.example.com/uploaded"
    assert (copies.max_expires_in, copies.overwrite) == (60, True)
    assert (copies.headers, copies.acls) == (None, ())
    assert HASH not in repr(found)


def test_examples_of_the_documentation_are_policies():
    """The policies of the page are valid."""
    page = Path(__file__).parents[3] / "docs" / "serve.md"
    blocks = re.findall(
        r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL
    )
    names = [[p.name for p in parse_policies(b).tokens.values()] for b in blocks]
    assert names == [["nightly-export"], ["lab", "publish"]]


def test_every_mistake_is_told_at_once_with_its_place():
    """All mistakes of a policy are listed at once."""
    text = (
        'tolkens = 1\n[signer]\nstyle = "odd"\nregion = "oss-cn-hangzhou"\n'
        'endpoint = "ftp://a/b?c"\n'
        + entry()
        + entry(name='"n"', buckets='["B", 3]', action='["PutObject"]')
        + entry(name="3", sha256='"my-plain-token"', actions='["putobject"]')
    )
    assert problems(text) == (
        "tolkens is not known: did you mean tokens?",
        "signer.style must be one of virtual, path, cname",
        f"signer.region is wrong: {region_problem('oss-cn-hangzhou')}",
        "signer.endpoint is wrong: endpoint scheme 'ftp': use https or http",
        "signer.endpoint is wrong: the endpoint holds more than https://HOST[:PORT]",
        *(p for p in problems(text) if p.startswith("token 'n': buckets[0] is wrong")),
        "token 'n': buckets[1] must be a string",
        "token 'n': action is not known: did you mean actions?",
        "tokens[1].sha256 is also the hash of 'n'",
        "tokens[1].name 'n' is the name of another token",
        "tokens[2].name must be a string that can be printed",
        "tokens[2].sha256 must be 64 hex digits: osspresigned serve --hash-token",
        "tokens[2].actions[0] is not an action: did you mean PutObject?",
    )
    assert "my-plain-token" not in str(problems(text))


def test_prefix_without_a_slash_is_warned_of(caplog):
    """It also grants whatever else begins so."""
    parse_policies(entry(prefixes='["lab", "a/", ""]'))
    (record,) = caplog.records
    assert record.getMessage() == (
        "prefix 'lab' of token 'n' has no slash at its end: it grants 'lab-other/', too"
    )


def test_domain_is_of_one_bucket():
    """OSS binds a domain to one bucket: URLs for another would all be refused."""
    text = '[signer]\nstyle = "cname"\n'
    assert parse_policies(text + entry(prefixes='["a/", "b/"]')).signer.style == "cname"
    other = entry(name='"m"', sha256=f'"{"0" * 64}"', buckets='["otherbucket"]')
    said = "signer.style cname is the domain of one bucket, not of examplebucket, other"
    assert problems(text + entry() + other)[0].startswith(said)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"name": None}, "name is missing"),
        ({"name": '" "'}, "name must be a string"),
        ({"name": '"a\\nb"'}, "name must be a string"),
        ({"sha256": None}, "sha256 is missing"),
        ({"sha256": "3"}, "sha256 must be 64 hex digits"),
        ({"sha256": f'"{hash_token("")}"'}, "sha256 is the hash of nothing"),
        ({"buckets": '"b"'}, "buckets must be a list"),
        ({"buckets": "[]"}, "buckets must not be empty"),
        ({"prefixes": '["/data"]'}, "prefixes[0] must not begin with a slash"),
        ({"prefixes": '["\\\\data"]'}, "prefixes[0] must not begin with a slash"),
        ({"actions": '["Zzz"]'}, "actions[0] is not an action: use PutObject, "),
        ({"actions": "[3]"}, "actions[0] must be a string"),
        ({"max_expires": "0"}, "max_expires must be seconds"),
        ({"max_expires": '"8d"'}, "max_expires must be seconds"),
        ({"max_expires": "true"}, "max_expires must be a string"),
        ({"max_size": "0"}, "max_size must be bytes"),
        ({"max_size": '"5 fathoms"'}, "max_size must be bytes"),
        (
            {"max_size": "5", "actions": '["UploadPart"]'},
            "max_part_size is missing: max_size and UploadPart need it",
        ),
        (
            {"max_size": "5", "actions": '["CopyObject"]'},
            "max_size cannot be kept by copies",
        ),
        ({"storage_classes": '["ia"]'}, "storage_classes[0] must be one of Standard"),
        ({"content_types": "[]"}, "content_types must not be empty"),
        ({"content_types": '["image/"]'}, "content_types[0] must be a type such as"),
        ({"acls": '["public"]'}, "acls[0] must be one of default"),
        ({"acls": "[[]]"}, "acls[0] must be one of default"),
        ({"headers": '["x-oss-object-acl"]'}, "headers[0] is granted by acls"),
        ({"headers": '["x-oss-copy-source"]'}, "headers[0] is set by copy actions"),
        ({"headers": '["x-oss-a b"]'}, "headers[0] must be x-oss-..., or one of"),
        ({"headers": '["Host"]'}, "headers[0] must be x-oss-..., or one of"),
        ({"copy_sources": '["b-1"]'}, "copy_sources[0] must be bucket/"),
        ({"copy_sources": '["B/"]'}, "copy_sources[0] is wrong"),
        ({"overwrite": '"false"'}, "overwrite must be true or false"),
        ({"callback": '"app.example.com"'}, "callback must be one URL"),
        ({"callback": '"https://a.example/;https://b.example/"'}, "callback must be"),
        (
            {"callback": '"https://a.example"', "headers": '["x-oss-callback-var"]'},
            "callback cannot be kept: headers let the bearer name another",
        ),
        ({"requests_per_minute": "0"}, "requests_per_minute must be a whole number"),
        ({"requests_per_minute": "true"}, "requests_per_minute must be a whole"),
        ({"requests_per_minute": "0x" + "f" * 5000}, "requests_per_minute must"),
        ({"max_size": "0x" + "f" * 5000}, "max_size must be bytes"),
        ({"max_expires": "0x" + "f" * 5000}, "max_expires must be seconds"),
        ({"expires": "2026-12-31T18:00:00"}, "expires must be a time with its zone"),
        ({"expires": '"7d"'}, "expires must be a time with its zone"),
        ({"max_objects": "0"}, "max_objects must be a whole number"),
        (
            {"actions": '["PostObject"]', "max_objects": "3"},
            "actions: PostObject cannot be counted",
        ),
        (
            {"actions": '["CopyObject"]', "max_bytes": "3"},
            "max_bytes cannot be kept by copies",
        ),
        ({"something": "0"}, "something is not known"),
    ],
)
def test_each_member_is_read_strictly(members, said):
    """A policy that could mean something else is no policy."""
    found = problems(entry(**members))
    assert len(found) == 1
    place = "tokens[0]." if "name" in members else "token 'n': "
    assert found[0].startswith(f"{place}{said}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tokens = 3", "tokens must be a list"),
        ("tokens = [3]", "tokens[0] must be a table"),
        ("signer = 3\n" + entry(), "signer must be a table"),
        ("a = [", "the policy is not TOML: "),
        ("a = " + "9" * 5000, "the policy is not TOML: "),
        ("a = " + "[" * 5000, "the policy is not TOML that can be read"),
    ],
)
@pytest.mark.usefixtures("no_collection")
def test_shape_of_the_file_is_checked(text, said):
    """A value that is no table of tokens gives a clear error."""
    assert problems(text)[0].startswith(said)


def refused(operation: Operation, policy: Policy) -> tuple[int, str]:
    """Return status and code of the refusal."""
    with pytest.raises(ServiceError) as caught:
        permitted(operation, policy)
    return ITEM_STATUS[caught.value.code], caught.value.code


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("x-oss-object-acl", "private", True),
        ("x-oss-object-acl", "public-read", False),
        ("x-oss-acl", "private", False),
        ("x-oss-callback", "e30=", True),
        ("x-oss-callback-var", "e30=", False),
    ],
)
def test_headers_that_open_an_object_must_be_named(name, value, allowed):
    """Demands outside the list are refused, wishes are dropped."""
    policy = evolve(
        POLICY,
        headers={"x-oss-callback"},
        acls={"private"},
    )
    wish = permitted(evolve(PUT, optional_headers={name: value}), policy)
    assert dict(wish.optional_headers) == ({name: value} if allowed else {})
    demand = evolve(PUT, headers={name: value})
    if allowed:
        assert permitted(demand, policy).headers[name] == value
    else:
        assert refused(demand, policy) == (403, "header_refused")


@pytest.mark.parametrize("listed", [None, frozenset()])
def test_content_types_are_what_the_policy_lists(listed):
    """A type outside the list is refused; without a list every one is allowed."""
    found = parse_policies(
        entry(content_types='["image/png", "text/csv; charset=utf-8"]')
    )
    types = found.tokens[HASH].content_types
    assert types == ("image/png", "text/csv; charset=utf-8")
    policy = evolve(POLICY, content_types=types, headers=listed)
    for one in types:
        demand = evolve(PUT, headers={"Content-Type": one})
        assert permitted(demand, policy).headers["Content-Type"] == one
    svg = evolve(PUT, headers={"content-type": "image/svg+xml"})
    assert refused(svg, policy) == (403, "header_refused")


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("Content-Type", True),
        ("x-oss-meta-a", True),
        ("x-oss-server-side-encryption", True),
        ("x-oss-request-payer", True),
        ("x-oss-server-side-encryption-key-id", False),
        ("x-oss-object-worm-mode", False),
        ("x-oss-object-worm-retain-until-date", False),
        ("x-oss-object-worm-legal-hold", False),
        ("x-oss-bypass-governance-retention", False),
        ("x-oss-invented-tomorrow", False),
    ],
)
def test_headers_that_lock_unlock_or_are_new_must_be_named(name, usual):
    """A token without ``headers`` cannot lock an object."""
    demand = evolve(PUT, headers={name: "v"})
    if usual:
        assert permitted(demand, POLICY).headers == demand.headers
    else:
        assert refused(demand, POLICY) == (403, "header_refused")
        named = evolve(POLICY, headers={name})
        assert permitted(demand, named).headers == demand.headers


def test_versions_are_never_granted():
    """Deletion of an object leaves its versions."""
    delete = Operation(
        action=Action.DeleteObject, bucket="b-1", key="d/k", query={"versionId": "v"}
    )
    assert refused(delete, POLICY) == (403, "forbidden")


@pytest.mark.parametrize("action", Action)
def test_forbidden_overwriting_locks_every_write(action):
    """Only calls that create an object have forbid-overwrite, once each."""
    policy = evolve(POLICY, overwrite=False)
    query = {"prefix": "d/"} if action is Action.ListObjectsV2 else {}
    headers = {}
    if action in (Action.CopyObject, Action.UploadPartCopy):
        headers = {"x-oss-copy-source": "/b-1/d/x"}
    operation = Operation(
        action=action, bucket="b-1", key="d/k", query=query, headers=headers
    )
    locked = action in {
        "PutObject",
        "PostObject",
        "CopyObject",
        "InitiateMultipartUpload",
        "CompleteMultipartUpload",
    }
    lock = {"x-oss-forbid-overwrite": "true"} if locked else {}
    assert permitted(operation, policy).headers == {**headers, **lock}
    own = {**headers, "X-Oss-Forbid-Overwrite": "true"}
    assert permitted(evolve(operation, headers=own), policy).headers == own


def test_size_is_kept_by_a_signed_length():
    """The bytes that were announced are the bytes that can be sent."""
    policy = evolve(POLICY, max_size=10)
    assert permitted(PUT, policy).headers == {"Content-Length": "3"}
    assert permitted(evolve(PUT, content_length=10), policy)
    assert refused(evolve(PUT, content_length=11), policy) == (413, "too_large")
    head = evolve(PUT, action=Action.HeadObject, content_length=None)
    assert permitted(head, policy).headers == {}
    unknown = evolve(PUT, content_length=None)
    assert refused(unknown, policy) == (413, "too_large")
    assert permitted(unknown, POLICY).headers == {}


@pytest.mark.parametrize(
    ("number", "length", "allowed"),
    [
        (1, 4, True),
        (1, 5, False),
        (2, 4, True),
        (3, 2, True),
        (3, 3, False),
        (4, 0, False),
    ],
)
def test_parts_together_keep_to_the_size(number, length, allowed):
    """Ten bytes in parts of four: no set of parts can hold eleven."""
    policy = evolve(POLICY, max_size=10, max_part_size=4)
    part = evolve(PART, part_number=number, content_length=length)
    if allowed:
        assert permitted(part, policy).headers == {"Content-Length": str(length)}
    else:
        assert refused(part, policy) == (413, "too_large")


def test_without_a_part_size_there_is_one_part():
    """With ``max_size`` but without ``max_part_size``, an upload has one part at most."""
    policy = evolve(POLICY, max_size=10)
    assert permitted(evolve(PART, content_length=10), policy)
    assert refused(evolve(PART, part_number=2), policy) == (413, "too_large")


@pytest.mark.parametrize("name", ["x-oss-copy-source", "X-OSS-Copy-Source"])
def test_an_optional_copy_source_is_never_signed(name):
    """Only the required source, which is checked, is signed."""
    actions = {Action.CopyObject, Action.GetObject}
    copy = Operation(
        action=Action.CopyObject,
        bucket="b-1",
        key="d/k",
        headers={"x-oss-copy-source": "/b-1/d/x"},
        optional_headers={name: "/b-2/secret"},
    )
    allowed = permitted(copy, evolve(POLICY, actions=actions))
    assert allowed.headers == copy.headers
    assert not allowed.optional_headers
    alone = evolve(copy, headers={})
    assert refused(alone, evolve(POLICY, actions=actions)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "name", ["x-oss-date", "X-Oss-Signature-Version", "x-oss-content-sha256"]
)
def test_no_policy_grants_a_header_of_the_signature(name):
    """It would compete with the URL's, also where a policy lists all of x-oss-."""
    policy = evolve(POLICY, headers={"x-oss-*"})
    demand = evolve(PUT, headers={name: "1"})
    assert refused(demand, policy) == (403, "header_refused")
    wish = evolve(PUT, optional_headers={name: "1", "x-oss-other": "1"})
    assert permitted(wish, policy).optional_headers == {"x-oss-other": "1"}
