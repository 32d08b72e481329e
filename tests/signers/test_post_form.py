"""Forms of PostObject: what is sent for an object, and what a policy does not allow."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.model import Action, Operation
from fsspec_osspresigned.signers.base import check_signed
from fsspec_osspresigned.signers.post_form import sign_form
from fsspec_osspresigned.signers.post_grant_parser import PostGrant, read_grant
from tests.signers.grants import BUCKET, NOW, PREFIX, URL, document, signed_fields

ANY = ["starts-with", "$key", ""]


def grant(*items: Any, **facts: Any) -> PostGrant:
    """Return a grant with the conditions *items*."""
    return read_grant(document(*items, **facts))


def post(key: str = "in/x", size: int | None = 5, **more: Any) -> Operation:
    """Return one upload."""
    facts = {"bucket": BUCKET, **more}
    return Operation(action=Action.PostObject, key=key, content_length=size, **facts)


def sent(held: PostGrant, *, now: float = NOW, **more: Any) -> dict[str, str]:
    """Return the fields of a form but for those of the signature."""
    operation = post(**more)
    signed = sign_form(held, operation, now)
    check_signed(operation, signed)
    assert signed.form is not None
    fields = {name: value.reveal() for name, value in signed.form.fields.items()}
    own = signed_fields(PREFIX)
    assert fields.keys() >= own.keys()
    return {name: value for name, value in fields.items() if name not in own}


def refusal(held: PostGrant, *, now: float = NOW, **more: Any) -> str:
    """Return why an upload is refused."""
    with pytest.raises(NotCoveredError) as caught:
        sign_form(held, post(**more), now)
    assert (
        caught.value.path == f"{more.get('bucket', BUCKET)}/{more.get('key', 'in/x')}"
    )
    return caught.value.message


def test_a_form_is_complete():
    """Key and success status come first, then what the owner signed; nothing else is sent."""
    held = grant()
    signed = sign_form(held, post(), NOW + 1)
    check_signed(post(), signed)
    assert (signed.method, signed.url.reveal()) == ("POST", URL)
    assert signed.headers == {}
    assert (signed.issued_at, signed.expires_at) == (NOW + 1, NOW + 3600)
    names = list(signed.form.fields)
    assert names == ["key", "success_action_status", *signed_fields(PREFIX)]
    assert "in/x" not in repr(signed.form)


def test_headers_become_fields():
    """Headers of an object are sent under the names of form fields."""
    variables = base64.b64encode(json.dumps({"x:who": "me"}).encode()).decode()
    headers = {
        "content-type": "text/csv",
        "Cache-Control": "no-cache",
        "X-OSS-Meta-By": "me",
        "x-oss-object-acl": "private",
        "x-oss-storage-class": "IA",
        "x-oss-server-side-encryption": "AES256",
        "x-oss-forbid-overwrite": "true",
        "x-oss-traffic-limit": "819200",
        "x-oss-callback": "e30=",
        "x-oss-callback-var": variables,
    }
    assert sent(grant(), headers=headers) == {
        "key": "in/x",
        "success_action_status": "200",
        "Content-Type": "text/csv",
        "Cache-Control": "no-cache",
        "x-oss-meta-by": "me",
        "x-oss-object-acl": "private",
        "x-oss-storage-class": "IA",
        "x-oss-server-side-encryption": "AES256",
        "x-oss-forbid-overwrite": "true",
        "x-oss-traffic-limit": "819200",
        "callback": "e30=",
        "x:who": "me",
    }


def test_headers_without_a_field_are_refused():
    """A header for which a form has no field raises an error."""
    said = refusal(grant(), headers={"Content-MD5": "x", "Content-Language": "de"})
    assert "the header Content-MD5 has no field" in said
    assert "the header Content-Language has no field" in said


def test_tags_need_a_policy_that_names_them():
    """OSS documents no field of tags, so only an owner can say that there is one."""
    headers = {"x-oss-tagging": "a=b"}
    assert "leave tagging= out" in refusal(grant(), headers=headers)
    held = grant(PREFIX, ["starts-with", "$x-oss-tagging", ""])
    assert sent(held, headers=headers)["x-oss-tagging"] == "a=b"
    assert "needs: give tagging=" in refusal(held)


@pytest.mark.parametrize(
    ("items", "wish", "fields"),
    [
        ([], None, {}),
        ([], "text/csv", {"Content-Type": "text/csv"}),
        ([["starts-with", "$content-type", "text/"]], "text/csv", {"Content-Type": "text/csv"}),
        ([["eq", "$content-type", "a/b"]], "text/csv", {"Content-Type": "a/b"}),
        ([["eq", "$x-oss-content-type", "a/b"]], "text/csv", {"x-oss-content-type": "a/b"}),
        ([["in", "$x-oss-content-type", ["text/csv", "a/b"]]], "text/csv", {"x-oss-content-type": "text/csv"}),
        ([["not-in", "$x-oss-content-type", ["text/html"]]], "text/html", {"x-oss-content-type": "application/octet-stream"}),
        ([["starts-with", "$x-oss-content-type", ""]], None, {"x-oss-content-type": "application/octet-stream"}),
        (
            [["starts-with", "$x-oss-content-type", ""], ["in", "$content-type", ["a/b", "text/csv"]]],
            "text/csv",
            {"Content-Type": "text/csv", "x-oss-content-type": "text/csv"},
        ),
    ],
)  # fmt: skip
def test_guessed_types_give_way(items, wish, fields):
    """A guessed type is sent if the policy requires one, and dropped if it does not fit."""
    wishes = {} if wish is None else {"Content-Type": wish, "x-oss-meta-a": "b"}
    found = sent(grant(PREFIX, *items), optional_headers=wishes)
    expected = {"key": "in/x", "success_action_status": "200", **fields}
    assert found == expected


def test_demanded_types_are_kept_or_refused():
    """A type that the user gives is sent as it is, or is an error that names both."""
    held = grant(PREFIX, ["in", "$x-oss-content-type", ["a/b", "c/d"]])
    found = sent(held, headers={"Content-Type": "c/d"})
    assert found["x-oss-content-type"] == "c/d"
    said = refusal(held, headers={"Content-Type": "text/csv"})
    assert "'text/csv' does not meet" in said
    assert "needs: give content_type=" in refusal(held)
    pinned = grant(PREFIX, ["eq", "$content-type", "a/b"])
    assert "does not meet" in refusal(pinned, headers={"Content-Type": "c/d"})


def test_own_values_win_where_the_policy_lets_them():
    """A value that the owner hands out and does not pin may be changed by the user."""
    handed_out = document()
    handed_out["fields"]["Cache-Control"] = "no-store"
    held = read_grant(handed_out)
    assert sent(held)["Cache-Control"] == "no-store"
    found = sent(held, headers={"cache-control": "private"})
    assert found["Cache-Control"] == "private"


CONDITIONS = (
    {"x-oss-object-acl": "private"},
    ["not-in", "$x-oss-object-acl", ["public-read"]],
    ["in", "$x-oss-storage-class", ["IA", "Standard"]],
    ["starts-with", "$x-oss-meta-a", "b"],
    ["content-length-range", 3, 9],
    {"x-oss-forbid-overwrite": "true"},
)
HEADERS = {
    "x-oss-object-acl": ("private", "public-read"),
    "x-oss-storage-class": ("IA", "Archive"),
    "x-oss-meta-a": ("b", "c"),
    "X-OSS-Forbid-Overwrite": ("true", "false"),
}


@given(
    items=st.lists(st.sampled_from(CONDITIONS), unique_by=str),
    headers=st.fixed_dictionaries(
        {}, optional={n: st.sampled_from(v) for n, v in HEADERS.items()}
    ),
    size=st.sampled_from([2, 3, 9, 10]),
)
def test_every_form_meets_the_whole_policy_property(items, headers, size):
    """The grant's own fields are judged once: no form differs from what the policy says."""
    held = grant(PREFIX, *items)
    own = {name.lower(): value.reveal() for name, value in held.fields.items()}
    fields = {**own, **{n.lower(): v for n, v in headers.items()}, "key": "in/x"}
    wanted = held.policy.judge(fields, bucket=BUCKET, size=size, now=NOW)
    if wanted:
        said = refusal(held, headers=headers, size=size)
        assert [one.text for one in wanted if one.text not in said] == []
        assert said.count("; ") == len(wanted) - 1
    else:
        made = sent(held, headers=headers, size=size)
        assert {**fields, **{n.lower(): v for n, v in made.items()}} == {
            **fields,
            "success_action_status": "200",
        }


LONG = "in/" + "ü" * 511


@pytest.mark.parametrize(
    ("items", "more", "reason"),
    [
        ([PREFIX], {"key": "out/x"}, """key 'out/x' does not meet ["starts-with", "$key", "in/"]"""),
        ([PREFIX], {"bucket": "other"}, "it is for the bucket 'examplebucket'"),
        ([PREFIX], {"size": 5 << 30}, "a form upload takes at most 5 GiB with its fields, so a file of at most 5360320512 bytes"),
        ([PREFIX], {"size": 5360320513}, "a file of at most 5360320512 bytes"),
        ([PREFIX, ["in", "$content-type", ["a/b", "c/d"]]], {"optional_headers": {"content-type": "text/csv"}}, "content-type 'text/csv' does not meet"),
        ([PREFIX, ["in", "$x-oss-content-type", ["a/b", "c/d"]]], {}, ": give content_type="),
        ([ANY], {"key": "in/${filename}"}, "which OSS would replace"),
        ([ANY], {"key": "/x"}, "starts with '/'"),
        ([PREFIX], {"key": LONG}, "1025 bytes"),
        ([["eq", "$key", "in/y"]], {}, "does not meet"),
        ([["in", "$key", ["in/y", "in/z"]]], {}, "does not meet"),
        ([PREFIX, ["content-length-range", 6, 9]], {}, "the size of 5 bytes does not meet"),
        ([PREFIX, ["content-length-range", 1, 4]], {}, "the size of 5 bytes does not meet"),
        ([PREFIX, {"x-oss-forbid-overwrite": "false"}], {"headers": {"x-oss-forbid-overwrite": "true"}}, "does not meet"),
        ([PREFIX, {"x-oss-object-acl": "private"}], {"headers": {"x-oss-object-acl": "public-read"}}, "does not meet"),
        ([PREFIX, ["in", "$x-oss-storage-class", ["IA", "Archive"]]], {}, "needs: give storage_class="),
        ([PREFIX, ["starts-with", "$x-oss-meta-a", "b"]], {}, "needs: give metadata="),
        ([PREFIX, ["starts-with", "$name", ""]], {}, "needs: ask its owner for that field"),
    ],
)  # fmt: skip
def test_refusals_name_the_condition(items, more, reason):
    """An upload that the policy does not allow names the condition that fails."""
    assert reason in refusal(grant(*items), **more)
