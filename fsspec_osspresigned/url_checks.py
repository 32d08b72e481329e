"""Checks of untrusted URLs and headers before they are sent."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from .units import KIB

MAX_URL = 16 * KIB
MAX_HEADERS = 8 * KIB

# Percent escapes must be complete. A "#" would cut the URL, and a blank would split the
# request.
_URL = re.compile(
    r"""(?x) https?://
    ( (?: \[[0-9A-Fa-f:.]+\] | [A-Za-z0-9._~-]+ ) (?: :[0-9]{1,5} )?+ )
    (?: [/?] [!"$&-~]*+ (?: %[0-9A-Fa-f]{2} [!"$&-~]*+ )*+ )?+ """
)
# Path, query and fragment without a broken escape.
is_plain_target = re.compile(
    r"""(?x) / [!"$&-~]*+ (?: %[0-9A-Fa-f]{2} [!"$&-~]*+ )*+ """
).fullmatch
_BAD_ESCAPE = r"%(?![0-9A-Fa-f]{2})"  # the pattern is compiled on first use
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN = frozenset(
    ("authorization", "cookie", "connection", "transfer-encoding", "expect")
)
_SIGNED = r"[?&](x-(oss|amz|goog)-)?signature="
_OSS_SIGNATURE = ("OSSAccessKeyId", "x-oss-access-key-id", "x-oss-credential")
# Endpoint of a region, of acceleration, or of a dual-stack region.
_OSS_ENDPOINT = (
    r"(?:oss-[a-z0-9-]+|[a-z]{2}-[a-z0-9-]+\.oss(?:-internal)?)\.aliyuncs\.com"
)
# BUCKET before an endpoint. Hosts that speak S3 have "s3." there.
_OSS_HOST = rf"(?!s3\.)([a-z0-9-]+)\.{_OSS_ENDPOINT}"


def is_web(text: str) -> bool:
    """Return whether *text* is an http or https URL."""
    return text.lstrip()[:6].lower().startswith(("https:", "http:"))


def scheme_of(text: str) -> str:
    """Return the scheme with which *text* begins, such as ``s3://``, or ""."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    return scheme[0] if scheme else ""


def is_presigned(text: str) -> bool:
    """Return whether *text* is a presigned URL, or a path with such a query."""
    # A public URL, such as that of a map on the user's own server, has no query.
    return has_signature(text) or ("?" in text and is_web(text))


def has_signature(text: str) -> bool:
    """Return whether *text* has a query parameter with the signature of a URL."""
    lower = text.lower()
    return "signature=" in lower and re.search(_SIGNED, lower) is not None


def url_problem(url: str) -> str | None:
    """Return why *url* is invalid as the target of a request, or None if it is valid.

    The text quotes nothing from *url*, because it may contain a signature.
    """
    if len(url) > MAX_URL:
        return f"is longer than {MAX_URL} bytes"
    if match := _URL.fullmatch(url):
        return _problem_of_host(match[1])
    scheme, colon, rest = url.partition("://")
    if not colon or scheme.lower() not in ("http", "https"):
        return "is not an absolute http or https URL"
    if not scheme.islower():  # all programs read lower case alike
        return f"has a scheme in capitals: write {scheme.lower()}://"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "contains a blank, a control character or a character outside ASCII"
    if "#" in url:
        return "has a fragment (#...)"
    if re.search(_BAD_ESCAPE, url):
        return "has a broken percent escape"
    if "@" in re.split(r"[/?]", rest, maxsplit=1)[0]:
        return "has user information before the host"
    return "has no valid host"


@lru_cache(maxsize=64)
def _problem_of_host(netloc: str) -> str | None:
    with suppress(ValueError):
        parts = urlsplit(f"http://{netloc}")
        if parts.hostname and parts.port != 0:
            return None
    return "has no valid host or port"


def header_problems(headers: Mapping[str, object]) -> Iterator[str]:
    """Yield the reasons why *headers* cannot be sent with a presigned URL."""
    seen: set[str] = set()
    size = 0
    for name, value in headers.items():
        shown = repr(name[:60])
        if not _TOKEN.fullmatch(name):
            yield f"header name {shown} is not an HTTP token"
            continue
        lower = name.lower()
        if lower in seen:
            yield f"header {shown} appears twice"
        seen.add(lower)
        if lower in _FORBIDDEN or lower.startswith("proxy-"):
            yield f"header {shown} may not be set"
        if not isinstance(value, str):
            yield f"the value of header {shown} is not a string"
            continue
        size += len(name) + len(value)
        if not value.isascii() or not (value.isprintable() or not value):
            yield f"the value of header {shown} is not printable ASCII"
        elif value != value.strip():
            yield f"the value of header {shown} has blanks around it"
    if size > MAX_HEADERS:
        yield f"the headers are longer than {MAX_HEADERS} bytes"


def own_header_problem(
    headers: Mapping[str, str],
    url: str,
    signed: tuple[str, ...],
    content_length: int | None,
) -> str | None:
    """Return why a Host or Content-Length in *headers* must not be sent, or None.

    Such a header must be signed, and equal to the value that the request to *url* has
    anyway. *signed* has the ``x-oss-additional-headers`` of *url* in lower case.
    *content_length* None means a request without a body.
    """
    real = {"host": urlsplit(url).netloc, "content-length": str(content_length or 0)}
    for name, value in headers.items():
        lower = name.lower()
        if lower not in real:
            continue
        if lower not in signed:
            return f"header {name!r} may be set only if it is signed"
        if value.lower() != real[lower].lower():
            what = f"exactly {value[:20]} bytes" if lower != "host" else "another host"
            return f"it is signed for {what} ({name})"
    return None


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Return whether the name or address *host* stands for this machine everywhere."""
    host = host.lower().strip("[]")
    return host == "localhost" or (
        is_address(host) and ipaddress.ip_address(host).is_loopback
    )


def http_problem(url: str, *, allow_http: bool, local: bool) -> str | None:
    """Return why a plain-http *url* must not be used; None if the URL may be used.

    *allow_http* permits plain http to other machines. *local* means that the URL comes
    from this machine, so that it may lead to this machine over http.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        return None
    host = parts.hostname or ""
    if is_loopback(host) or host.endswith(".localhost"):
        # libcurl never asks DNS for these names
        problem = "leads to this machine over http, but comes from another machine"
        return None if local else problem
    return None if allow_http else "is plain http: use https, or allow_http=True"


def service_problem(url: str, *, allow_http: bool) -> str | None:
    """Return why *url* must not be used for a service, which may get a token, or None.

    *allow_http* permits plain http to other machines.
    """
    problem = url_problem(url) or http_problem(url, allow_http=allow_http, local=True)
    host = urlsplit(url).hostname or "" if problem is None else ""
    if not host.endswith(".localhost") or allow_http or url.startswith("https:"):
        return problem
    return "has a name that DNS may lead to another machine: write localhost or https"


def decoded_path(url: str, errors: str = "strict") -> str:
    """Return the path of *url*, percent-decoded once, without the first slash.

    OSS reads ``+`` as a blank: its Ruby SDK writes blanks as ``+``, and lists such a
    key with blanks (``tests/test_object_key.rb``). For other stores, ``+`` is kept.
    *errors* applies if the decoded bytes are not UTF-8; ``strict`` raises ValueError.
    """
    path = urlsplit(url).path
    if "+" in path and _is_for_oss(url):
        path = path.replace("+", " ")
    return unquote(path, errors=errors).removeprefix("/")


def with_plus(url: str) -> str:
    """Return *url* with ``%2B`` for each ``+`` of its path."""
    path, mark, query = url.partition("?")
    return path.replace("+", "%2B") + mark + query


def as_read(url: str, key: str) -> str:
    """Return *url*; if its path ends in *key* only with ``%2B`` for ``+``, replace ``+``.

    The signature stays valid, because OSS signs the decoded key.
    """
    literal = with_plus(url)
    if literal == url or decoded_path(url).endswith(key):
        return url
    return literal if decoded_path(literal).endswith(key) else url


def _is_for_oss(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    names = {unquote(item.partition("=")[0]) for item in parts.query.split("&")}
    is_signed = not names.isdisjoint(_OSS_SIGNATURE)
    return is_signed or oss_bucket(host) is not None or is_oss_endpoint(host)


def oss_bucket(host: str) -> str | None:
    """Return the bucket name in a virtual-hosted OSS *host*; None for other hosts."""
    # Other hosts under that domain are not accepted, because any customer can have a
    # name there.
    match = re.fullmatch(_OSS_HOST, host.lower())
    return match[1] if match else None


def is_oss_endpoint(host: str) -> bool:
    """Return whether *host* (lower case) is an endpoint of OSS, without a bucket."""
    return re.fullmatch(_OSS_ENDPOINT, host) is not None


def object_of(url: str) -> tuple[str | None, str]:
    """Return bucket and key of *url*; bucket is None if the URL does not contain it.

    The bucket is in the host, or at the start of the path if the host is an address,
    ``localhost`` or an endpoint of OSS. Raises ValueError if the decoded bytes of the
    path are not UTF-8.
    """
    host = (urlsplit(url).hostname or "").lower()
    path = decoded_path(url)
    if host == "localhost" or is_address(host) or is_oss_endpoint(host):
        bucket, _, key = path.partition("/")
        return bucket, key
    if host.endswith(".localhost"):
        return host.removesuffix(".localhost"), path
    return oss_bucket(host), path


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
