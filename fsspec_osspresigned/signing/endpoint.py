"""Endpoints of OSS, and rules for names of buckets and keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, cast
from urllib.parse import urlsplit

from attrs import frozen

from ..errors import ConfigurationError
from ..model import STYLES
from ..url_checks import is_address, oss_bucket
from .canonical import quote_path

Style = Literal["virtual", "path", "cname"]
MAX_KEY_BYTES = 1023  # OSS API reference, "Object naming conventions"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]").fullmatch
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9])?").fullmatch
_REGION = re.compile(
    r"""(?x) (?:.*\.)? (?:
        oss-(?!accelerate|internal\.|cloudbox)([a-z0-9-]+?)(?:-internal)?
      | ([a-z0-9-]+)\.oss(?:-internal)?  # dual stack
    ) \.aliyuncs\.com (?::\d+)? """
).fullmatch
# Regions in public hosts of the finance cloud, and other names of the same regions:
# OSS, "Regions and endpoints", of 2026-02-05. All other hosts contain the region
# itself.
_PUBLIC_NAMES = {
    "cn-hangzhou-finance": "cn-hzfinance",
    "cn-shenzhen-finance-1": "cn-szfinance",
    "cn-shanghai-finance-1": "cn-shanghai-finance-1-pub",
    "cn-beijing-finance-1": "cn-beijing-finance-1-pub",
}
_REGIONS = {
    **{name: region for region, name in _PUBLIC_NAMES.items()},
    **dict.fromkeys(("cn-hzjbp", "cn-hzjbp-a", "cn-hzjbp-b"), "cn-hangzhou-finance"),
    "cn-shanghai-finance": "cn-shanghai-finance-1",
    "cn-shenzhen-finance": "cn-shenzhen-finance-1",
}

# the only region in China whose public hosts every account may use
_OFFSHORE = "cn-hongkong"


def region_of(host: str) -> str | None:
    """Return the region in an OSS host name, with or without a bucket before it.

    Return None for acceleration hosts, which serve all regions, and for other hosts.
    """
    match = _REGION(host.lower())
    name = next(filter(None, match.groups())) if match else None
    return _REGIONS.get(name, name) if name else None


def is_public_mainland(host: str) -> bool:
    """Return whether *host* is a public OSS host in mainland China.

    New accounts may not send data there (errors.EndpointForbiddenError).
    """
    region = region_of(host) or ""
    return region.startswith("cn-") and region != _OFFSHORE and "-internal." not in host


def public_endpoint(region: str) -> str:
    """Return the URL of the public host of *region*."""
    return f"https://oss-{_PUBLIC_NAMES.get(region, region)}.aliyuncs.com"


def check_bucket(bucket: str) -> str | None:
    """Return why *bucket* is invalid (OSS, "Bucket naming conventions"), or None."""
    if _BUCKET(bucket):
        return None
    rule = "use 3..63 of a-z, 0-9 and '-', with a letter or digit at both ends"
    return f"bucket {bucket[:80]!r} is not a valid name: {rule}"


def check_key(key: str) -> str | None:
    """Return why *key* is invalid (OSS, "Object naming conventions"), or None."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        try:
            key.encode(errors="surrogateescape")
        except UnicodeEncodeError:
            return f"key {key[:80]!r} is not valid Unicode: it holds a lone surrogate"
        # Python replaces bytes of a file name that are not UTF-8 by surrogates.
        why = "is from a file name that is not UTF-8 (it holds a lone surrogate)"
        return f"key {key[:80]!r} {why}: rename the file"
    if not size:
        return "the key is empty: name an object"
    if size > MAX_KEY_BYTES:
        limit = f"the limit is {MAX_KEY_BYTES}"
        return f"key {key[:80]!r}... has {size} bytes in UTF-8: {limit}"
    if key[0] in "/\\":
        return f"key {key[:80]!r} starts with {key[0]!r}: leave that character out"
    return None


def _style_problems(name: str, style: str | None) -> Iterator[str]:
    """Yield why the host *name* cannot be used with *style*."""
    if style == "virtual" and is_address(name):
        yield "an IP address cannot carry a bucket name: use path style"
    # OSS would read the first segment of the key as the bucket.
    if style == "cname" and name.endswith(".aliyuncs.com") and oss_bucket(name) is None:
        yield f"{name[:80]} is not the domain of one bucket: use virtual style"


@frozen
class Endpoint:
    """Address of OSS, and the position of the bucket in URLs."""

    scheme: str
    host: str  # lower case, with the port if there is one; IPv6 in brackets
    # Position of the bucket: in the host (virtual), in the path (path), or nowhere,
    # because the host belongs to one bucket (cname).
    style: Style

    @classmethod
    def parse(cls, text: str, *, style: str | None = None) -> Endpoint:
        """Return the endpoint in *text*, a host or URL; the default scheme is https.

        The default *style* is ``path`` for IP addresses and localhost, else ``virtual``.
        Raises ConfigurationError, which lists all problems of address and style.
        """
        problems = []
        scheme, host, is_bare = "https", "", False
        try:
            parts = urlsplit(text if "://" in text else f"https://{text}")
            scheme, name, port = parts.scheme, parts.hostname or "", parts.port
        except ValueError:
            problems.append("the endpoint is not a URL: write https://HOST[:PORT]")
        else:
            if scheme not in ("https", "http"):
                problems.append(f"endpoint scheme {scheme[:20]!r}: use https or http")
            if "@" in parts.netloc or parts.query or parts.fragment:
                problems.append("the endpoint holds more than https://HOST[:PORT]")
            elif parts.path not in ("", "/"):
                problems.append("the endpoint holds a path: leave it out")
            is_ip = is_address(name)
            if not (is_ip or _HOST(name)) or "\\" in text or text != text.strip():
                problems.append(f"endpoint host {name[:80]!r} is not a host name")
            is_bare = is_ip or name == "localhost"
            host = f"[{name}]" if ":" in name else name
            host += "" if port is None else f":{port}"
            problems += _style_problems(name, style)
        style = style or ("path" if is_bare else "virtual")
        if style not in STYLES:
            problems.append(f"endpoint style {style[:20]!r}: use {', '.join(STYLES)}")
        if problems:
            raise ConfigurationError(problems)
        return cls(scheme, host, cast("Style", style))

    @property
    def region(self) -> str | None:
        """Region in the host name; None if unknown."""
        return region_of(self.host)

    def netloc(self, bucket: str) -> str:
        """Return the header Host of requests to *bucket*."""
        is_in_host = self.style == "virtual" and bucket
        return f"{bucket}.{self.host}" if is_in_host else self.host

    def url(self, bucket: str, key: str = "") -> str:
        """Return the URL of the object *key*, or of the bucket if *key* is empty.

        The URL has no query.
        """
        # Dots and double slashes stay, because they are part of the name.
        path = f"{bucket}/" if self.style == "path" and bucket else ""
        return f"{self.scheme}://{self.netloc(bucket)}/{path}{quote_path(key)}"
