"""Signature mismatch: comparison of the sent request with the received one.

The store computes its string to sign from the request that it *received*. A comparison
with the request *sent* proves what changed in transit. The *signed* request cannot be
derived without the key; only its form and the signed headers listed in the URL are
known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import unquote, urlsplit

from attrs import field, frozen

from ..model import SignedRequest
from ..other_stores import S3_HEADER
from ..secret import SecretURL
from ..url_checks import decoded_path, oss_bucket
from .canonical import SIGNATURES, is_subresource, parse_query
from .signed_url import SignedURL, describe

# The transport writes these headers, so their values are unknown here.
_TRANSPORTS = frozenset(("host", "content-length", "user-agent", "accept-encoding"))
_METHOD, _PATH, _PARAMETER = "the method", "the path", "query parameter "
# Values of these pieces contain no secret. For all other pieces, only names are shown.
_SHOWN = frozenset((_METHOD, _PATH, "Content-Type", "Content-MD5"))
_SPELT = {"content-md5": "Content-MD5", "content-type": "Content-Type"}
_is_v1_signature = re.compile(r"[A-Za-z0-9+/]{27}=").fullmatch
_MAX_SHOWN = 80


@frozen(kw_only=True)
class Comparison:
    """Differences between the request sent and the request that the store received."""

    changed: tuple[str, ...] = ()  # differences that arose on the way, one line each
    # mistakes in the request as it was sent, one line each
    spoilt: tuple[str, ...] = ()
    sent: str = ""  # the signed pieces of the sent request, as text for people


@frozen(kw_only=True)
class SignedPieces:
    """Parts of one request that a signature includes; parameters and headers are decoded."""

    method: str
    path: str = field(repr=False)
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


def compare(
    document: Mapping[str, str],
    signed: SignedRequest,
    key: str,
    hide: Callable[[str], str] = str,
) -> Comparison:
    """Compare the string to sign in the store's error *document* with the request sent.

    *key* is the object key; empty if it is unknown. *hide* removes the request's
    secrets before texts are shortened.
    """
    url = describe(signed.url)
    pairs = parse_query(urlsplit(signed.url.reveal()).query)
    sent = sent_request(signed)
    received = received_request(document, signed.url)
    changed: list[str] = []
    if received is not None:
        changed += _changes(_named(sent, url), _named(received, url), url, hide)
    spoilt = [*_unsent(signed, sent, url), *_spoilt_url(pairs, url)]
    # A different key is no mistake here, because a URL map may send a path to any key.
    end = f"/{key}"
    if key and not sent.path.endswith(end) and unquote(sent.path).endswith(end):
        means = f"the path of the URL means {_cut(sent.path)}, percent-encoded twice"
        spoilt.append(f"the key is {_cut(key)} and {means}")
    return Comparison(
        changed=tuple(changed),
        spoilt=tuple(spoilt),
        sent=summary(sent, url),
    )


def sent_request(signed: SignedRequest) -> SignedPieces:
    """Return the parts of *signed* that a signature can include."""
    url = signed.url.reveal()
    headers = signed.headers.items()
    return SignedPieces(
        method=signed.method,
        path=f"/{decoded_path(url, 'surrogateescape')}",
        query=dict(reversed(parse_query(urlsplit(url).query))),
        headers={name.lower(): " ".join(value.split()) for name, value in headers},
    )


def unsent_headers(signed: SignedRequest) -> tuple[str, ...]:
    """Return the headers that the URL lists as signed, but that were not sent."""
    sent = {name.lower() for name in signed.headers} | _TRANSPORTS
    return tuple(
        name for name in describe(signed.url).additional_headers if name not in sent
    )


def received_request(
    document: Mapping[str, str], url: SecretURL
) -> SignedPieces | None:
    """Return the received request according to the store's error *document*.

    *url* is the presigned URL of the request; empty if it is unknown. Returns None if
    the document does not contain the received request.
    """
    if describe(url).is_v4 or "CanonicalRequest" in document:
        return _read_canonical(document.get("CanonicalRequest", ""))
    query = dict(reversed(parse_query(urlsplit(url.reveal()).query)))
    return _read_v1(document.get("StringToSign", ""), query)


def _read_v1(text: str, sent: Mapping[str, str]) -> SignedPieces | None:
    lines = text.split("\n", 4)
    if len(lines) < 5:  # noqa: PLR2004 - method, MD5, type, expiry and the rest
        return None
    method, md5, content_type, expires, rest = lines
    headers = {"content-md5": md5, "content-type": content_type}
    while re.match(r"x-(?:oss|amz)-[^:\n]*:", rest):
        line, _, rest = rest.partition("\n")
        key, _, value = line.partition(":")
        headers[key] = value
    signed_parameters = {name: sent[name] for name in filter(is_subresource, sent)}
    path, query = _split_resource(rest, signed_parameters)
    query = {"Expires": expires, **query}
    return SignedPieces(method=method, path=path, query=query, headers=_tidy(headers))


def _split_resource(
    text: str, sent: Mapping[str, str]
) -> tuple[str, Mapping[str, str]]:
    """Return path and parameters of *text*, the last line of V1's string to sign.

    The resource is not encoded, so values may contain ``&`` and ``?``; *sent* has the
    parameters that were sent.
    """
    items = [f"{name}={sent[name]}" if sent[name] else name for name in sorted(sent)]
    tail = f"?{'&'.join(items)}" if items else ""
    if text.endswith(tail):
        return text.removesuffix(tail), sent
    path, _, query = text.partition("?")
    parameters = (item.partition("=") for item in query.split("&") if item)
    return path, {name: value for name, _, value in parameters}


def _read_canonical(text: str) -> SignedPieces | None:
    lines = text.split("\n")
    if len(lines) < 6:  # noqa: PLR2004 - method, path, query, blank, names, payload
        return None
    headers = (line.partition(":") for line in lines[3:-3])
    return SignedPieces(
        method=lines[0],
        path=unquote(lines[1], errors="surrogateescape"),
        query=dict(reversed(parse_query(lines[2]))),
        headers=_tidy({key: value for key, _, value in headers}),
    )


def _tidy(headers: Mapping[str, str]) -> dict[str, str]:
    tidy = {name: " ".join(value.split()) for name, value in headers.items()}
    return {name: value for name, value in tidy.items() if name and value}


def _named(request: SignedPieces, url: SignedURL) -> dict[str, str]:
    """Return the signed pieces of *request*, by common names such as "the method"."""
    named = {_METHOD: request.method, _PATH: request.path}
    for name, value in request.query.items():
        if name not in SIGNATURES:
            named[f"{_PARAMETER}{name[:_MAX_SHOWN]}"] = value
    for name, value in request.headers.items():
        named[_spell(name)] = _port_free(value) if name == "host" else value
    if _port_free(url.host) and "host" not in request.headers:
        named["host"] = _port_free(url.host)
    return named


def _changes(
    ours: Mapping[str, str],
    theirs: Mapping[str, str],
    url: SignedURL,
    hide: Callable[[str], str],
) -> Iterator[str]:
    bucket = re.escape(oss_bucket(url.host) or "") or "[^/]+"
    for name in sorted(ours.keys() | theirs.keys()):
        sent, arrived = ours.get(name), theirs.get(name)
        # If the host contains the bucket, the store adds the bucket to the path.
        with_bucket = f"/{bucket}{re.escape(ours[_PATH])}"
        if name == _PATH and re.fullmatch(with_bucket, theirs[_PATH]):
            continue
        if sent == arrived or _is_unknown(name, sent, arrived, url):
            continue
        values = (sent, arrived if arrived is None else hide(arrived))
        as_sent, as_arrived = (
            f" as {_cut(value)}" if name in _SHOWN and value is not None else ""
            for value in values
        )
        if sent is None:
            yield f"{name} arrived{as_arrived} and was not sent"
        elif arrived is None:
            yield f"{name} was sent{as_sent} and did not arrive"
        elif as_sent:
            yield f"{name} was sent{as_sent} and arrived{as_arrived}"
        else:
            yield f"{name} arrived with another value"


def _is_unknown(
    name: str, sent: str | None, arrived: str | None, url: SignedURL
) -> bool:
    """Return whether the signature need not include *name*, or its value is unknown."""
    if name.startswith(_PARAMETER):  # stores differ in which parameters V1 signs
        return arrived is None and not url.is_v4
    if name in (_METHOD, _PATH):
        return False
    lower = name.lower()
    if arrived is None:
        return lower == "host" or not url.covers(lower)
    return sent is None and lower in _TRANSPORTS


def _unsent(signed: SignedRequest, sent: SignedPieces, url: SignedURL) -> Iterator[str]:
    for name in unsent_headers(signed):
        yield f"{_spell(name)} is signed by the URL and was not sent"
    if url.version == "s3-v4":
        for name in sorted(sent.headers):
            if name.startswith(S3_HEADER) and name not in url.additional_headers:
                yield f"{_spell(name)} was sent and is not signed by the URL"


def _spoilt_url(pairs: list[tuple[str, str]], url: SignedURL) -> Iterator[str]:
    signature = next((value for name, value in pairs if name in SIGNATURES), "")
    if url.version == "v1" and not _is_v1_signature(signature):
        is_plus = _is_v1_signature(signature.replace(" ", "+"))
        why = (
            "holds an unescaped '+', which means a space"
            if is_plus
            else "is incomplete"
        )
        yield f"the signature in the URL {why}"


def summary(sent: SignedPieces, url: SignedURL) -> str:
    """Return a text with the signed pieces of *sent*, without values that may be secret."""
    headers = [
        f"{shown} {_cut(value)}" if shown in _SHOWN else shown
        for name, value in sorted(sent.headers.items())
        if (shown := _spell(name)) in _SHOWN
        or name.startswith(S3_HEADER)
        or url.covers(name)
    ]
    if "content-type" not in sent.headers:
        headers.insert(0, "without Content-Type")
    return f"{sent.method} {', '.join(headers)}"


def _port_free(host: str) -> str:
    return host.lower().removesuffix(":443").removesuffix(":80")


def _spell(name: str) -> str:
    return _SPELT.get(name, name[:_MAX_SHOWN])


def _cut(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}...")
