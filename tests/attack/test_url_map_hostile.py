"""A hostile or broken map ends in one error of ours, which shows no query string."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.url_map.parser import parse
from fsspec_osspresigned.url_map.source import load

CANARY = "CANARYSIGNATURE"
URL = f"https://b.oss-cn-hangzhou.aliyuncs.com/k?policy={CANARY}&Signature={CANARY}"
PART = URL.replace("?", "?uploadId=U&partNumber=1&")
MEGABYTE = 1 << 20


def problems(text: str) -> tuple[str, ...]:
    """Return what is wrong with *text*, after checking that nothing leaked."""
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert CANARY not in str(caught.value)
    assert all(len(problem) < 600 for problem in caught.value.problems)
    return caught.value.problems


def entry(**members: object) -> str:
    """Return the text of a map with one entry."""
    return json.dumps({"version": 1, "objects": {"b/k": {"url": URL, **members}}})


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        ({"x-oss-meta-a": "1\r\nHost: evil"}, "is not printable ASCII"),
        ({"x-oss-meta-a\r\nHost": "1"}, "is not an HTTP token"),
        ({"Transfer-Encoding": "chunked"}, "'Transfer-Encoding' may not be set"),
        ({"a": "1", "A": "2"}, "appears twice"),
        ({"a": None}, "is not a string"),
        ({"a": "x" * 9000}, "longer than 8192 bytes"),
        ({URL: "x"}, "is not an HTTP token"),
        (None, "must be an object"),
        ([], "must be an object"),
    ],
)
def test_headers(headers, rule):
    """A header that would split or reroute the request is refused with its place."""
    (problem,) = problems(entry(headers=headers))
    assert problem.startswith("objects['b/k'].headers: ")
    assert rule in problem


@pytest.mark.parametrize("name", ["Host", "Content-Length"])
def test_own_headers_are_refused_when_they_are_used(name):
    """Host and Content-Length may stand in a map, but are sent only if they are signed."""
    from fsspec_osspresigned.errors import NotCoveredError  # noqa: PLC0415
    from fsspec_osspresigned.model import Action, Operation  # noqa: PLC0415
    from fsspec_osspresigned.signers.presigned_urls import URLMapSigner  # noqa: PLC0415

    signer = URLMapSigner(load({"b/k": {"url": URL, "headers": {name: "1"}}}))
    operation = Operation(
        action=Action.PutObject, bucket="b", key="k", content_length=1
    )
    with pytest.raises(NotCoveredError, match=f"header '{name}' may be set only if"):
        signer.sign([operation])


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http:", "has no valid host"),
        (URL.replace("https://", "https://user:pw@"), "has user information"),
        (URL + "#x", "has a fragment"),
        (URL + "\r\nHost: evil", "a blank, a control character"),
        (URL + " x", "a blank, a control character"),
        (URL + "%zz", "has a broken percent escape"),
        ("ftp" + URL.removeprefix("https"), "is not an absolute http or https URL"),
        ("https://[::1/k?" + CANARY, "has no valid host"),
        (URL + "x" * 17_000, "is longer than 16384 bytes"),
    ],
)
def test_urls(url, rule):
    """A URL that cannot be sent as it is is refused wherever it stands."""
    for text in (
        entry(url=url),
        entry(get=url),
        entry(head={"url": url}),
        entry(upload_id="U", parts=[PART, {"url": url}]),
        json.dumps({"b/k": url}),
        json.dumps({"path": "b/k", "url": url}) + "\n" + json.dumps({"path": "b/l"}),
    ):
        assert any("the URL " in problem for problem in problems(text))
    (problem,) = problems(entry(url=url))
    assert rule in problem or "is not an absolute" in problem


@pytest.mark.parametrize(
    "member",
    [
        "url",
        "headers",
        "expires_at",
        "method",
        "parts",
        "part_size",
        "upload_id",
        "complete",
        "abort",
        "list",
        "head",
        "get",
    ],
)
@pytest.mark.parametrize("value", [None, True, 1e300, [], [None], {}, {"url": None}])
def test_wrong_types(member, value):
    """A null, a flag or a number in any place is named with it."""
    whole = {"url": URL, "upload_id": "U", "parts": [PART], "complete": URL}
    text = json.dumps({"b/k": {**whole, member: value}})
    if (member, value) == ("headers", {}):
        parse(text)
        return
    if member == "headers" and value == {"url": None}:
        assert "is not a string" in problems(text)[0]
        return
    assert any(problem.startswith("['b/k']") for problem in problems(text))


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":', '{"objects":'])
@pytest.mark.parametrize("depth", [900, 100_000])
@pytest.mark.parametrize("before", ["", '{"b/k":', '{"objects":{"b/k":', '["a",'])
def test_nesting(opening, depth, before):
    """However deep a map nests, it is an error and no crash."""
    problems(before + opening * depth)
    problems(before + opening * depth + "1")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('{"version": 1, "version": 1, "objects": {}}', "'version' appears twice"),
        ('{"version": 1, "objects": {}, "objects": {}}', "'objects' appears twice"),
        ('{"objects": {}, "objects": 1, "version": 1}', "'objects' appears twice"),
        (entry()[:-2] + f', "b/k": "{URL}"}}}}', "the key 'b/k' appears twice"),
        ('{"b/k": {"url": "x", "url": "y"}}', "'url' appears twice"),
        (
            '{"b/k": {"headers": {"a": "1", "a": "2"}}}',
            "'a' appears twice",
        ),
        ('{"objects": {}}', 'version: is missing beside "objects"'),
        ('{"objects": {"b/k": 1}, "version": 2}', "version: only 1 is known"),
        ('{"version": 1, "objects": []}', "objects: must be an object of paths"),
        ('{"version": 1} {"version": 1}', "Extra data at line 1 column 16"),
        ('{"version":\n1}\n{"version": 1}', "Extra data at line 3 column 1"),
        ("[] x", "Extra data at line 1 column 4"),
        ("3 x", "Extra data at line 1 column 3"),
        ('{"b/k": 1' + "0" * 400 + "}", "more than 300 digits"),
    ],
)
def test_documents(text, rule):
    """An ambiguous document is refused."""
    assert any(rule in problem for problem in problems(text))


def test_first_line_may_be_long():
    """JSON Lines are recognised by what follows, wherever the first line ends."""
    lines = [
        json.dumps({"path": f"b/{n}", "url": URL, "note": "x/" * 200_000, "x/y": 1})
        for n in range(3)
    ]
    text = "\n".join(lines).encode()
    assert list(parse(text)) == ["b/0", "b/1", "b/2"]
    assert list(parse(lines[0].encode())) == ["b/0"]
    both = json.dumps({"objects": {"b/k": URL}, "version": 1, "b/l": 1}).encode()
    assert list(parse(both)) == ["b/k"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such file there")
def test_file_without_end_is_not_collected(monkeypatch):
    """A device or a broken file is an error before it fills the memory."""
    monkeypatch.setattr("fsspec_osspresigned.url_map.parser.MAX_MAP", 2 * MEGABYTE)
    with (
        open("/dev/zero", "rb") as file,
        pytest.raises(ConfigurationError, match="URL map: is longer than 2 MiB"),
    ):
        parse(file)


@pytest.mark.parametrize(
    ("start", "text"),
    [
        ("[", "1,"),
        ('{"version":1,"objects":{', '"b/k/{}":1,'),
        ("{", '"b/k/{}":1,'),
        ("https://h/k\n", "{{}}\n"),
    ],
)
def test_reading_ends_after_many_problems(start, text):
    """A map with a million mistakes is not listed whole."""
    text = start + "".join(text.format(n) for n in range(5000))
    ends = {"{": "}", "[": "0]", "h": ""}
    text = text.rstrip(",") if text[0] == "{" else text
    text += "}}" if "objects" in text else ends[text[0]]
    found = problems(text)
    assert len(found) == 1001
    assert found[-1].endswith("more problems")


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b'{"b/k": "\xff"}', 9),
        (b'\xef\xbb\xbf["\xe6\x95"]', 2),
        (b'["a\xe6\x95', 3),
    ],
)
def test_bytes_that_are_no_text_have_their_place(data, at):
    """The position of a broken character is counted in bytes."""
    with pytest.raises(ConfigurationError, match=rf"not UTF-8 at byte {at}$"):
        parse(data)


def test_header_named_url_is_a_header():
    """An object of headers that looks like a request stays one of headers."""
    headers = {"url": "https://h/k"}
    assert parse(entry(headers=headers))["b/k"].put.headers == headers


LARGE = {
    "path": lambda text: json.dumps({f"b/{text}": URL}),
    "version": lambda text: json.dumps({"version": text}),
    "url": lambda text: entry(url=URL + text),
    "method": lambda text: entry(method=text),
    "header": lambda text: entry(headers={"a": text}),
    "name of a header": lambda text: entry(headers={text: "a"}),
    "time": lambda text: entry(expires_at=text),
    "upload": lambda text: entry(upload_id=3, parts=[URL + text]),
    "member": lambda text: entry(**{text: 1, "get": 1}),
    "line": lambda text: f"https://{text}\nhttps://{text}",
    "query": lambda text: f"/k?{CANARY}{text}".join(['{"', '": 1}']),
    "not JSON": lambda text: '{"' + text,
    "blanks": lambda text: " " * len(text),
}


@pytest.mark.parametrize("place", LARGE)
def test_large_strings(place):
    """A megabyte in any place is refused without a megabyte in the message."""
    assert len(str(problems(LARGE[place]("x" * MEGABYTE)))) < 2000


def test_file_that_fails_while_it_is_read(tmp_path):
    """If an opener raises an exception, only its class and the source are reported."""
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Is a directory"):
        load(tmp_path)

    def fail(place: str) -> bytes:
        raise RuntimeError(place)

    with pytest.raises(ConfigurationError, match=r"x://h/k\?\.\.\.: RuntimeError") as e:
        load(f"x://h/k?{CANARY}", fail)
    assert CANARY not in str(e.value)
    assert (e.value.__cause__, e.value.__context__) == (None, None)


NAMES = [
    "version",
    "objects",
    "path",
    "url",
    "parts",
    "headers",
    "signed_headers",
    "b/k",
    "expires_at",
    "expiration",
    "upload_id",
    "part_number",
    "part_size",
    "complete",
    "abort",
    "list",
    "head",
    "get",
    "method",
    URL,
]
TEXTS = [
    URL,
    PART,
    URL + "#f",
    "http://127.0.0.1/b/k?" + CANARY,
    "https://cdn.example.com/k?" + CANARY,
    "https://b.oss-cn-x.aliyuncs.com/%ff?" + CANARY,
    "external",
    "PUT",
    "GET",
    "2026-11-25T10:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "x-oss-complete-all",
    "a\r\nb",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 3)
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(TEXTS),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(NAMES), inner)
    ),
    max_leaves=40,
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Draw a text that is nearly a map: one or several values, bytes changed in it."""
    values = draw(st.lists(JSON, min_size=1, max_size=3))
    indent = draw(st.sampled_from([None, 0]))
    text = "\n".join(json.dumps(value, indent=indent) for value in values)
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"}", b","]))
        data[at : at + draw(st.integers(0, 3))] = change
    return bytes(data)


def outcome(data: object) -> str:
    """Return what reading *data* and using what was read ends with, as a text."""
    try:
        url_map = parse(data)  # type: ignore[arg-type]
    except ConfigurationError as error:
        return str(error)
    for path in url_map:
        assert url_map.nearest(path)[0] == path
    return repr(dict(url_map))


@given(documents() | st.binary())
def test_only_our_errors_come_out(data):
    """Reading a file is a map or a ConfigurationError, whatever it holds."""
    assert CANARY not in outcome(data)


@given(JSON)
def test_values_are_as_safe_as_texts(value):
    """A mapping or list from a program goes the same way."""
    assert CANARY not in outcome(value if isinstance(value, dict | list) else [value])


@pytest.mark.skipif(sys.platform == "win32", reason="no such file there")
def test_endless_zeros_are_no_map(tmp_path):
    """A file that is not text is said to be no map."""
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(MEGABYTE)
    path.chmod(0o600)
    with pytest.raises(
        ConfigurationError, match="this is neither a URL map nor a grant"
    ):
        load(Path(path))
