"""The policy file of the signer service: TOML text read into frozen values."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from attrs import define, field, frozen

from .endpoint import Endpoint, check_bucket
from .errors import ConfigurationError
from .grants import (
    ACL_HEADER,
    COPIES,
    NAMED_ONLY,
    PLAIN_HEADERS,
    SOURCE_HEADER,
    Policy,
    hash_token,
)
from .jsondoc import is_int
from .model import Action
from .units import bytes_of, seconds_of

T = TypeVar("T")
D = TypeVar("D")

ENVIRONMENT = "environment"
PROVIDERS = (ENVIRONMENT, "alibabacloud")
_STYLES = ("virtual", "path", "cname")
_ACLS = ("default", "private", "public-read", "public-read-write")
_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_HEADER = re.compile(r"[!#$%&'+.^_`|~0-9a-z-]+\*?")
# RFC 6750, section 2.1: b64token. Shorter ones could be guessed from their hash.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_MIN_TOKEN, _MAX_TOKEN = 16, 4096
_MAX_SHOWN = 40
_MAX_PER_MINUTE = 1_000_000_000


@frozen(kw_only=True)
class SignerSettings:
    """With what the service signs; None leaves it to the environment.

    Attributes:
        region: for example ``cn-hangzhou``.
        endpoint: host or URL.
        style: ``virtual``, ``path`` or ``cname``.
        credentials: ``environment`` or ``alibabacloud``.
    """

    region: str | None = None
    endpoint: str | None = None
    style: str | None = None
    credentials: str = ENVIRONMENT


@frozen(kw_only=True)
class Policies:
    """All that a policy file says.

    Attributes:
        signer: with what is signed.
        tokens: SHA-256 of a bearer token in lower-case hex -> what its bearer may have.
    """

    signer: SignerSettings
    tokens: Mapping[str, Policy] = field(repr=False)


def token_problem(token: str) -> str | None:
    """Return why *token* is no good bearer token; None if it is one."""
    if len(token) < _MIN_TOKEN:
        return f"has less than {_MIN_TOKEN} characters: make one with openssl rand"
    if len(token) > _MAX_TOKEN or not _TOKEN.fullmatch(token):
        return "is not what RFC 6750 allows: letters, digits and ._~+/- in one line"
    return None


def parse_policies(text: str) -> Policies:
    """Read the text of a policy file.

    Raises:
        ConfigurationError: every mistake with its place, ``tokens[2].actions[0]``.
    """
    try:
        document = tomllib.loads(text)
    except RecursionError:
        msg = "the policy is not TOML that can be read: it is nested too deeply"
        raise ConfigurationError(msg) from None
    except ValueError as error:
        msg = f"the policy is not TOML: {error}"
        raise ConfigurationError(msg) from None
    problems: list[str] = []
    top = _Table(document, "", problems)
    signer = _signer(_Table(top.get("signer", _table, {}), "signer", problems))
    tokens: dict[str, Policy] = {}
    names: dict[str, str] = {}
    for index, entry in enumerate(top.get("tokens", _tables, [], required=True)):
        table = _Table(entry, f"tokens[{index}]", problems)
        known = table.get("sha256", _hash, "", required=True)
        policy = _policy(table)
        if known in tokens:
            table.wrong("sha256", f"is that of {tokens[known].name!r} too")
        if policy.name in names:
            table.wrong("name", f"is that of {names[policy.name]} too")
        if known:
            tokens[known] = policy
        if policy.name:
            names.setdefault(policy.name, table.place)
    top.end()
    if problems:
        raise ConfigurationError(problems)
    return Policies(signer=signer, tokens=tokens)


class _Mistakes(Exception):  # noqa: N818 - never leaves this module
    """Says what is wrong with a value: pairs of a place in it and a text."""

    def __init__(self, *found: tuple[str, str]) -> None:
        super().__init__()
        self.found = found


def _wrong(text: str) -> _Mistakes:
    return _Mistakes(("", text))


@define
class _Table:
    """Reads the members of one table, and notes every mistake with its place."""

    members: Mapping[str, Any]
    place: str
    problems: list[str]
    asked: list[str] = field(factory=list)

    def get(
        self,
        name: str,
        convert: Callable[[Any], T],
        default: D,
        *,
        required: bool = False,
    ) -> T | D:
        """Return the converted member; *default* where it is missing or wrong."""
        self.asked.append(name)
        if name not in self.members:
            if required:
                self.wrong(name, "is missing")
            return default
        try:
            return convert(self.members[name])
        except _Mistakes as mistakes:
            for at, text in mistakes.found:
                self.wrong(name + at, text)
            return default

    def wrong(self, name: str, text: str) -> None:
        """Note a mistake in the member *name*."""
        place = f"{self.place}.{name}" if self.place else name
        self.problems.append(f"{place} {text}")

    def end(self) -> None:
        """Note the members that nobody asked for."""
        for name in self.members:
            if name not in self.asked:
                near = difflib.get_close_matches(name, self.asked, 1)
                hint = f": did you mean {near[0]}?" if near else ""
                self.wrong(name[:_MAX_SHOWN], f"is not known{hint}")


def _signer(table: _Table) -> SignerSettings:
    style = table.get("style", _one_of(_STYLES), None)
    settings = SignerSettings(
        region=table.get("region", _text, None),
        endpoint=table.get("endpoint", _text, None),
        style=style,
        credentials=table.get("credentials", _one_of(PROVIDERS), ENVIRONMENT),
    )
    if settings.endpoint is not None:
        try:
            Endpoint.parse(settings.endpoint, style=style)
        except ConfigurationError as error:
            for problem in error.problems:
                table.wrong("endpoint", f"is wrong: {problem}")
    table.end()
    return settings


def _policy(table: _Table) -> Policy:
    buckets = table.get("buckets", _list(_bucket), [], required=True)
    prefixes = table.get("prefixes", _list(_prefix), [], required=True)
    headers = table.get("headers", _list(_header, least=0), None)
    acls = table.get("acls", _list(_one_of(_ACLS), least=0), [])
    classes = table.get("storage_classes", _list(_one_of(_CLASSES), least=0), None)
    sources = table.get("copy_sources", _list(_source, least=0), None)
    named = NAMED_ONLY.intersection(headers or ())
    policy = Policy(
        name=table.get("name", _name, "", required=True),
        prefixes=[f"{bucket}/{prefix}" for bucket in buckets for prefix in prefixes],
        actions=table.get("actions", _list(_action), [], required=True),
        max_expires_in=table.get("max_expires", _life, 3600),
        headers=named | ({ACL_HEADER} if acls else set()),
        allowed_headers=None if headers is None else frozenset(headers),
        storage_classes=None if classes is None else frozenset(classes),
        acls=frozenset(acls),
        copy_sources=None if sources is None else tuple(sources),
        max_size=table.get("max_size", _size, None),
        max_part_size=table.get("max_part_size", _size, None),
        overwrite=table.get("overwrite", _flag, default=True),
        requests_per_minute=table.get("requests_per_minute", _count, None),
    )
    _check_together(policy, table)
    table.end()
    return policy


def _check_together(policy: Policy, table: _Table) -> None:
    """Note what is right by itself, and cannot be kept with the rest."""
    if policy.copy_sources is not None and not policy.actions & COPIES:
        table.wrong("copy_sources", "is of no use: actions name no copy")
    if policy.max_size is None:
        if policy.max_part_size is not None:
            table.wrong("max_part_size", "is of no use without max_size")
        return
    if Action.UploadPart in policy.actions and policy.max_part_size is None:
        table.wrong("max_part_size", "is missing: max_size and UploadPart need it")
    for action in sorted(policy.actions & COPIES):
        table.wrong("max_size", f"cannot be kept by {action}: nobody signs its size")


def _table(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("must be a table")
    return value


def _tables(value: Any) -> Sequence[Mapping[str, Any]]:
    return _list(_table)(value)


def _list(convert: Callable[[Any], T], least: int = 1) -> Callable[[Any], list[T]]:
    """Return a converter of lists that notes the mistakes of all items."""

    def converter(value: Any) -> list[T]:
        if not isinstance(value, list):
            raise _wrong("must be a list")
        if len(value) < least:
            raise _wrong("must not be empty")
        items = []
        found = []
        for index, item in enumerate(value):
            try:
                items.append(convert(item))
            except _Mistakes as mistakes:
                found += [(f"[{index}]{at}", text) for at, text in mistakes.found]
        if found:
            raise _Mistakes(*found)
        return items

    return converter


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong("must be a string")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong("must be true or false")
    return value


def _count(value: Any) -> int:
    if not is_int(value) or not 1 <= value <= _MAX_PER_MINUTE:
        raise _wrong(f"must be a whole number from 1 to {_MAX_PER_MINUTE}")
    return int(value)


def _life(value: Any) -> int:
    try:
        return seconds_of(f"{value}s" if is_int(value) else _text(value))
    except ValueError:
        raise _wrong('must be seconds, or "15m", "2h", at most "7d"') from None


def _size(value: Any) -> int:
    try:
        size = bytes_of(str(value) if is_int(value) else _text(value))
    except ValueError:
        size = 0
    if size < 1:
        raise _wrong('must be bytes above 0, or "8MiB", "5GiB"')
    return size


def _one_of(known: Sequence[str]) -> Callable[[Any], str]:
    def converter(value: Any) -> str:
        if value not in known:
            raise _wrong(f"must be one of {', '.join(known)}")
        return _text(value)

    return converter


def _hash(value: Any) -> str:
    # What stands here by mistake may be the token itself: it is never shown.
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _wrong("must be 64 hex digits: osspresigned serve --hash-token")
    if value.lower() == hash_token(""):
        raise _wrong("is the hash of nothing")
    return value.lower()


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise _wrong("must be a string that can be printed")
    return value


def _bucket(value: Any) -> str:
    if problem := check_bucket(_text(value)):
        raise _wrong(f"is wrong: {problem}")
    return str(value)


def _prefix(value: Any) -> str:
    if _text(value)[:1] in ("/", "\\"):
        raise _wrong('must not begin with a slash; "" is the whole bucket')
    return str(value)


def _source(value: Any) -> str:
    bucket, slash, prefix = _text(value).partition("/")
    if not slash:
        raise _wrong("must be bucket/ or bucket/begin/of/key")
    return f"{_bucket(bucket)}/{_prefix(prefix)}"


def _action(value: Any) -> Action:
    try:
        return Action(_text(value))
    except ValueError:
        near = difflib.get_close_matches(value, list(Action), 1)
        hint = f": did you mean {near[0]}?" if near else f": use {', '.join(Action)}"
        raise _wrong(f"is no action{hint}") from None


def _header(value: Any) -> str:
    name = _text(value).lower()
    if name.endswith("-acl"):
        raise _wrong("is granted by acls")
    if name.startswith(SOURCE_HEADER):
        raise _wrong("comes with the copies; copy_sources bounds it")
    if name.startswith("x-oss-") and _HEADER.fullmatch(name):
        return name
    if name not in PLAIN_HEADERS:
        known = ", ".join(sorted(PLAIN_HEADERS))
        raise _wrong(f"must be x-oss-..., or one of {known}")
    return name
