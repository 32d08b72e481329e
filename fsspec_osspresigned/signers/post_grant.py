"""Signer for a grant: one signed POST policy for all objects that the policy allows."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from io import BytesIO
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from attrs import define, evolve, frozen

from ..errors import (
    ConfigurationError,
    NetworkError,
    NotCoveredError,
    SignerError,
    SignerUnavailableError,
    WrongRequestSignedError,
)
from ..model import Action, Operation, Reply, SignedRequest
from ..secret import HiddenMapping, SecretURL
from ..url_checks import http_problem, service_problem
from ..url_map.source import FileSource, load_file
from .base import Grant, Signer
from .http import SignerExchange, TokenSource, service_exchange, token_source
from .post_form import check_acl, check_path, sign_form
from .post_grant_parser import MAX_GRANT, PostGrant, parse_grant, read_grant
from .wire_protocol import (
    URLBinding,
    bearer,
    problem_of_reply,
    signer_error,
    without_token,
)

_ONE_FORM = Grant(single=True, multipart=None, action=Action.PostObject)
# Seconds for which the server is not asked again. The pause begins when it returned an
# old grant, or did not answer while a grant was valid.
_PAUSE = 5.0


@frozen
class HeldGrant:
    grant: PostGrant
    issued_at: float  # time when the grant was received, seconds since the epoch
    fetched: bool  # True if a server sent it; a server is trusted less than a file


Held = TypeVar("Held", bound=HeldGrant)


@define(eq=False, repr=False)
class LocalGrant:
    """A grant from a file or from another local source."""

    file: FileSource[PostGrant]
    allow_http: bool = False
    clock: Callable[[], float] = time.time

    def __attrs_post_init__(self) -> None:
        self.current()

    @property
    def waits(self) -> bool:
        """True if the file has changed, so that ``current`` would read it again."""
        return self.file.has_changed

    def current(self) -> HeldGrant:
        grant, local = self.file.current(), self.file.local
        problem = http_problem(grant.url, allow_http=self.allow_http, local=local)
        if problem:
            raise ConfigurationError(
                f"the grant for {grant.bucket!r}: its host {problem}"
            )
        return HeldGrant(grant, self.clock(), fetched=False)

    def drop(self, issued_at: float) -> None:
        """Do nothing, because ``current`` reads a changed file again."""


class RenewedGrant(Generic[Held]):
    """A grant that *fetch* returns; *fetch* is called again before the grant expires.

    The argument of *fetch* is the time in seconds since the epoch.
    """

    waits = True  # ``current`` may ask the server

    def __init__(
        self, fetch: Callable[[float], Held], clock: Callable[[], float]
    ) -> None:
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._held: Held | None = None
        # the server is not asked again until *_PAUSE* seconds later
        self._asked_at = -_PAUSE

    def current(self) -> Held:
        """Return the current grant; call *fetch* if there is none or it expires soon.

        Raises:
            SignerUnavailableError: the server cannot be reached, and no grant is valid.
            Exception: any other error of *fetch*, such as SignerError for a reply that is
                not a grant, or WrongRequestSignedError for a host that is not
                permitted.
        """
        # This check needs no lock, because another thread holds the lock while it
        # fetches a grant.
        if (usable := self._in_hand(self._clock())) is not None:
            return usable
        with self._lock:
            now = self._clock()
            if (usable := self._in_hand(now)) is not None:
                return usable
            held, asked_at = self._held, now
            try:
                held = self._held = self._fetch(now)
            except SignerUnavailableError:
                if held is None or held.grant.expires_at <= now:
                    raise
                asked_at = min(now, held.grant.expires_at - _PAUSE)
            self._asked_at = asked_at
            return held

    def _in_hand(self, now: float) -> Held | None:
        """Return the last grant; None if there is none, or it expires soon.

        Shortly after a call to the server, a grant that expires soon is returned, too.
        """
        held = self._held
        if held is None or 0 <= now - self._asked_at < _PAUSE:
            return held
        # The same rule applies to every signed request.
        life = held.grant.expires_at - held.issued_at
        return held if held.grant.expires_at - now >= min(30.0, life / 4) else None

    def drop(self, issued_at: float) -> None:
        """Forget the grant, unless it was fetched after *issued_at*."""
        with self._lock:
            if self._held is not None and self._held.issued_at <= issued_at:
                self._held = None


class FetchedGrant(RenewedGrant[HeldGrant]):
    """A grant from a server, which returns it to a call without a body.

    Args:
        url: URL of the server, with an optional query.
        token: reads the bearer token; called again once if the token is refused.
        allowed_hosts: further permitted hosts of forms, host -> its bucket; None for
            any bucket.
        allow_http: permits plain http to other machines.
    """

    def __init__(
        self,
        url: str,
        *,
        exchange: SignerExchange,
        token: TokenSource = lambda: None,
        allowed_hosts: Mapping[str, str | None] | None = None,
        allow_http: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(self._fetched, clock)
        self._url = SecretURL(url)
        del url
        text = self._url.reveal
        if problem := service_problem(text(), allow_http=allow_http):
            raise ConfigurationError(f"grant={self._url.shown()!r} {problem}")
        self._host = urlsplit(text()).hostname or ""
        self._exchange = exchange
        self._token = token
        self._allowed = dict(allowed_hosts or {})
        self._binding = URLBinding(
            signer_host=self._host, allowed_hosts=self._allowed, allow_http=allow_http
        )

    def _fetched(self, now: float, *, reread: bool = True) -> HeldGrant:
        token = self._token()
        try:
            # The headers contain the token. No variable of a frame may hold them,
            # because a traceback could show it.
            headers = {"Accept": "application/json"}
            reply = self._exchange(
                "GET", self._url, HiddenMapping(headers | bearer(token)), b"", MAX_GRANT
            )
        except NetworkError as error:
            text = f"no answer from the server of the grant at {self._host}: {error.message}"
            raise SignerUnavailableError(text) from None
        if reply.status == HTTPStatus.UNAUTHORIZED and reread and token is not None:
            return self._fetched(now, reread=False)
        reply = without_token(reply, token)
        if reply.status != HTTPStatus.OK:
            raise self._refusal(reply)
        return HeldGrant(self._read(reply), now, fetched=True)

    def _refusal(self, reply: Reply) -> SignerError:
        problem = problem_of_reply(reply)
        text = f"the server of the grant at {self._host} answered HTTP {reply.status}"
        if problem.detail:
            text += f" ({problem.detail})"
        if reply.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            text += ": check signer_token="
        elif reply.status // 100 == 3:  # noqa: PLR2004 - HTTP status class
            text += ": redirects are not followed, give its final URL"
        return signer_error(reply.status)(
            text, status=reply.status, retry_after=problem.retry_after
        )

    def _read(self, reply: Reply) -> PostGrant:
        try:
            grant = parse_grant(BytesIO(reply.body), allowed_hosts=self._allowed)
        except ConfigurationError as error:
            media = reply.headers.get("content-type", "").partition(";")[0][:40]
            about = f" but {media}" if media and "json" not in media else ""
            text = f"the server at {self._host} did not return a grant{about}"
            raise SignerError(f"{text}: {'; '.join(error.problems)}") from None
        operation = Operation(action=Action.PostObject, bucket=grant.bucket)
        if problem := self._binding.problem(operation, grant.url):
            text = f"the grant from the server at {self._host} is refused: {problem}"
            raise WrongRequestSignedError(text)
        return grant


@define(eq=False, repr=False)
class PostGrantSigner(Signer):
    """Signer that makes forms of PostObject from the grant of *source*."""

    source: LocalGrant | FetchedGrant
    clock: Callable[[], float] = time.time

    @property
    def waits(self) -> bool:  # type: ignore[override]  # the value depends on the source
        return self.source.waits

    def sign(self, operations: Sequence[Operation]) -> Sequence[SignedRequest]:
        return [self._sign(operation) for operation in operations]

    def _sign(self, operation: Operation) -> SignedRequest:
        if operation.action is not Action.PostObject:
            text = f"{operation}: a grant can only store whole new objects"
            remedy = "for other calls, give signer= or url_map= as well"
            raise NotCoveredError(
                f"{text}; {remedy}", path=operation.path, action=operation.action
            )
        held = self._held(operation.path)
        if held.fetched:
            check_acl(held.grant.fields, operation)
        issued_at = held.issued_at
        return sign_form(held.grant, operation, self.clock(), issued_at=issued_at)

    def _held(self, path: str) -> HeldGrant:
        try:
            return self.source.current()
        except SignerError as error:
            failure = error
        failure.path = failure.filename = path
        raise failure

    def grant(self, path: str) -> Grant:
        try:
            grant = self._held(path).grant
        except SignerUnavailableError:  # ``sign`` asks the server again
            return _ONE_FORM
        check_path(grant, path, self.clock())
        return evolve(_ONE_FORM, largest=grant.largest, expires_at=grant.expires_at)

    def preflight(self, operation: Operation) -> None:
        with contextlib.suppress(SignerUnavailableError):
            self._sign(operation)

    def invalidate(self, refused: SignedRequest) -> None:
        self.source.drop(refused.issued_at)


def fetched_grant_signer(options: Any, _: object) -> PostGrantSigner:
    return PostGrantSigner(
        FetchedGrant(
            options.grant,
            exchange=service_exchange(options),
            token=token_source(options.signer_token),
            allowed_hosts=options.allowed_hosts,
            allow_http=options.allow_http,
        )
    )


def local_grant_signer(options: Any, opener: Callable[[str], bytes]) -> PostGrantSigner:
    hosts, allow_http = options.allowed_hosts, options.allow_http
    if isinstance(options.grant, Mapping):
        grant = read_grant(options.grant, allowed_hosts=hosts)
        file = FileSource(lambda: grant, path=None, local=True, kind="grant")
    else:
        file = load_file(
            options.grant,
            functools.partial(parse_grant, allowed_hosts=hosts),
            opener,
            allow_http=allow_http,
            kind="grant",
            option="grant",
        )
    return PostGrantSigner(LocalGrant(file, allow_http))
