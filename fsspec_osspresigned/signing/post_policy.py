"""POST policies: make, sign, parse and check them; the caller passes the time.

A policy is a JSON text in base64. Its signature covers exactly this text, so the text
is never changed. The conditions are those of the API reference, PostObject.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any

from attrs import frozen

from .. import parsing
from ..errors import ConfigurationError
from ..parsing import is_int
from ..secret import HIDDEN, FormValue, Secret
from ..units import oss_moment, shown_moment, shown_text
from .canonical import (
    ALGORITHM,
    MAX_V4_LIFE,
    TERMINATOR,
    Credentials,
    as_secret,
    day_key,
    parse_moment,
    sign_v1,
    sign_v4,
    written_moment,
)
from .presigning import credential_problems, region_problem

RANGE = "content-length-range"
LISTS = ("in", "not-in")
OPERATORS = ("eq", "starts-with", *LISTS, RANGE)
# The V4 fields that a policy must name ("Extra input fields", OSS EC 0006-00000228).
V4_FIELDS = ("x-oss-signature-version", "x-oss-credential", "x-oss-date")
TOKEN_FIELD = "x-oss-security-token"  # noqa: S105 - the name of a field
STATUS_FIELD = "success_action_status"
TYPE_FIELD = "x-oss-content-type"
# Lower-case names of fields with a value that grants access, and of all signature
# fields.
SECRET_FIELDS = frozenset(("policy", "signature", "x-oss-signature", TOKEN_FIELD))
SIGNATURE_FIELDS = SECRET_FIELDS | {"ossaccesskeyid", *V4_FIELDS}
# Fields whose values no message shows, because they are secret or useless to the
# reader.
_UNSHOWN = SECRET_FIELDS | {"x-oss-credential", "ossaccesskeyid", "callback"}
# Field names that do not begin with x-oss-, by their lower-case names.
_SPELLED = {
    name.lower(): name
    for name in (
        *("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Type"),
        *("Expires", "OSSAccessKeyId", "Signature", "bucket", "callback", "file"),
        *("key", "policy", "success_action_redirect", STATUS_FIELD),
    )
}
MAX_CONDITIONS = 1000  # policies need far fewer
_MAX_PROBLEMS = 20
_MAX_DEPTH = 4
_MAX_SHOWN = 200


def form_values(fields: Mapping[str, str]) -> dict[str, Secret]:
    """Return *fields* with values that are hidden in a repr.

    A value that grants access becomes a Secret, any other one a FormValue.
    """
    return {
        name: (Secret if name.lower() in SECRET_FIELDS else FormValue)(value)
        for name, value in fields.items()
    }


class PolicyFault(StrEnum):
    EXPIRED = "expired"
    ABSENT = "field is absent"
    FAILED = "condition failed"
    TOO_SMALL = "too small"
    TOO_LARGE = "too large"
    EXTRA = "field is not named"


@frozen
class PolicyRefusal:
    """One violation of a POST policy by a form."""

    fault: PolicyFault
    text: str  # the text, which contains no secrets
    field: str = ""  # field of the violated condition

    def __str__(self) -> str:
        return self.text


@frozen(repr=False)
class PolicyCondition:
    operator: str  # one of OPERATORS
    field: str  # lower-case form field; ``bucket`` is the bucket of the host
    # one value, or a list of permitted values; empty for a range
    values: tuple[str, ...] = ()
    sizes: tuple[int, int] | None = None  # minimum and maximum in bytes, for a range

    @classmethod
    def range(cls, low: int, high: int) -> PolicyCondition:
        return cls(RANGE, RANGE, sizes=(low, high))

    def as_json(self, *, hidden: bool = False) -> dict[str, str] | list[Any]:
        """Return the condition as in the policy, for JSON; *hidden* omits secrets."""
        if self.sizes is not None:
            return [RANGE, *self.sizes]
        # A dollar sign would begin a variable, such as ${filename}.
        values = [value.replace("$", "\\$") for value in self.values]
        if hidden:
            secret = self.field in _UNSHOWN
            values = [HIDDEN if secret else value for value in self.values]
        if self.operator == "eq":
            return {self.field: values[0]}
        wanted = values if self.operator in LISTS else values[0]
        return [self.operator, f"${self.field}", wanted]

    def __str__(self) -> str:
        """Return the condition as JSON for messages, shortened and without secrets."""
        text = json.dumps(self.as_json(hidden=True), ensure_ascii=False)
        return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."

    def __repr__(self) -> str:
        return f"<PolicyCondition {self}>"

    def allows(self, value: str) -> bool:
        if self.operator == "starts-with":
            return value.startswith(self.values[0])
        return (value in self.values) is not (self.operator == "not-in")

    def refusal(
        self, fields: Mapping[str, str], bucket: str | None, size: int | None
    ) -> PolicyRefusal | None:
        """Return the violation of the condition by a form; None if the form meets it.

        Names in *fields* are lower case. *bucket* and *size* are not checked if they
        are None.
        """
        if self.sizes is not None:
            low, high = self.sizes
            if size is None or low <= size <= high:
                return None
            fault = PolicyFault.TOO_SMALL if size < low else PolicyFault.TOO_LARGE
            text = f"the size of {size} bytes does not meet {self}"
            return PolicyRefusal(fault, text)
        value = bucket if self.field == "bucket" else fields.get(self.field)
        if value is None:
            if self.field == "bucket":
                return None
            text = f"the form has no field {shown_text(self.field)}, which {self} needs"
            return PolicyRefusal(PolicyFault.ABSENT, text, self.field)
        if self.allows(value):
            return None
        shown = "" if self.field in _UNSHOWN else f" {value[:_MAX_SHOWN]!r}"
        text = f"{shown_text(self.field)}{shown} does not meet {self}"
        return PolicyRefusal(PolicyFault.FAILED, text, self.field)


def read_condition(item: Any) -> PolicyCondition | None:
    """Return the condition in *item* of a policy; None if it is invalid."""
    if isinstance(item, dict) and len(item) == 1:
        item = ["eq", *next(iter(item.items()))]
    if not isinstance(item, list) or len(item) != 3:  # noqa: PLR2004 - an operator and two operands
        return None
    operator, name, value = item
    if operator == RANGE:
        is_range = is_int(name) and is_int(value) and 0 <= name <= value
        return PolicyCondition.range(name, value) if is_range else None
    if operator not in OPERATORS or not isinstance(name, str):
        return None
    # OSS does not document names without "$". Here they count as fields, too.
    field = name.removeprefix("$").lower()
    values = value if operator in LISTS else [value]
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        return None
    if not field or (field == "bucket" and operator != "eq"):
        return None
    texts = tuple(v.replace("\\$", "$") for v in values)
    return PolicyCondition(operator, field, texts)


@frozen
class PostPolicy:
    text: Secret  # the base64 text that is sent
    expires_at: float  # seconds since the epoch
    conditions: tuple[PolicyCondition, ...]

    @classmethod
    def parse(cls, text: str | Secret) -> PostPolicy:
        """Return the policy in the base64 *text*; ConfigurationError lists all problems."""
        text = as_secret(text)
        expires_at, conditions, problems = _read(text)
        if problems:
            del conditions
            raise ConfigurationError(problems)
        return cls(text, expires_at, conditions)

    def end(self, fields: Mapping[str, str]) -> float:
        """Return the time at which the form *fields* expire, seconds since the epoch.

        A V4 signature expires 7 days after its date, even if the policy expires later.
        """
        signed_at = parse_moment(lower_names(fields).get("x-oss-date", ""))
        if signed_at is None:
            return self.expires_at
        return min(self.expires_at, signed_at + MAX_V4_LIFE)

    def judge(
        self,
        fields: Mapping[str, str],
        *,
        bucket: str | None,
        size: int | None,
        now: float,
    ) -> list[PolicyRefusal]:
        """Return every reason to refuse a form, in the order of the conditions.

        *fields* are all fields before the file, with names in upper or lower case.
        *bucket* and *size* (in bytes) are not checked if they are None. *now* is in
        seconds since the epoch.
        """
        lower = lower_names(fields)
        refusals = []
        if now >= (end := self.end(lower)):
            text = f"the policy expired at {shown_moment(end)}"
            refusals.append(PolicyRefusal(PolicyFault.EXPIRED, text))
        checks = (c.refusal(lower, bucket, size) for c in self.conditions)
        refusals += filter(None, checks)
        named = self._by_field
        if extra := [n for n in V4_FIELDS if n in lower and n not in named]:
            text = f"the policy does not name the fields {', '.join(extra)}, as V4 must"
            refusals.append(PolicyRefusal(PolicyFault.EXTRA, text))
        return refusals

    def named(self, name: str) -> list[PolicyCondition]:
        """Return the conditions on the form field *name* (lower case)."""
        return self._by_field.get(name, [])

    @cached_property
    def _by_field(self) -> dict[str, list[PolicyCondition]]:
        by_field: dict[str, list[PolicyCondition]] = {}
        for condition in self.conditions:
            by_field.setdefault(condition.field, []).append(condition)
        return by_field

    def describe(self) -> dict[str, Any]:
        """Return facts about the policy for JSON, without secrets."""
        return {
            "expires": shown_moment(self.expires_at),
            "conditions": [c.as_json(hidden=True) for c in self.conditions],
        }


def lower_names(fields: Mapping[str, str]) -> dict[str, str]:
    """Return *fields* with names in lower case, as OSS compares them."""
    return {name.lower(): value for name, value in fields.items()}


def _read(text: Secret) -> tuple[float, tuple[PolicyCondition, ...], list[str]]:
    """Return expiry time, conditions and problems of a policy.

    No exception is raised, because its traceback would show a secret.
    """
    try:
        data = base64.b64decode(text.reveal().encode(), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return 0, (), ["the policy is not base64"]
    try:
        document = parsing.loads(_without_escaped_dollars(data), max_depth=_MAX_DEPTH)
    except ValueError as error:
        return 0, (), [f"the policy is {error}"]
    if not isinstance(document, dict):
        return 0, (), [f"the policy is {parsing.kind(document)}, not an object"]
    problems = [
        f"the policy has the unknown key {name[:40]!r}"
        for name in document.keys() - {"expiration", "conditions"}
    ]
    expiration, items = document.get("expiration"), document.get("conditions")
    expires_at = parsing.moment(expiration) if isinstance(expiration, str) else None
    if expires_at is None:
        rule = "a time in GMT such as 2026-11-27T10:00:00Z"
        problems.append(f"the expiration of the policy is not {rule}")
    if not isinstance(items, list) or not items:
        problems.append("the policy has no list of conditions")
        items = []
    if len(items) > MAX_CONDITIONS:
        problem = f"the policy has {len(items)} conditions"
        return 0, (), [*problems, f"{problem}: {MAX_CONDITIONS} are read"]
    read = [read_condition(item) for item in items]
    wrong = [f"conditions[{index}]" for index, c in enumerate(read) if c is None]
    if wrong:
        shown = ", ".join(wrong[:_MAX_PROBLEMS])
        problems.append(f"OSS does not know {shown} of the policy")
    conditions = tuple(filter(None, read))
    return expires_at or 0, conditions, problems


def _without_escaped_dollars(data: bytes) -> bytes:
    r"""Return *data* with ``$`` for ``\$``, which OSS accepts, but JSON does not."""
    pieces = data.split(b"\\\\")
    return b"\\\\".join(piece.replace(b"\\$", b"$") for piece in pieces)


def policy_text(conditions: Iterable[PolicyCondition], *, expires_at: float) -> str:
    """Return a policy as base64.

    *expires_at* is in seconds since the epoch, and is cut to whole seconds.
    """
    document = {
        "expiration": oss_moment(expires_at),
        "conditions": [condition.as_json() for condition in conditions],
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def post_signature(
    secret: Secret, text: str, *, day: str = "", region: str | None = None
) -> str:
    """Return the signature of a policy: V4 for *region* and *day*, else V1."""
    if region is None:
        return sign_v1(secret, text)
    return sign_v4(day_key(secret, day, region), text)


def signature_conditions(
    credentials: Credentials, *, version: str, region: str | None, now: float
) -> list[PolicyCondition]:
    """Return the conditions that a policy of :func:`sign_policy` must have; none for V1."""
    fields = _signature_fields(credentials, version, region, now)
    if version == "v1":
        # OSS does not document whether V1 needs a condition for the token
        return []
    return [PolicyCondition("eq", name, (value,)) for name, value in fields.items()]


def sign_policy(
    credentials: Credentials,
    text: str | Secret,
    *,
    version: str = "v4",
    region: str | None = None,
    now: float,
) -> dict[str, str]:
    """Return the form fields of a signed policy, in the order in which they are sent.

    *text* is a result of :func:`policy_text`. *now* is in seconds since the epoch. V4
    needs *region* (without ``oss-``), and *text* must contain
    :func:`signature_conditions` for the same *now*.

    Raises ConfigurationError, which lists all reasons, if a key or the region is invalid.
    """
    problems = [*credential_problems(credentials)]
    if version != "v1" and (problem := region_problem(region)):
        problems.append(problem)
    if problems:
        raise ConfigurationError(problems)
    own = _signature_fields(credentials, version, region, now)
    secret, text = credentials.access_key_secret, as_secret(text).reveal()
    if version == "v1":
        first = {"OSSAccessKeyId": credentials.access_key_id, "policy": text}
        return {**first, "Signature": post_signature(secret, text), **own}
    day = own["x-oss-date"][:8]
    signature = post_signature(secret, text, day=day, region=region)
    return {"policy": text, **own, "x-oss-signature": signature}


def _signature_fields(
    credentials: Credentials, version: str, region: str | None, now: float
) -> dict[str, str]:
    token = credentials.security_token
    tokens = {} if token is None else {TOKEN_FIELD: token.reveal()}
    if version == "v1":
        return tokens
    moment = written_moment(int(now))
    scope = f"{moment[:8]}/{region}/oss/{TERMINATOR}"
    values = (ALGORITHM, f"{credentials.access_key_id}/{scope}", moment)
    return {**dict(zip(V4_FIELDS, values, strict=True)), **tokens}


def spelled(name: str) -> str:
    """Return the name of a form field in OSS's spelling."""
    lower = name.lower()
    return lower if lower.startswith("x-oss-") else _SPELLED.get(lower, name)


def pinned_fields(conditions: Iterable[PolicyCondition]) -> dict[str, str]:
    """Return the fields with one permitted value, except bucket, key and signature."""
    return {
        spelled(c.field): c.values[0]
        for c in conditions
        if c.operator in ("eq", "in")
        and len(c.values) == 1
        and c.field not in SIGNATURE_FIELDS | {"bucket", "key"}
    }
