"""JSON of others is read strictly."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import parsing as jsondoc


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff", "not UTF-8 at byte 0"),
        (b"{", "not JSON: .* at line 1 column 2"),
        ("[Infinity]", "not a JSON number"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": 1, "b": 2, "a": 3}', "the key 'a' appears twice"),
        ("9" * 5000, "not JSON"),
        ("[1e400]", "a number is too large"),
        ("-1e400", "a number is too large"),
        ("[1e999]", "not JSON: a number is too large"),
    ],
)
def test_bad_documents_are_refused(data, problem):
    """Each rule has its message."""
    with pytest.raises(ValueError, match=problem):
        jsondoc.loads(data)


@pytest.mark.parametrize(
    ("text", "depth"), [("1", 0), ("[]", 1), ("[1, {}]", 2), ('{"a": [[1]]}', 3)]
)
def test_depth_is_counted_exactly(text, depth):
    """The limit is the number of nested containers."""
    jsondoc.loads(text, max_depth=depth)
    if depth:
        with pytest.raises(ValueError, match="nested deeper than"):
            jsondoc.loads(text, max_depth=depth - 1)
