"""Conditions of POST policies: read and judged."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.signing.post_policy import (
    PolicyCondition,
    PolicyFault,
    read_condition,
)


@pytest.mark.parametrize(
    "item",
    [
        *({}, [], ["eq", 1, "x"], [["in"], "$a", "b"], ["in", "$a", ["b", 1]]),
        *(["content-length-range", 0, True], ["content-length-range", -1, 1]),
    ],
)
def test_bad_conditions_are_none(item):
    """``tests/signers/grant_cases.json`` has more of what OSS refuses."""
    assert read_condition(item) is None


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
    """No condition and no refusal shows a token; long values are truncated."""
    found = PolicyCondition("eq", "x-oss-security-token", ("CAIS-secret",))
    said = str(found.refusal({"x-oss-security-token": "other"}, None, None))
    assert "CAIS-secret" not in f"{found!r} {said}"
    assert "other" not in said
    assert len(str(PolicyCondition("eq", "key", ("x" * 500,)))) < 250


def test_shown_conditions_keep_their_letters():
    """A message shows a name in its own script."""
    assert str(PolicyCondition("eq", "key", ("报告",))) == '{"key": "报告"}'
