"""Presigned URLs of OSS, V1 and V4: check and sign them; the caller passes the time."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache, lru_cache
from types import MappingProxyType

from attrs import field, frozen

from ..secret import Secret, SecretURL
from .canonical import (
    ALGORITHM,
    MAX_V4_LIFE,
    OWN_PARAMETERS,
    SUBRESOURCES,
    TERMINATOR,
    Credentials,
    canonical_query,
    canonical_request_v4,
    day_key,
    is_always_signed,
    is_subresource,
    quote,
    quote_path,
    sign_v1,
    string_to_sign_v1,
    string_to_sign_v4,
    written_moment,
)
from .endpoint import Endpoint, check_bucket, check_key

_NONE: Mapping[str, str] = MappingProxyType({})
_OF_NOTHING = hashlib.sha256().hexdigest()

_is_token = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
is_visible = re.compile(r"[!-~]+").fullmatch
_is_value = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?").fullmatch
_is_method = re.compile(r"[A-Z]+").fullmatch
_is_region = re.compile(r"(?!oss-)[a-z0-9][a-z0-9-]*").fullmatch
_OWN_HEADERS = frozenset({"authorization", "x-oss-date", "x-oss-security-token"})


@frozen
class PresignRequest:
    credentials: Credentials
    endpoint: Endpoint
    method: str = field(kw_only=True)  # upper case
    bucket: str = field(kw_only=True)  # bucket; always part of the signature
    # key, not encoded; empty for a call on the bucket
    key: str = field(kw_only=True, default="")
    # Headers to send. Content-Type, Content-MD5 and x-oss-* are signed; others only if
    # additional_headers names them.
    headers: Mapping[str, str] = field(kw_only=True, default=_NONE)
    # Decoded parameters, without those of the signature.
    query: Mapping[str, str] = field(kw_only=True, default=_NONE)
    version: str = field(kw_only=True, default="v4")  # OSS refuses v1 for new buckets
    region: str | None = field(kw_only=True, default=None)  # V4: required, without oss-
    now: float = field(kw_only=True)  # start of the lifetime, seconds since the epoch
    expires_in: int = field(kw_only=True)  # seconds; 1 to 604,800 for V4
    # names of further signed headers; V4 only
    additional_headers: Collection[str] = field(kw_only=True, default=())

    def url(self) -> SecretURL:
        """Return the presigned URL, even if OSS would refuse it; see ``problems``."""
        if self.version != "v1":
            return self.template().url(self.key)
        headers = {name.lower(): value for name, value in self.headers.items()}
        base = self.endpoint.url(self.bucket, self.key)
        return SecretURL(f"{base}?{self._query_v1(headers)}")

    def template(self) -> PresignTemplate:
        """Return a template for V4 signatures of requests that differ only in their keys.

        Nothing is checked.
        """
        credentials, token = self.credentials, self.credentials.security_token
        moment, region = written_moment(int(self.now)), self.region or ""
        scope = f"{moment[:8]}/{region}/oss/{TERMINATOR}"
        headers = {name.lower(): value for name, value in self.headers.items()}
        wanted = {name.lower() for name in self.additional_headers}
        names = sorted(n for n in wanted if n in headers and not is_always_signed(n))
        parameters = {
            **self.query,
            "x-oss-signature-version": ALGORITHM,
            "x-oss-credential": f"{credentials.access_key_id}/{scope}",
            "x-oss-date": moment,
            "x-oss-expires": str(self.expires_in),
        }
        if token is not None:
            parameters["x-oss-security-token"] = token.reveal()
        if names:
            parameters["x-oss-additional-headers"] = ";".join(names)
        query = canonical_query(parameters.items())
        whole = canonical_request_v4(
            self.method, self.bucket, "", query=query, headers=headers, additional=names
        )
        before = f"{self.method}\n/{self.bucket}/"
        return PresignTemplate(
            self.endpoint.url(self.bucket),
            f"?{query}&x-oss-signature=",
            before=before,
            after=whole.removeprefix(before),
            start=string_to_sign_v4(moment, scope, "").removesuffix(_OF_NOTHING),
            key=day_key(credentials.access_key_secret, moment[:8], region),
        )

    def _query_v1(self, headers: Mapping[str, str]) -> str:
        credentials, parameters = self.credentials, dict(self.query)
        expires = str(int(self.now) + self.expires_in)
        if credentials.security_token is not None:
            parameters["security-token"] = credentials.security_token.reveal()
        text = string_to_sign_v1(
            self.method,
            self.bucket,
            self.key,
            expires=expires,
            headers=headers,
            query=parameters,
        )
        signature = sign_v1(credentials.access_key_secret, text)
        written = canonical_query(parameters.items()) + "&" if parameters else ""
        return (
            f"{written}OSSAccessKeyId={quote(credentials.access_key_id)}"
            f"&Expires={expires}&Signature={quote(signature)}"
        )

    def problems(self) -> Iterator[str]:
        """Yield the reasons why OSS would refuse the request."""
        yield from _lasting_problems(
            self.credentials,
            self.method,
            self.bucket,
            self.version,
            self.expires_in,
            self.region,
        )
        if problem := self.key and check_key(self.key):
            yield problem
        if self.headers or self.additional_headers:
            yield from self._problems_of_headers()
        if self.query:
            yield from _problems_of_query(self.query)
        if self.version == "v1":
            yield from _problems_of_v1(self.key, self.query)

    def _problems_of_headers(self) -> Iterator[str]:
        seen = set()
        for name, value in self.headers.items():
            lower = name.lower()
            if not _is_token(name):
                yield f"header {name[:80]!r} is not a header name"
            elif lower in _OWN_HEADERS:
                yield f"header {name} would break the signature in the URL"
            elif lower in seen:
                yield f"header {name} is given twice"
            if not _is_value(value):
                rule = "printable ASCII without blanks around it"
                yield f"the value of header {name[:80]!r} is not {rule}: encode it"
            seen.add(lower)
        additional = self.additional_headers
        if additional and self.version == "v1":
            yield f"V1 cannot sign the headers {', '.join(additional)}: use v4"
        for name in additional:
            if name.lower() not in seen:
                yield f"additional header {name[:80]!r} is not among the headers"
            elif "_" in name:
                yield f"header {name[:80]!r} cannot be signed: it has an underscore"


class PresignTemplate:
    """Signs requests of one second that differ only in their keys, with V4.

    It signs like ``sign_v4``, but hashes the signing key only once.
    """

    def __init__(
        self, base: str, query: str, *, before: str, after: str, start: str, key: bytes
    ) -> None:
        self._base, self._query = base, Secret(query)
        self._before, self._after, self._start = before, after, start
        self._key = key

    def url(self, key: str) -> SecretURL:
        """Return the presigned URL of the object *key*, which ``check_key`` permits."""
        path = quote_path(key)
        request = f"{self._before}{path}{self._after}".encode(
            "utf-8", "surrogateescape"
        )
        text = self._start + hashlib.sha256(request).hexdigest()
        signature = hmac.digest(self._key, text.encode(), "sha256").hex()
        return SecretURL(f"{self._base}{path}{self._query.reveal()}{signature}")


@lru_cache(maxsize=64, typed=True)  # a signer often uses the same few combinations
def _lasting_problems(
    credentials: Credentials,
    method: str,
    bucket: str,
    version: str,
    life: int,
    region: str | None,
) -> Collection[str]:
    """Return the problems that do not depend on the key, the headers or the query."""
    problems = [*credential_problems(credentials)]
    if not _is_method(method):
        problems.append(f"method {method[:20]!r} is not in upper-case letters")
    if problem := check_bucket(bucket):
        problems.append(problem)
    if version not in ("v1", "v4"):
        problems.append(f"signature version {version[:20]!r}: use v4 or v1")
    elif isinstance(life, bool) or not isinstance(life, int):
        problems.append(f"expires_in is {life!r}: use whole seconds")
    elif version == "v4" and not 1 <= life <= MAX_V4_LIFE:
        problems.append(f"expires_in is {life}: V4 allows 1..{MAX_V4_LIFE} seconds")
    elif life < 1:
        problems.append(f"expires_in is {life}: use a positive number of seconds")
    if version != "v1" and (problem := region_problem(region)):
        problems.append(problem)
    return problems


def region_problem(region: str | None) -> str | None:
    if not region:
        return "no region is given, but V4 needs one: for example cn-hangzhou"
    if not _is_region(region):
        problem = f"region {region[:80]!r} is not a region id"
        return f"{problem}: write cn-hangzhou, without oss-"
    return None


def credential_problems(credentials: Credentials) -> Iterator[str]:
    name, token = credentials.access_key_id, credentials.security_token
    if not name:
        yield "the access key id is empty"
    elif "/" in name or not is_visible(name):
        yield "the access key id holds a space, a slash or a character outside ASCII"
    if not credentials.access_key_secret.reveal():
        yield "the access key secret is empty"
    if token is not None and not is_visible(token.reveal()):
        yield "the security token is empty or holds spaces: use None for none"


def _problems_of_query(query: Mapping[str, str]) -> Iterator[str]:
    for name, value in query.items():
        if not name:
            yield "a query parameter has no name"
        elif name in OWN_PARAMETERS:
            yield f"query parameter {name} belongs to the signature"
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            yield f"query parameter {name[:80]!r} is not valid Unicode"


def _problems_of_v1(key: str, query: Mapping[str, str]) -> Iterator[str]:
    """Yield a problem if the V1 signature is also valid for another request.

    V1 signs without encoding. So the key ``a?acl`` and the sub-resource ``acl`` of the
    key ``a`` have the same signature. A value such as ``x&tagging`` is ambiguous, too.
    Permission for one request must not include the other.
    """
    if "?" in key and re.search(rf"\?{_signed()}", key):
        yield f"key {key[:80]!r} reads like a key with sub-resources in V1: use v4"
    for name, value in query.items():
        is_two = "&" in value and re.search(f"&{_signed()}", value)
        if is_two and is_subresource(name):
            means = "reads like two parameters in V1: use v4"
            yield f"the value of query parameter {name} {means}"


@cache
def _signed() -> str:
    """Return the pattern of a parameter that V1 signs, without a leading ``?`` or ``&``."""
    names = "|".join(map(re.escape, sorted(SUBRESOURCES)))
    return rf"(?:x-oss-[^=&?]*|{names})(?:[=&?]|$)"
