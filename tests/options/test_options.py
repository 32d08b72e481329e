"""Storage options: strictly converted, all problems at once, no secret shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.options.options import Options, portable
from fsspec_osspresigned.options.target import ObjectOptions
from fsspec_osspresigned.secret import Secret, resolve_text
from fsspec_osspresigned.units import GIB, MIB

URL = "https://b.oss-cn-hangzhou.aliyuncs.com/k?Expires=9&Signature=TOPSECRET"


def read(**given) -> Options:
    """Read options of a key signer, which takes all of them."""
    return Options.from_storage_options({"signer": "keys", **given})


def problems(**given) -> tuple[str, ...]:
    """Return what is wrong."""
    with pytest.raises(ConfigurationError) as caught:
        read(**given)
    return caught.value.problems


def test_defaults():
    """None stands for the default, and foreign options are passed over."""
    found = read(region=None, retries=None, asynchronous=True, loop=None, add_docs=1)
    assert found.identity() == read().identity()
    assert (found.part_size, found.retries, found.timeout) == (None, 5, (10.0, 60.0))
    assert (found.piece_size, found.threshold) == (8 * MIB, 8 * MIB)
    assert (found.connections, found.max_connections) == (16, 32)
    assert found.max_memory == 256 * MIB
    assert read(part_size="1GiB").max_memory == 17 * GIB
    assert read(part_size="1GiB", memory_limit="1MiB").max_memory == MIB
    assert found.overwrite is None  # as a look of this process demands


GOOD = [
    *(("allow_http", v, True) for v in (True, "True", " yes ", "ON", "1")),
    *(("overwrite", v, False) for v in (False, "False", "no", "off", "0")),
    ("part_size", 102400, 102400),
    ("part_size", "8MiB", 8 * MIB),
    ("part_size", "5GiB", 5 * GIB),
    ("retries", " 7 ", 7),
    ("retries", 0, 0),
    ("expires_in", 604_800, 604_800),
    ("retry_timeout", "1.5", 1.5),
    ("timeout", 5, (5.0, 5.0)),
    ("timeout", "120", (10.0, 120.0)),
    ("timeout", [3, "4"], (3.0, 4.0)),
    ("checksum", "md5", "md5"),
    ("content_type", "text/plain; charset=utf-8", "text/plain; charset=utf-8"),
    ("headers", {"X-A": "1"}, {"X-A": "1"}),
    ("metadata", {"A-b": "1"}, {"A-b": "1"}),
    ("allowed_hosts", "A.example, b.example", {"a.example": None, "b.example": None}),
    ("allowed_hosts", ["A"], {"a": None}),
    ("allowed_hosts", ["[::1]:9000", "a:1"], {"[::1]:9000": None, "a:1": None}),
    ("allowed_hosts", {"A": "bucket", "b": None}, {"a": "bucket", "b": None}),
    ("receipts", print, print),
    ("resume_dir", "/a/b", "/a/b"),
    ("resume_dir", Path("/a"), "/a"),
]


@pytest.mark.parametrize(
    ("name", "value", "found"), GOOD, ids=map(str, range(len(GOOD)))
)
def test_converted(name, value, found):
    """Values and their texts, as environments and catalogs give them, are understood."""
    assert getattr(read(**{name: value}), name) == found


BAD = [
    ("allow_http", "maybe", "true or false"),
    ("allow_http", 1, "true or false"),
    ("part_size", 102399, "bytes from 102400"),
    ("part_size", "6GiB", "bytes from 102400"),
    ("part_size", "9" * 5000, "bytes from 102400"),
    ("part_size", True, "bytes from"),
    ("part_size", 1e6, "bytes from"),
    ("retries", -1, "whole number from 0 to 100"),
    ("retries", "101", "whole number"),
    ("retries", "9" * 5000, "whole number"),
    ("retries", True, "whole number"),
    ("retry_timeout", 0, "positive number of seconds"),
    ("retry_timeout", "nan", "positive number"),
    ("retry_timeout", float("inf"), "positive number"),
    ("timeout", [1], "a pair"),
    ("timeout", [1, -1], "positive number"),
    ("checksum", "sha1", "one of auto, crc64, md5, none"),
    ("region", 5, "a text"),
    ("content_type", "a\r\nX: y", "a header value"),
    ("headers", "a", "a mapping of header names"),
    ("headers", {1: "a"}, "a mapping of header names"),
    ("headers", {"a b": "1"}, "not an HTTP token"),
    ("metadata", {"a_b": "1"}, "not of letters, digits and '-'"),
    ("metadata", [], "a mapping"),
    ("storage_class", "standard", "one of Standard"),
    ("grant", 5, "a file, a URL, env:NAME or a mapping"),
    ("grant", " ", "a file, a URL, env:NAME or a mapping"),
    ("signer_token", "s3cr3t", "a reference"),
    ("signer_token", "env:OSSPRESIGNED_", "env:OSSPRESIGNED_...: no other"),
    ("signer_token", "env:OSS_ACCESS_KEY_SECRET", "copy the token into one of that"),
    ("signer_token", 3, "a reference"),
    ("allowed_hosts", [], "hosts"),
    ("allowed_hosts", {"a": 1}, "hosts"),
    ("allowed_hosts", 5, "hosts"),
    ("allowed_hosts", ["https://a.example"], "hosts, not URLs"),
    ("allowed_hosts", "a.example, b.example/", "hosts, not URLs"),
    ("allowed_hosts", {"me@a.example": "bucket"}, "hosts, not URLs"),
    ("presigned_url", 5, "a text"),
    ("resume_dir", "memory://a", "a directory on this machine"),
    ("resume_dir", " ", "a directory on this machine"),
]


@pytest.mark.parametrize(("name", "value", "words"), BAD, ids=map(str, range(len(BAD))))
def test_refused(name, value, words):
    """A bad value names its option and what it must be."""
    found = problems(**{name: value})
    assert any(p.startswith(f"{name}=") and words in p for p in found)


def test_all_problems_at_once():
    """All mistakes are listed at once."""
    found = problems(part_siz=1, retries="x", signer_token="t", fo="y", zzzz=1)
    assert len(found) == 6
    assert "unknown option 'part_siz': did you mean 'part_size'?" in found
    assert "unknown option 'zzzz'" in found
    assert any("'::' in a path" in problem for problem in found)


@pytest.mark.parametrize("name", ["key", "secret"])
def test_options_of_other_filesystems_are_explained(name):
    """As s3fs and ossfs take an access key."""
    (found,) = problems(signer="https://s.example.com", **{name: "TOPSECRET"})
    assert found.startswith(f"unknown option {name!r}: signer='keys' takes the access")
    assert "OSS_ACCESS_KEY_SECRET" in found


def test_bad_values_are_not_shown_where_they_may_be_secret():
    """A token given by value, a header or a URL does not end up in a log."""
    found = problems(
        signer_token="TOPSECRET",
        headers={"a": "TOPSECRET\n"},
        url=["TOPSECRET"],
        endpoint=[URL],
    )
    assert "TOPSECRET" not in repr(found)
    assert any("..." in problem for problem in found)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no source of signatures is given"),
        ({"url": URL, "presigned_url": URL}, "are one option: give one"),
        ({"url": URL, "signer": "keys"}, "url= cannot be combined"),
        ({"url": URL, "url_map": "m.json"}, "url= cannot be combined"),
        ({"url": URL, "grant": "g.json"}, "url= cannot be combined"),
        (
            {"grant": "g.json", "signer_token": "env:OSSPRESIGNED_X"},
            "signer_token= is for signer='https://...', or for grant='https://...'",
        ),
        (
            {
                "grant": "https://app.example.com",
                "signer": "https://sign.example.com",
                "signer_token": "env:OSSPRESIGNED_X",
            },
            "would go to two servers",
        ),
        ({"url": URL, "region": "cn-x"}, "region= is for signer='keys'"),
        (
            {"signer": "127.0.0.1:8080", "signer_token": "env:OSSPRESIGNED_X"},
            "is not of the form module:function; for an address, write https://127.0",
        ),
        ({"signer": "sign.example.com"}, "write https://sign.example.com"),
        ({"signer": "sign.example.com/v1"}, "write https://sign.example.com/v1"),
        ({"signer": "m:f", "endpoint": "e"}, "endpoint= is for signer='keys'"),
        (
            {"signer": "keys", "signer_token": "env:OSSPRESIGNED_X"},
            "signer_token= is for",
        ),
        (
            {"signer": print, "signer_token": "env:OSSPRESIGNED_X"},
            "signer_token= is for",
        ),
    ],
)
def test_sources(given, words):
    """Exactly one source of signatures must be set."""
    with pytest.raises(ConfigurationError) as caught:
        Options.from_storage_options(given)
    (problem,) = caught.value.problems
    assert words in problem


@pytest.mark.parametrize(
    "token", ["env:OSSPRESIGNED_T", "env:FSSPEC_OSSPRESIGNED_T", "file:/t", print]
)
@pytest.mark.parametrize("service", ["signer", "grant"])
def test_token_of_a_service(token, service):
    """A token belongs to a server on the web, by reference or by a function."""
    found = Options.from_storage_options(
        {service: "https://s.example", "signer_token": token}
    )
    assert found.signer_token == token


NAMES = st.sampled_from([a.name for a in Options.__attrs_attrs__]) | st.text(max_size=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_nothing_but_configuration_errors(given):
    """Any content of a catalog gives options or a ConfigurationError."""
    try:
        found = Options.from_storage_options(given)
    except ConfigurationError:
        return
    assert hash(found.identity()) == hash(found.identity())


def test_paths_become_absolute(tmp_path, monkeypatch):
    """Another process has another working directory and must find the same file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    found = portable(
        {
            "url_map": Path("m.json"),
            "grant": "g.json",
            "receipts": "~/r",
            "resume_dir": "c",
            "url": "file:u",
            "signer_token": "file:~/t",
        }
    )
    assert found == {
        "url_map": str(tmp_path / "m.json"),
        "grant": str(tmp_path / "g.json"),
        "receipts": "/home/me/r",
        "resume_dir": str(tmp_path / "c"),
        "presigned_url": f"file:{tmp_path}/u",
        "signer_token": "file:/home/me/t",
    }


@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({"url": URL}, "presigned_url= holds the URL"),
        ({"url_map": {"b/k": URL}}, "url_map= is given inline"),
        ({"url_map": f'{{"b/k": "{URL}"}}'}, "url_map= is given inline"),
        ({"grant": {"policy": "TOPSECRET"}}, "grant= is given inline"),
        ({"grant": '{"policy": "TOPSECRET"}'}, "grant= is given inline"),
        ({"signer": print}, "signer= is an object of this process"),
        ({"signer": "https://s", "signer_token": print}, "signer_token= is an object"),
        ({"signer": "keys", "receipts": print}, "receipts= is an object"),
    ],
)
def test_not_portable(given, remedy):
    """Options that contain secrets cannot be pickled."""
    options = Options.from_storage_options(given)
    with pytest.raises(TypeError, match="cannot be pickled") as caught:
        options.check_portable()
    assert remedy in str(caught.value)
    assert "TOPSECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"url": "env:U"},
        {"url": "file:u"},
        {"url_map": "m.json", "receipts": "r"},
        {"grant": "g.json"},
        {"grant": "https://app.example.com"},
        {"signer": "keys"},
        {"signer": "https://s", "signer_token": "env:OSSPRESIGNED_T"},
    ],
)
def test_portable(given):
    """References can go anywhere."""
    Options.from_storage_options(given).check_portable()
    Options(url_map=Path("m"), receipts=Path("r")).check_portable()


def test_identity():
    """Equal options share connections and memory, others do not."""
    one, two = {"b/k": URL}, {"b/k": URL}
    first = Options.from_storage_options(
        {"url_map": one, "headers": {"a": "1", "b": "2"}}
    )
    again = Options.from_storage_options(
        {"url_map": two, "headers": {"b": "2", "a": "1"}}
    )
    assert first.identity() == again.identity()
    assert hash(first.identity()) == hash(again.identity())
    assert read().identity() != read(retries=6).identity()
    listed = [{"path": "b/k", "parts": [1]}]
    assert Options(url_map=listed).identity() == Options(url_map=listed[:]).identity()


def test_resolve_text(tmp_path, monkeypatch):
    """A reference is read, stripped and hidden; other text is the text itself."""
    monkeypatch.setenv("MY_URL", f" {URL}\n")
    (tmp_path / "u").write_text(URL + "\n", encoding="utf-8")
    expected = Secret(URL)
    assert resolve_text("env:MY_URL") == expected
    assert resolve_text(f"file:{tmp_path}/u") == expected
    assert resolve_text(f"file://{tmp_path}/u") == expected
    assert resolve_text(URL) == expected


@pytest.mark.parametrize(
    ("place", "content", "words"),
    [
        ("file:{}/none", b"", "cannot read .*none"),
        ("file:{}/f", b" \n", "is empty"),
        ("file:{}/f", b"\xff", "is not UTF-8"),
        ("file:{}/\0", b"", "cannot read"),
        ("env:NOT_SET_ANYWHERE", b"", "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_reference_that_leads_nowhere(tmp_path, place, content, words):
    """The error of an unreadable reference names it."""
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        resolve_text(place.format(tmp_path))


# -- the options of one object ----------------------------------------------------------


def target(base=None, *, guessed=None, exclusive=False, **call):
    """Return the target of a call over a filesystem's options."""
    wanted = ObjectOptions.from_call(read(**(base or {})), call, path="b/k")
    return wanted.target("b/k", guessed=guessed, exclusive=exclusive)


def test_call_over_filesystem():
    """A call adds to headers and metadata, replaces equals in any case, and wins."""
    found = target(
        {
            "headers": {"X-A": "1", "X-B": "1"},
            "metadata": {"M": "1"},
            "checksum": "md5",
        },
        headers={"x-a": "2"},
        metadata={"m": "2", "N": "3"},
        content_type="text/x",
        storage_class="IA",
        checksum="none",
        block_size=5,
        mode="create",
    )
    assert found.kind.headers == {
        "X-B": "1",
        "x-a": "2",
        "x-oss-meta-m": "2",
        "x-oss-meta-n": "3",
        "Content-Type": "text/x",
        "x-oss-storage-class": "IA",
    }
    assert (found.kind.checksum, found.path, found.kind.exclusive) == (
        "none",
        "b/k",
        False,
    )


def test_problems_of_a_call():
    """All of them, with the path and without values."""
    with pytest.raises(ConfigurationError) as caught:
        ObjectOptions.from_call(
            read(), {"retries": 1, "checksum": "x", "overwrite": "?"}, path="b/k"
        )
    assert caught.value.problems == (
        "unknown option 'retries' for one object",
        "checksum= must be one of auto, crc64, md5, none",
        "overwrite= must be true or false",
    )
    assert caught.value.path == "b/k"


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ({"content_type": "a/b", "headers": {"content-type": "c/d"}}, "Content-Type"),
        (
            {"storage_class": "IA", "headers": {"X-OSS-Storage-Class": "IA"}},
            "x-oss-storage-class",
        ),
        ({"metadata": {"A": "1"}, "headers": {"x-oss-meta-a": "1"}}, "x-oss-meta-a"),
    ],
)
def test_header_given_twice(call, name):
    """A header that is also given as an option is refused as ambiguous."""
    with pytest.raises(ConfigurationError, match=f"header {name} is given by headers="):
        target(**call)


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, {}),
        ({"exclusive": True}, {"x-oss-forbid-overwrite": "true"}),
        ({"overwrite": "False"}, {"x-oss-forbid-overwrite": "true"}),
        (
            {"headers": {"X-OSS-Forbid-Overwrite": "true"}},
            {"X-OSS-Forbid-Overwrite": "true"},
        ),
        (
            {"headers": {"X-Oss-Forbid-Overwrite": "false"}, "exclusive": True},
            {"x-oss-forbid-overwrite": "true"},
        ),
    ],
)
def test_forbid_overwrite_comes_once(facts, found):
    """However it is asked for, the header is sent once."""
    made = target(**facts)
    assert made.kind.headers == found
    assert made.kind.exclusive is bool(found)


def test_guessed_type_is_only_wished():
    """A guessed type is never sent together with, or instead of, the requested one."""
    assert target(guessed="text/csv").kind.optional_headers == {
        "Content-Type": "text/csv"
    }
    assert target().kind.optional_headers == {}
    assert not target(guessed="a/b", content_type="c/d").kind.optional_headers
    assert not target(
        guessed="a/b", headers={"content-type": "c/d"}
    ).kind.optional_headers
