"""Routes: direct or through a proxy of the environment, as the library requests finds it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import pycurl
from attrs import field, frozen

_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PORTS = {"http": 80, "https": 443}
USER_AGENT = "fsspec-osspresigned"
_ADDED = {"Accept-Encoding": "identity"}
# libcurl adds these, unless a line without a value forbids it.
_NOT_ADDED = ("accept", "content-type", "expect", "transfer-encoding")


class ProxyError(OSError):
    """No connection through the proxy; the cause has the reason."""


@frozen(eq=False)
class Route:
    """Route to an origin.

    Attributes:
        origin: scheme, host and port, as in the URL.
        proxy: URL of the proxy; None for a direct route.
        authorities: file or directory of certificate authorities; None without TLS.
        request_ids: the first two different request IDs of replies. A simple server
            may send the same ID with every reply; then the ID proves nothing.
        netloc: host and port of the origin, as in the URL.
        host: the header Host: *netloc* in lower case, without a default port.
        lines: lines of the head of each request, by the names of their headers in
            lower case; a signed header replaces its line.
    """

    origin: str
    proxy: str | None = field(repr=False)  # it may hold a password
    authorities: str | None
    request_ids: set[str] = field(factory=set, repr=False)
    netloc: str = field(init=False)
    host: str = field(init=False)
    lines: Mapping[str, bytes] = field(init=False, repr=False)

    @netloc.default
    def _netloc_of_origin(self) -> str:
        return self.origin.partition("://")[2]

    @host.default
    def _host_of_netloc(self) -> str:
        scheme = self.origin.partition("://")[0]
        return self.netloc.lower().removesuffix(f":{_PORTS[scheme]}")

    @lines.default
    def _lines_of_host(self) -> Mapping[str, bytes]:
        added = {"Host": self.host, "User-Agent": USER_AGENT} | _ADDED
        lines = {n.lower(): f"{n}: {v}".encode("latin-1") for n, v in added.items()}
        return lines | {name: f"{name}:".encode() for name in _NOT_ADDED}

    @property
    def is_plain(self) -> bool:
        """Whether the server speaks first only if it is at fault: no TLS, no proxy."""
        return self.proxy is None and self.origin.startswith("http:")

    @property
    def forwards(self) -> bool:
        """Whether the proxy gets whole URLs; False if it opens a tunnel."""
        by_http = self.proxy is not None and self.proxy.startswith("http")
        return by_http and self.origin.startswith("http:")

    def set_up(self, easy: Any) -> None:
        """Set the proxy and the certificate authorities of an easy handle."""
        easy.setopt(pycurl.PROXY, "")
        if self.authorities is not None:
            is_directory = os.path.isdir(self.authorities)
            easy.setopt(
                pycurl.CAPATH if is_directory else pycurl.CAINFO, self.authorities
            )
            easy.setopt(
                pycurl.PROXY_CAPATH if is_directory else pycurl.PROXY_CAINFO,
                self.authorities,
            )
        if self.proxy is None:
            return
        parts = urlsplit(self.proxy)
        easy.setopt(pycurl.PROXY, f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")
        if parts.username is not None:
            easy.setopt(pycurl.PROXYUSERNAME, unquote(parts.username))
            easy.setopt(pycurl.PROXYPASSWORD, unquote(parts.password or ""))


def find_route(origin: str) -> Route:
    """Return the route to *origin* that the library requests would use.

    An unusable proxy in the environment raises ProxyError, an unreadable bundle of
    certificate authorities OSError.
    """
    proxy = _proxy_for(origin)
    secure = origin.startswith("https:") or (proxy or "").startswith("https:")
    return Route(
        origin=origin, proxy=proxy, authorities=_authorities() if secure else None
    )


def _proxy_for(origin: str) -> str | None:
    if not may_have_proxy():
        return None
    # Imported here, because it takes a quarter of the time of a first upload.
    import requests  # noqa: PLC0415
    from requests.utils import select_proxy  # noqa: PLC0415

    settings: Any = requests.Session().merge_environment_settings(
        origin, {}, None, None, None
    )
    if not (url := select_proxy(origin, settings["proxies"])):
        return None
    whole = str(url if "://" in url else f"http://{url}")
    try:
        parts = urlsplit(whole)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise ProxyError(error) from error
    if not usable:
        raise ProxyError("the URL of the proxy has no host")
    return whole


def may_have_proxy() -> bool:
    """Return False only if neither the environment nor the system names a proxy."""
    if sys.platform in {"darwin", "win32"}:
        from urllib.request import getproxies  # noqa: PLC0415 - others need it not

        return bool(getproxies())  # those of the system's settings, too
    return any(name.lower().endswith("_proxy") for name in os.environ)


def _authorities() -> str:
    """Return the certificate authorities that requests would use."""
    named = (os.environ.get(name) for name in _BUNDLES)
    bundle = next(filter(None, named), None)
    if bundle is None:
        import certifi  # noqa: PLC0415 - only for TLS

        bundle = certifi.where()
    if not os.path.exists(bundle):
        raise FileNotFoundError(f"no file with certificate authorities at {bundle}")
    return bundle
