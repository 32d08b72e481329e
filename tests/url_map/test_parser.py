"""URL maps: every accepted shape, every problem at once, no query in any message."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.secret import SecretURL
from fsspec_osspresigned.url_map.parser import parse
from fsspec_osspresigned.url_map.url_map import MapEntry, MapRequest, URLMap, dump

CANARY = "CANARYSIGNATURE"
HOST = "https://examplebucket.oss-cn-hangzhou.aliyuncs.com"


def url(key: str, extra: str = "") -> str:
    """Return a URL that looks presigned."""
    return f"{HOST}/{key}?{extra}Expires=1767229200&Signature={CANARY}"


def part(number: int, upload: str = "U") -> str:
    """Return the URL of one part."""
    return url("big.bin", f"partNumber={number}&uploadId={upload}&")


def problems(data: object) -> tuple[str, ...]:
    """Return what is wrong with *data*, after checking that nothing leaked."""
    with pytest.raises(ConfigurationError) as caught:
        parse(data)  # type: ignore[arg-type]
    assert CANARY not in str(caught.value)
    return caught.value.problems


def only_problem(data: object) -> str:
    """Return the one problem of *data*."""
    (problem,) = problems(data)
    return problem


def test_version_1_is_read_completely():
    """Each key of the format is read."""
    text = json.dumps(
        {
            "version": 1,
            "objects": {
                "b/a.csv": url("a.csv"),
                "b/b.json": {
                    "url": url("b.json"),
                    "headers": {"Content-Type": "application/json"},
                    "expires_at": "2026-11-25T10:00:00.5+02:00",
                    "head": url("b.json"),
                    "get": {"method": "GET", "url": url("b.json"), "headers": {}},
                },
                "b/big.bin": {
                    "upload_id": "U",
                    "part_size": 8388608,
                    "parts": [part(1), {"part_number": 2, "url": part(2)}],
                    "complete": {"method": "POST", "url": url("big.bin")},
                    "abort": url("big.bin"),
                    "list": url("big.bin"),
                },
            },
        }
    )
    found = parse(text)
    assert list(found) == ["b/a.csv", "b/b.json", "b/big.bin"]
    assert found["b/a.csv"] == MapEntry(put=MapRequest(url=SecretURL(url("a.csv"))))
    entry = found["b/b.json"]
    assert entry.put is not None
    assert entry.put.headers == {"Content-Type": "application/json"}
    assert entry.expires_at == datetime(2026, 11, 25, 8, 0, 0, 500000, UTC).timestamp()
    assert entry.head is not None
    assert entry.head.headers is None
    assert entry.get is not None
    assert entry.get.headers == {}
    big = found["b/big.bin"]
    assert (big.upload_id, big.part_size, len(big.parts)) == ("U", 8388608, 2)
    assert isinstance(big.complete, MapRequest)
    assert big.abort is not None
    assert big.list is not None
    assert repr(found) == "<URLMap of 3 objects>"
    assert CANARY not in repr(big)


@pytest.mark.parametrize(
    "data",
    [
        {"examplebucket/k": url("k")},
        json.dumps({"path": "examplebucket/k", "url": url("k")}),
        json.dumps({"path": "osspresigned://examplebucket/k", "url": url("k")}),
        json.dumps([url("k")]).encode(),
        [{"path": "examplebucket/k", "url": url("k")}],
        "\ufeff" + url("k") + "\r\n",
        url("k"),
    ],
)
def test_small_shapes_name_the_same_object(data):
    """A bare object, a line, a list and a URL alone all give the same map."""
    entry = MapEntry(put=MapRequest(url=SecretURL(url("k"))))
    assert dict(parse(data)) == {"examplebucket/k": entry}


def test_json_lines_are_read_line_by_line():
    """Lines are entries with their paths, or URLs; empty lines are passed over."""
    text = "\n".join(
        [
            json.dumps({"path": "b/1", "url": url("1")}),
            "",
            json.dumps({"path": "b/3", "url": url("3")}),
        ]
    )
    assert list(parse(text)) == ["b/1", "b/3"]
    assert list(parse(url("1") + "\n" + url("2"))) == [
        "examplebucket/1",
        "examplebucket/2",
    ]


def test_json_lines_name_the_line_of_a_problem():
    """A broken line is found although the others are whole."""
    good = json.dumps({"path": "b/1", "url": url("1")})
    assert problems('{"path": "b/0", "url": }\n' + good)[0].startswith(
        "line 1: not JSON"
    )
    assert problems(good + "\n{")[0].startswith("line 2: not JSON")


def test_sample_of_parts_is_read():
    """The output of SDK samples for uploads in parts is an entry without complete."""
    data = {
        "upload_id": "U",
        "parts": [
            {"part_number": 2, "url": part(2), "method": "PUT"},
            {"part_number": 1, "url": part(1), "method": "PUT"},
        ],
    }
    entry = parse(data)["examplebucket/big.bin"]
    assert [p.url.reveal() for p in entry.parts] == [part(1), part(2)]
    assert entry.complete is None
    assert entry.upload_id == "U"


@pytest.mark.parametrize(
    "expiration", ["2026-11-25 10:00:00+00:00", datetime(2026, 11, 25, 10, tzinfo=UTC)]
)
def test_sample_of_one_signed_request_is_read(expiration):
    """The result of an SDK's presigner is one entry."""
    data = {
        "method": "PUT",
        "url": url("k"),
        "expiration": expiration,
        "signed_headers": None,
    }
    entry = parse(data)["examplebucket/k"]
    assert entry.put.headers == {}
    assert entry.expires_at == datetime(2026, 11, 25, 10, tzinfo=UTC).timestamp()


def test_paths_of_path_style_urls():
    """An address and a bare OSS endpoint have the bucket in front of the key."""
    found = parse(
        [
            "http://127.0.0.1:9000/b/k%2Fl?x=1",
            "http://localhost/b/m",
            "https://oss-cn-hangzhou.aliyuncs.com/b/n",
            "http://b2.localhost:99/o+p",
            "https://[::1]:1/b/q",
        ]
    )
    assert list(found) == ["b/k/l", "b/m", "b/n", "b2/o+p", "b/q"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", "URL map: is empty"),
        (b"\xff", "URL map: not UTF-8"),
        ("nonsense", "URL map: not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("3", "is a number"),
        ("null", "is null"),
        ("true", "is true or false"),
        ('"text"', "is a string"),
        ('{"version": 2}', "version: only 1 is known"),
        ('{"version": true}', "version: only 1 is known"),
        ('{"version": 1}', "objects: must be an object"),
        (
            f'{{"b/k": "{url("k")}", "b/k": "{url("k")}"}}',
            "the key 'b/k' appears twice",
        ),
        ('{"b/k": NaN}', "NaN is not a JSON number"),
        ({"b/k": 1}, "['b/k']: is a number, not a URL or an object"),
        ({"b/k": []}, "is a list"),
        ({"b/k": {}}, "['b/k']: has no URL"),
        ({"nokey": url("k")}, "the path must be bucket/key"),
        ({"/b/k": url("k")}, "the path must be bucket/key"),
        ({"b/\ud800": url("k")}, "not Unicode text"),
        ({"b/" + "k" * 2000: url("k")}, "too long"),
        ({url("k"): "b/k"}, "is not an absolute http or https URL"),
        ({url("k"): url("k")}, "expected bucket/key, got a URL"),
        ([{"path": 3, "url": url("k")}], "[0]: the path is not a string"),
        ([url("k"), url("k")], "appears twice"),
        (["https://cdn.example.com/k?Signature=" + CANARY], "does not show the bucket"),
        ([HOST + "/%ff"], "not UTF-8"),
        ({"url": url("k"), "method": "POST"}, "method: must be PUT"),
        ({"upload_id": "U"}, "has upload_id, but no parts"),
        ({"b/k": {"complete": "external"}}, "has complete, but no parts"),
        ([{"abort": url("k")}], "has neither a path nor a URL"),
        ({"b/k": {"url": 3}}, "['b/k'].url: must be a string, not a number"),
        ({"b/k": {"get": {}}}, "['b/k'].get.url: must be a string, not missing"),
        ({"b/k": {"get": {"url": "x"}}}, "['b/k'].get.url: the URL is not an absolute"),
        ({"b/k": {"get": 3}}, "['b/k'].get: is a number"),
        (
            {"b/k": {"get": {"url": url("k"), "method": "PUT"}}},
            "get.method: must be GET",
        ),
        ({"b/k": {"url": url("k"), "header": {}}}, "did you mean 'headers'?"),
        (
            {"b/k": {"url": url("k"), "headers": {}, "signed_headers": {}}},
            "means headers, which is also present",
        ),
        ({"b/k": {"url": url("k"), 3: 1}}, "['b/k']: a key is not a"),
        ({"b/k": {"url": url("k"), "headers": None}}, "headers: must be an object"),
        ({"b/k": {"url": url("k"), "headers": {3: "a"}}}, "headers: must be an object"),
        ({"b/k": {"url": url("k"), "headers": {"Cookie": "a"}}}, "may not be set"),
        ({"b/k": {"parts": [part(1)], "headers": {}}}, "belong to a url"),
        ({"b/k": {"url": url("k"), "expires_at": 3}}, "RFC 3339"),
        ({"b/k": {"url": url("k"), "expires_at": "2026-11-25T10:00:00"}}, "RFC 3339"),
        ({"b/k": {"url": url("k"), "expires_at": "2026-13-25T10:00:00Z"}}, "RFC 3339"),
        ({"b/k": {"url": url("k"), "expires_at": datetime(2026, 1, 1)}}, "RFC 3339"),  # noqa: DTZ001 - the point
        ({"b/k": {"parts": []}}, "must be a list of URLs"),
        ({"b/k": {"parts": [url("k")] * 10_001}}, "more than 10000"),
        ({"b/k": {"parts": [part(2)]}}, "is part 1, its URL is for part 2"),
        (
            {"b/k": {"parts": [{"part_number": 0, "url": part(1)}]}},
            "must be 1 to 10000",
        ),
        ({"b/k": {"parts": [{"part_number": True, "url": part(1)}]}}, "must be 1 to"),
        ({"b/k": {"parts": [{"part_number": 2, "url": part(2)}]}}, "part 1 is missing"),
        (
            {"b/k": {"parts": [part(1), {"part_number": 1, "url": part(1)}]}},
            "part 1 appears twice",
        ),
        ({"b/k": {"parts": [part(1)], "upload_id": ""}}, "upload_id: must be a string"),
        (
            {"b/k": {"parts": [part(1)], "upload_id": "V"}},
            "do not all belong to this upload",
        ),
        ({"b/k": {"parts": [url("k")]}}, "upload_id: is missing"),
        ({"b/k": {"parts": [part(1)], "part_size": 1}}, "part_size: must be 102400"),
    ],
)
def test_one_problem_is_named_with_its_place(data, expected):
    """Each mistake has a message of its own."""
    assert expected in only_problem(data)


def test_all_problems_are_listed_at_once():
    """A map with three mistakes needs one run to find them."""
    data = {
        "version": 1,
        "objects": {
            "b/1": {"url": url("1") + "#x", "headers": {"A": " b"}},
            "b/2": {"parts": ["ftp://x", part(2)]},
        },
    }
    found = problems(data)
    assert [p.split(": ")[0] for p in found] == [
        "objects['b/1'].url",
        "objects['b/1'].headers",
        "objects['b/2'].parts[0]",
    ]


def test_a_url_as_member_name_keeps_its_query():
    """Even a pair that was turned round, twice, shows no signature."""
    assert "'/k?...'" in only_problem({f"/k?Signature={CANARY}": 1})
    assert "appears twice" in only_problem(f'{{"?{CANARY}": 1, "?{CANARY}": 1}}')
    assert "not an HTTP token" in only_problem(
        {"b/k": {"url": url("k"), "headers": {url("k"): "a"}}}
    )


TIMES = st.none() | st.integers(0, 4_000_000_000).map(float)
HEADERS = st.none() | st.dictionaries(
    st.sampled_from(["Content-Type", "x-oss-meta-a"]), st.sampled_from(["a", "b c", ""])
)
REQUESTS = st.builds(
    MapRequest, url=st.just(SecretURL(url("k"))), headers=HEADERS, expires_at=TIMES
)
OWN = st.builds(MapRequest, url=st.just(SecretURL(url("k"))), headers=HEADERS)
EXTRAS = {name: st.none() | REQUESTS for name in ("abort", "list", "head", "get")}
ENTRIES = st.builds(
    MapEntry, put=OWN, expires_at=TIMES, head=EXTRAS["head"]
) | st.builds(
    MapEntry,
    put=st.none() | OWN,
    expires_at=TIMES,
    upload_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    part_size=st.none() | st.integers(102_400, 5 << 30),
    parts=st.lists(REQUESTS, min_size=1, max_size=3).map(tuple),
    complete=st.none() | st.just("external") | REQUESTS,
    **EXTRAS,
)
PATHS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(
    "b/".__add__
)


@given(st.dictionaries(PATHS, ENTRIES))
def test_dump_and_parse_agree(entries):
    """A written map is read back as the same map."""
    assert dict(parse(dump(URLMap(entries)))) == entries
