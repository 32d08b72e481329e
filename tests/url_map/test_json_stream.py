"""JSON that is read piece by piece says the same as JSON that is read at once."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.url_map.parser import JSONStream

SIZES = pytest.mark.parametrize("size", [1, 3, 64, 1 << 18])


def stream(text, size):
    """Return *text* as a file that is read in pieces of *size* bytes."""
    return JSONStream(io.BytesIO(text.encode()), size)


def whole(text):
    """Return the value of *text*, its top read piece by piece."""
    mark = text.ahead()
    if mark == "{":
        value = {name: text.value() for name in text.members()}
    elif mark == "[":
        value = list(text.items())
    else:
        value = text.value()
    text.end()
    return value


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_any_value_is_read(indent, size):
    """Whatever the pieces, the value is that of the whole text."""

    @given(VALUES, st.booleans())
    def check(value, ascii_only):
        text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
        assert whole(JSONStream(text, size)) == value
        data = b"\xef\xbb\xbf" + text.encode("utf-8", "surrogatepass")
        try:
            data.decode()
        except UnicodeDecodeError:
            return
        assert whole(JSONStream(data, size)) == value
        assert whole(JSONStream(io.BytesIO(data), size)) == value

    check()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1,\n  b', "quotes at line 2 column 3"),
        ('{"a" 1}', "Expecting ':' delimiter at line 1 column 6"),
        ('{"a": 1 "b"', "Expecting ',' delimiter at line 1 column 9"),
        ('\n\n{"a\\u0062": ', "Expecting value at line 3 column 13"),
        ('{"a": {"b" 1}}', "Expecting ':' delimiter at line 1 column 12"),
        ("[1,\n2", "Expecting ',' delimiter at line 2 column 2"),
        ("[1]\n\n 2", "Extra data at line 3 column 2"),
        ("", "Expecting value at line 1 column 1"),
        ("[" + "[" * 100_000, "nested too deeply"),
        ('["a', "Unterminated string starting at at line 1 column 2"),
    ],
)
@SIZES
def test_problem_has_its_place(text, problem, size):
    """Line and column are those of the whole text, not of a piece."""
    with pytest.raises(ValueError, match=r"nested|not JSON") as caught:
        whole(stream(text, size))
    assert str(caught.value).endswith(problem)


@pytest.mark.parametrize(
    ("data", "at"),
    [(b'["\xff"]', 2), (b'\xef\xbb\xbf["\xe6\x95"', 5), (b'["a\xe6\x95', 3)],
)
@SIZES
def test_bytes_that_are_no_text_have_their_place(data, at, size):
    """A character may be cut by two pieces; what is broken is counted in bytes."""
    with pytest.raises(ValueError, match=f"not UTF-8 at byte {at}"):
        whole(JSONStream(data, size))


@SIZES
def test_lines_have_their_numbers(size):
    """Blank lines count, and only a line feed ends one."""
    text = stream(' \n"a"\r\n\n \t\n\u2028x\n\ny', size)
    assert text.ahead() == '"'
    assert text.line == 2
    assert text.value() == "a"
    assert list(text.lines()) == [(5, "\u2028x"), (7, "y")]
    assert list(stream("", size).lines()) == []
    assert list(stream("a\n", size).lines()) == [(1, "a")]


def test_value_that_does_not_end_is_not_collected():
    """A device or a broken file is an error before it fills the memory."""
    with open("/dev/zero", "rb") as file:
        text = JSONStream(file, 1024, max_value=1 << 20)
        with pytest.raises(ValueError, match="a value is longer than 1048576"):
            text.value()
    assert len(stream('["' + "x" * 5000 + '"]', 64).value()[0]) == 5000
