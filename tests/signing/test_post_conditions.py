"""Conditions of POST policies: read and judged."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    PolicyFault,
    read_condition,
)

BAD = [
    ({}, "0 keys"),
    ({"a": "b", "c": "d"}, "2 keys"),
    ("eq", "a string"),
    ([], "unknown operator null"),
    (["near", "$a", "b"], "unknown operator 'near'"),
    ([["in"], "$a", "b"], "unknown operator a list"),
    (["starts-with", "$key", "a", "b"], "4 elements"),
    (["content-length-range", "1", "2"], "not whole numbers"),
    (["content-length-range", 0, True], "not whole numbers"),
    (["content-length-range", 2, 1], "which is empty"),
    (["content-length-range", -1, 1], "which is empty"),
    (["eq", "$", "x"], "names no field"),
    (["eq", 1, "x"], "names no field"),
    (["starts-with", "$bucket", "b"], "only eq can"),
    (["eq", "$success_action_status", 200], "needs a string"),
    (["eq", "$a", ["b"]], "needs a string"),
    (["in", "$a", "b"], "needs a list of strings"),
    (["in", "$a", ["b", 1]], "needs a list of strings"),
]


@pytest.mark.parametrize(("item", "reason"), BAD)
def test_bad_conditions_are_named(item, reason):
    """What OSS refuses is refused here, with the reason."""
    assert reason in read_condition(item)


@pytest.mark.parametrize(
    ("condition", "good", "bad"),
    [
        (["eq", "$a", "x"], "x", "X"),
        (["starts-with", "$a", "x/"], "x/y", "x"),
        (["in", "$a", ["x", "y"]], "y", "z"),
        (["not-in", "$a", ["x", "y"]], "z", "y"),
    ],
)
def test_values_are_compared_by_the_operator(condition, good, bad):
    """A value meets its condition or not; an absent field meets none."""
    found = read_condition(condition)
    assert found.refusal({"a": good}, None, None) is None
    assert found.refusal({"a": bad}, None, None).fault is PolicyFault.FAILED
    assert found.refusal({}, None, None).fault is PolicyFault.ABSENT


def test_secret_values_stay_hidden():
    """Neither a condition nor a refusal shows a token; long values are cut."""
    found = PolicyCondition("eq", "x-oss-security-token", ("CAIS-secret",))
    said = str(found.refusal({"x-oss-security-token": "other"}, None, None))
    assert "CAIS-secret" not in f"{found!r} {said}"
    assert "other" not in said
    assert len(str(PolicyCondition("eq", "key", ("x" * 500,)))) < 250
