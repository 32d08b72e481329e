"""Why a store refused a request, as values: what programs read, and what people read."""

from __future__ import annotations

import enum

from attrs import frozen


class Refused(enum.StrEnum):
    """The reason of a refusal."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    CLOCK_SKEW = "clock skew"
    TOKEN_ENDED = "token ended"  # noqa: S105 - the name of a reason
    TOKEN_INVALID = "token invalid"  # noqa: S105 - the name of a reason
    WRONG_REGION = "wrong region"
    DENIED = "denied"
    KEY_DISABLED = "key disabled"
    UNKNOWN_KEY = "unknown key"
    MISMATCH = "signature mismatch"


@frozen(kw_only=True)
class Explanation:
    """One refusal, explained. It never holds a signature, a token or a key.

    Attributes:
        reason: the case.
        cause: one sentence on what happened.
        remedy: what to do about it.
        differences: for ``Refused.MISMATCH``, what provably differs, one line each; empty
            if what the store received is what was sent, or if it does not say.
        clock_offset: seconds that this machine's clock is ahead of the store's,
            negative if it is behind; None if the store never told its time.
    """

    reason: Refused
    cause: str
    remedy: str
    differences: tuple[str, ...] = ()
    clock_offset: float | None = None

    def __str__(self) -> str:
        """Return cause and remedy as one line."""
        return f"{self.cause}: {self.remedy}"
