"""Key signer: signs in this process, with an access key from a credential provider."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from attrs import field, frozen

from ..errors import ConfigurationError, SignerError, SignerUnavailableError
from ..model import COPY_SOURCE, MAX_PARTS, OPERATIONS, Operation, SignedRequest
from ..parsing import moment
from ..secret import Secret
from ..signing.canonical import Credentials, is_always_signed
from ..signing.endpoint import Endpoint, check_key, public_endpoint
from ..signing.presigning import PresignRequest, PresignTemplate, region_problem
from .base import Signer

_ID = "OSS_ACCESS_KEY_ID"
_SECRET = "OSS_ACCESS_KEY_SECRET"  # noqa: S105 - a variable's name
_TOKEN = "OSS_SESSION_TOKEN"  # noqa: S105 - a variable's name
_END = "OSS_SESSION_EXPIRATION"
_OWN = frozenset().union(*(spec.parameters for spec in OPERATIONS.values()))
# These headers bind the connection, not the object, so they are signed only if
# requested.
_ON_DEMAND = frozenset({"content-length", "host"})
_MAX_KINDS = 64  # maximum kinds of requests for which a signer keeps templates


def environment_credentials() -> Credentials:
    """Return the access key in the environment.

    The variables are ``OSS_ACCESS_KEY_ID``, ``OSS_ACCESS_KEY_SECRET`` and, for a
    temporary key, ``OSS_SESSION_TOKEN`` and ``OSS_SESSION_EXPIRATION``
    (``2026-11-25T10:00:00Z``, as STS returns it). Raises ConfigurationError, which lists
    all variables that are missing or invalid.
    """
    # The expiry time is only meaningful for a temporary key.
    token = Secret(os.environ[_TOKEN]) if os.environ.get(_TOKEN) else None
    expiration = "" if token is None else os.environ.get(_END, "")
    secret = Secret(os.environ.get(_SECRET, ""))
    return _credentials(os.environ.get(_ID, ""), secret, token, expiration)


@lru_cache(maxsize=1)  # the variables are read for each signature, and rarely change
def _credentials(
    name: str, secret: Secret, token: Secret | None, expiration: str
) -> Credentials:
    problems = [] if name and secret.reveal() else _missing_keys()
    expires_at = moment(expiration) if expiration else None
    if expiration and expires_at is None:
        problems.append(f"{_END} is not of the form 2026-11-25T10:00:00Z")
    if problems:
        raise ConfigurationError(problems)
    return Credentials(name, secret, token, expires_at)


def _missing_keys() -> list[str]:
    return [
        f"{name} is not set: the key signer reads it from the environment"
        for name in (_ID, _SECRET)
        if not os.environ.get(name)
    ]


# Seconds before its end at which the official chain renews a temporary key
# (alibabacloud-credentials, RefreshCachedSupplier.STALE_TIME).
_RENEWED_BEFORE = 900


def _with_end(provider: Any) -> Any:
    # The provider chain and the profiles of alibabacloud_credentials lose the expiry
    # time of an inner provider's credentials.
    credentials = provider.get_credentials()
    if credentials.get_security_token() and not credentials.get_expiration():
        for inner in getattr(provider, "__dict__", {}).values():
            if hasattr(inner, "get_credentials"):
                deeper = _with_end(inner)
                if deeper.get_expiration():
                    return deeper
    return credentials


@frozen(kw_only=True)
class ChainCredentials:
    """Access key from the official provider chain, which is called for each batch."""

    chain: Any = field(repr=False)  # a provider with the method get_credentials
    clock: Callable[[], float] = field(default=time.time, repr=False)

    def __call__(self) -> Credentials:
        try:
            key = _with_end(self.chain)
        except Exception as error:  # noqa: BLE001 - each provider raises its own classes
            # The error's message may quote the reply of a metadata service.
            msg = f"the credential chain has no access key now ({type(error).__name__})"
            raise SignerUnavailableError(msg) from None
        name = key.get_access_key_id()
        secret = Secret(key.get_access_key_secret() or "")
        if not name or not secret.reveal():
            msg = "the credential chain answered without an access key"
            raise SignerUnavailableError(msg)
        token = Secret(key.get_security_token() or "")
        if not token.reveal():
            return Credentials(name, secret)
        expires_at = key.get_expiration() or self.clock() + _RENEWED_BEFORE
        return Credentials(name, secret, token, float(expires_at))


def credential_provider(name: str) -> Callable[[], Credentials]:
    """Return the function that reads access keys from the source *name*.

    *name* is ``environment``, or ``alibabacloud`` for the official chain: variables,
    OIDC role, profiles, instance role, URI.
    """
    if name == "environment":
        return environment_credentials
    if name != "alibabacloud":
        msg = f"credentials {name[:40]!r}: use environment or alibabacloud"
        raise ConfigurationError(msg)
    try:
        from alibabacloud_credentials import provider  # noqa: PLC0415 - it needs an extra
    except ImportError:
        msg = (
            "credentials 'alibabacloud' needs the package alibabacloud-credentials: "
            "pip install 'fsspec-osspresigned[credentials]'"
        )
        raise ConfigurationError(msg) from None
    try:
        return ChainCredentials(chain=provider.DefaultCredentialsProvider())
    except Exception as error:  # noqa: BLE001 - a provider can raise anything
        msg = f"credentials 'alibabacloud': the chain fails ({type(error).__name__})"
        raise ConfigurationError(msg) from None


@frozen(kw_only=True, eq=False)
class _Template:
    """A template for signatures of one second, and the requests to which it applies."""

    template: PresignTemplate
    second: int  # seconds since the epoch
    method: str
    headers: Mapping[str, str]
    expires_at: float | None


def _kind(operation: Operation) -> object:
    """Return all values on which a signature depends, except the key and the time."""
    return (
        operation.action,
        operation.bucket,
        operation.expires_in,
        *operation.headers.items(),
        None,
        *operation.optional_headers.items(),
        None,
        *operation.query.items(),
    )


@frozen(kw_only=True)
class KeySigner(Signer):
    """Signs every operation with an access key that this process holds."""

    # Is called for each batch, so temporary keys can be renewed.
    credentials: Callable[[], Credentials] = environment_credentials
    endpoint: Endpoint
    region: str | None = None  # needed for V4; None for V1
    version: str = "v4"  # signature version: v4 or v1
    expires_in: int = 3600  # lifetime in seconds, unless the operation has its own
    clock: Callable[[], float] = field(default=time.time, repr=False)
    _bound: dict[str, str] = field(factory=dict, init=False, repr=False, eq=False)
    # Templates for the current second, by the common parts of their requests.
    _templates: dict[object, _Template] = field(
        factory=dict, init=False, repr=False, eq=False
    )

    @classmethod
    def from_options(
        cls,
        region: str | None = None,
        endpoint: str | None = None,
        version: str = "v4",
        expires_in: int = 3600,
        *,
        style: str | None = None,
        credentials: Callable[[], Credentials] | None = None,
    ) -> KeySigner:
        """Create the signer, with defaults from the environment.

        The default region is ``OSS_REGION``, or the endpoint's region. The default
        endpoint is ``OSS_ENDPOINT``, or the region's public endpoint. The default
        *style* depends on the endpoint. Raises ConfigurationError, which lists all
        values that are missing or invalid.
        """
        region = region or os.environ.get("OSS_REGION") or None
        text = endpoint or os.environ.get("OSS_ENDPOINT")
        problems = _missing_keys() if credentials is None else []
        parsed = None
        if text or region:
            # If no endpoint is given, the region becomes part of the host. A region
            # with dots would lead to the host of another bucket.
            is_used = not text or (region and version != "v1")
            if is_used and (problem := region_problem(region)):
                problems.append(problem)
            try:
                parsed = Endpoint.parse(
                    text or public_endpoint(region or ""), style=style
                )
            except ConfigurationError as error:
                source = "" if endpoint or not text else "OSS_ENDPOINT: "
                problems += [f"{source}{problem}" for problem in error.problems]
        else:
            problems.append(
                "neither region nor endpoint is known: set OSS_REGION or region=, for "
                "example cn-hangzhou"
            )
        own_region = parsed.region if parsed else None
        if region and own_region and region != own_region:
            problem = f"region {region} does not fit the endpoint's region {own_region}"
            problems.append(problem)
        if parsed and not (region or own_region or version == "v1"):
            problem = f"the endpoint {parsed.host} does not tell its region"
            problems.append(f"{problem}: set OSS_REGION or region=")
        if problems or parsed is None:
            raise ConfigurationError(problems)
        return cls(
            credentials=credentials or environment_credentials,
            endpoint=parsed,
            region=region or own_region,
            version=version,
            expires_in=expires_in,
        )

    @property
    def waits(self) -> bool:  # type: ignore[override]  # the value depends on the credentials
        return self.credentials is not environment_credentials

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        credentials = self.credentials()
        return [self._sign(credentials, operation) for operation in operations]

    def sign_at_once(self, operation: Operation) -> SignedRequest | None:
        """Sign *operation* if a similar one was signed in this second; else return None.

        Similar operations differ only in their keys. So credentials are read once a
        second, and only the key must be checked now.
        """
        now = self.clock()
        known = self._templates.get(_kind(operation))
        if known is None or known.second != int(now) or check_key(operation.key):
            return None
        return SignedRequest(
            method=known.method,
            url=known.template.url(operation.key),
            headers=known.headers,
            issued_at=now,
            expires_at=known.expires_at,
        )

    def invalidate(self, refused: SignedRequest) -> None:
        del refused
        self._templates.clear()

    def _learn(
        self, operation: Operation, request: PresignRequest, signed: SignedRequest
    ) -> None:
        lower = {name.lower() for name in signed.headers}
        depends = (
            operation.action.spec.parameters or operation.query or not operation.key
        )
        if self.version == "v1" or depends or lower & _ON_DEMAND:
            return
        kind, second = _kind(operation), int(signed.issued_at)
        known = self._templates.get(kind)
        if known is not None and known.second == second:
            return
        if len(self._templates) >= _MAX_KINDS:
            self._templates.clear()
        self._templates[kind] = _Template(
            template=request.template(),
            second=second,
            method=signed.method,
            headers=signed.headers,
            expires_at=signed.expires_at,
        )

    def _sign(self, credentials: Credentials, operation: Operation) -> SignedRequest:
        now = self.clock()
        life = self.expires_in if operation.expires_in is None else operation.expires_in
        if credentials.expires_at is not None:
            remaining = int(credentials.expires_at) - int(now)
            if remaining < 1:
                msg = "the temporary access key has expired: get a new one"
                raise SignerError(msg, path=operation.path, action=operation.action)
            life = min(life, remaining)
        headers = _signed_headers(operation)
        extra = [n for n in headers if not is_always_signed(n.lower())]
        request = PresignRequest(
            credentials,
            self.endpoint,
            method=operation.action.method,
            bucket=operation.bucket,
            key=operation.key,
            headers=headers,
            query={**operation.query, **operation.parameters},
            version=self.version,
            region=self.region,
            now=now,
            expires_in=life,
            additional_headers=() if self.version == "v1" else extra,
        )
        problems = [
            *(f"{operation.action} {text}" for text in _misfits(operation, headers)),
            *self._unkept(operation, headers),
            *self._unbound(operation),
            *request.problems(),
        ]
        if problems:
            raise ConfigurationError(problems, path=operation.path)
        signed = SignedRequest(
            method=operation.action.method,
            url=request.url(),
            headers=headers,
            issued_at=now,
            expires_at=float(int(now) + life),
        )
        self._learn(operation, request, signed)
        return signed

    def _unbound(self, operation: Operation) -> Iterator[str]:
        if self.endpoint.style != "cname":
            return
        host, bucket = self.endpoint.host, operation.bucket
        first = self._bound.setdefault(host, bucket)
        if first != bucket:  # the host is the custom domain of another bucket
            yield (
                f"{host} is the domain of one bucket, and {first!r} was used first: "
                f"use another filesystem for {bucket!r}, with its own endpoint"
            )

    def _unkept(self, operation: Operation, headers: Mapping[str, str]) -> list[str]:
        required = {n.lower(): v for n, v in headers.items() if n.lower() in _ON_DEMAND}
        problems: list[str] = []
        if not required:
            return problems
        if self.version == "v1":
            problems += [f"V1 cannot sign the header {n}: use v4" for n in required]
        length = operation.content_length or 0
        if required.get("content-length") not in (None, str(length)):
            problems.append(
                f"the required Content-Length is not the body's size: {length}"
            )
        host = self.endpoint.netloc(operation.bucket)
        if required.get("host") not in (None, host):
            problems.append(f"the required Host is not the host of the URL: {host}")
        return problems


def _signed_headers(operation: Operation) -> dict[str, str]:
    required, optional = operation.headers, operation.optional_headers
    if not optional:
        return {**required}
    excluded = _ON_DEMAND | {name.lower() for name in required}
    added = {n: value for n, value in optional.items() if n.lower() not in excluded}
    return {**added, **required}


def _misfits(operation: Operation, headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the problems of *operation*, such as "needs a key"."""
    spec, number = operation.action.spec, operation.part_number
    if spec.upload_id and not operation.upload_id:
        yield "needs the upload_id"
    if not spec.upload_id and operation.upload_id is not None:
        yield "takes no upload_id"
    if spec.part_number and not (number and 1 <= number <= MAX_PARTS):
        yield f"needs a part_number of 1..{MAX_PARTS}"
    if not spec.part_number and number is not None:
        yield "takes no part_number"
    if spec.on_bucket and operation.key:
        yield "takes no key: use the parameter prefix"
    if not spec.on_bucket and not operation.key:
        yield "needs a key"
    sources = (v for n, v in headers.items() if n.lower() == COPY_SOURCE)
    if spec.copies and not next(sources, ""):
        # without a source, the URL would permit an upload
        yield f"needs the header {COPY_SOURCE}"
    if spec.form:
        yield "is not a URL: its policy is signed as a form"
    reserved = operation.query.keys() & _OWN if operation.query else ()
    for name in sorted(reserved):
        yield f"takes no query parameter {name}: it belongs to the signer"


def key_signer(options: Any, *_: object) -> KeySigner:
    return KeySigner.from_options(
        region=options.region,
        endpoint=options.endpoint,
        version=options.signature_version,
        expires_in=options.expires_in,
        style=options.addressing_style,
    )
