"""Checks of URLs and headers that others chose."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.url_checks import (
    header_problems,
    http_problem,
    is_loopback,
    object_of,
    own_header_problem,
    service_problem,
    url_problem,
)


@pytest.mark.parametrize(
    "url",
    [
        "https://b.oss-cn-hangzhou.aliyuncs.com/k?Signature=a%2B",
        "http://127.0.0.1:9000/b/k",
        "http://[::1]:9/b",
        "https://h",
        "https://h?a:b:c",
        "https://h/@{}|\\^'\"<>~/.././/",
    ],
)
def test_good_urls_pass(url):
    """Unusual but valid URLs are accepted."""
    assert url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://x", "absolute http or https"),
        ("k?Signature=x", "absolute http or https"),
        ("HTTPS://h/", "in capitals: write https://"),
        ("https://a@b/", "user information"),
        ("https://a:b@c:1/x", "user information"),
        ("https://a/ b", "a blank"),
        ("https://a/\r\nX: y", "a blank"),
        ("https://exa\u00e9/", "outside ASCII"),
        ("https://a/\u212a", "outside ASCII"),  # K and s, where case is ignored
        ("http\u017f://a/", "absolute http or https"),
        ("https://a/%zz", "percent escape"),
        ("https://a/%", "percent escape"),
        ("https://a#x", "fragment"),
        ("https://a:99999/", "host or port"),
        ("https://a:0/", "host or port"),
        ("https://[::zz::]/", "no valid host"),
        ("https://[::1::2]/", "host or port"),
        ("https:///x", "no valid host"),
        ("https://a/" + "k" * 16384, "longer than 16384"),
    ],
)
def test_bad_urls_are_refused(url, problem):
    """Each rule has its message."""
    assert problem in (url_problem(url) or "")


FORBIDDEN = ("Authorization", "cookie", "Connection", "Expect", "Proxy-Authorization")


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"a b": "x"}, "not an HTTP token"),
        ({"A": "x", "a": "x"}, "appears twice"),
        *(({n: "x"}, "may not be set") for n in FORBIDDEN),
        ({"": "x"}, "not an HTTP token"),
        ({"a": 3}, "not a string"),
        ({"a": "x\r\ny"}, "not printable ASCII"),
        ({"a": "\u00e9"}, "not printable ASCII"),
        ({"a": " x"}, "blanks around"),
        ({f"x-{n}": "v" * 1000 for n in range(9)}, "longer than 8192"),
    ],
)
def test_bad_headers_are_refused(headers, problem):
    """Each rule has its message."""
    (found,) = header_problems(headers)
    assert problem in found


@pytest.mark.parametrize(
    ("headers", "signed", "problem"),
    [
        ({"Content-Type": "a"}, (), None),
        ({"Host": "h:9"}, ("host",), None),
        ({"Content-Length": "5"}, ("content-length",), None),
        ({"Content-Length": "5"}, (), "only if it is signed"),
        ({"Content-Length": "6"}, ("content-length",), "exactly 6 bytes"),
        ({"HOST": "other"}, ("host",), "another host"),
    ],
)
def test_own_headers_must_be_signed_and_true(headers, signed, problem):
    """Host and Content-Length may be set only to what is sent anyway."""
    found = own_header_problem(headers, "http://h:9/k", signed, 5)
    assert problem is None if found is None else problem in found


def test_loopback_is_this_machine_only():
    """Names and addresses of this machine, and no other."""
    assert all(map(is_loopback, ["localhost", "127.9.9.9", "[::1]"]))
    assert not any(map(is_loopback, ["10.0.0.1", "example.com", "localhost.com"]))


@pytest.mark.parametrize(
    ("url", "allow_http", "fine"),
    [
        ("http://b.localhost:9/", False, False),
        ("http://b.localhost:9/", True, True),
        ("https://b.localhost/", False, True),
        ("http://localhost:9/", False, True),
        ("https://h/ ", True, False),
    ],
)
def test_a_name_below_localhost_is_no_service(url, allow_http, fine):
    """A resolver may ask DNS where it is, and the token would go there in clear text.

    URLs of stores may have such names, which libcurl leads to this machine.
    """
    assert (service_problem(url, allow_http=allow_http) is None) is fine
    assert http_problem("http://b.localhost:9/", allow_http=False, local=True) is None


@pytest.mark.parametrize(
    ("url", "allow_http", "local", "fine"),
    [
        ("https://h/", False, False, True),
        ("http://h/", False, True, False),
        ("http://h/", True, False, True),
        ("http://127.0.0.1/", False, True, True),
        ("http://127.0.0.1/", True, False, False),
    ],
)
def test_plain_http_needs_leave(url, allow_http, local, fine):
    """A remote party must not lead to this machine, whatever is allowed."""
    found = http_problem(url, allow_http=allow_http, local=local)
    assert (found is None) is fine


def test_endpoints_show_the_bucket_in_the_path():
    """An endpoint of a region, of acceleration or of dual stack holds no bucket."""
    for host in ("oss-cn-hangzhou", "oss-accelerate", "cn-hangzhou.oss"):
        assert object_of(f"https://{host}.aliyuncs.com/bkt/a/b") == ("bkt", "a/b")
    url = "https://bkt.cn-hangzhou.oss.aliyuncs.com/a/b"
    assert object_of(url) == ("bkt", "a/b")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://bkt.oss-cn-hangzhou.aliyuncs.com/a+b%2Bc", "a b+c"),
        ("https://oss-cn-hangzhou.aliyuncs.com/bkt/a+b", "a b"),
        ("https://cdn.example.com/a+b?OSSAccessKeyId=i&Signature=s", "a b"),
        ("https://cdn.example.com/a+b?%4fSSAccessKeyId=i&Signature=s", "a b"),
        ("https://cdn.example.com/a+b?x-oss-access-key-id=i", "a b"),
        ("https://cdn.example.com/a+b?x-oss-credential=i", "a b"),
        ("https://cdn.example.com/a+b?auth_key=i", "a+b"),
        ("https://bkt.s3.amazonaws.com/a+b?X-Amz-Credential=i", "a+b"),
    ],
)
def test_plus_in_a_path(url, key):
    """OSS reads it as a blank, other stores as a plus."""
    assert object_of(url)[1] == key
