"""The axes of the fault matrix: what goes wrong, in which upload, by which signer."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from fsspec_osspresigned.emulator import Fault
from fsspec_osspresigned.errors import Outcome
from fsspec_osspresigned.model import MIN_PART as PART

PATIENT, HASTY = 20.0, 0.6  # seconds without progress; the latter to meet stalls
HOUR = 3600
# What the page says instead of an outcome.
VARIES = "stored, or an error with the correct outcome"
RACES = "an error, not stored or unknown (it is not)"


def noise(seed: str, size: int) -> bytes:
    """Return bytes that are the same in every run."""
    return random.Random(seed).randbytes(size)  # noqa: S311 - repeatable


SMALL = noise("small", 60_000)
LARGE = noise("large", 2 * PART + 7)

# Where it goes wrong -> the call that is struck, and the part.
PUT = "The one PUT"
FORM = "The one form, PostObject"
INITIATE = "InitiateMultipartUpload"
A_PART = "UploadPart, the second of three"
COMPLETE = "CompleteMultipartUpload"
STEPS: Mapping[str, tuple[str, int | None]] = {
    PUT: ("PutObject", None),
    FORM: ("PostObject", None),
    INITIATE: (INITIATE, None),
    A_PART: ("UploadPart", 2),
    COMPLETE: (COMPLETE, None),
}
MANY = "`pipe` of many"  # the fault strikes one of them
NEIGHBOURS = 6  # the others of them
WAYS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys((PUT, FORM), ("`put_file`", "`pipe`", MANY)),
    **dict.fromkeys((INITIATE, A_PART, COMPLETE), ("`put_file`", "`open`")),
}
KEYS, MAP, SERVICE, GRANT = "keys", "URL map", "service", "grant"
_URLS = (KEYS, MAP, SERVICE)
SIGNERS: Mapping[str, tuple[str, ...]] = {
    PUT: _URLS,
    FORM: (GRANT,),
    INITIATE: (KEYS, SERVICE),  # the owner of a map has done that
    A_PART: _URLS,
    COMPLETE: _URLS,
}
# Who cannot find out whether the call has published.
BLIND = {(MAP, PUT), (SERVICE, PUT), (SERVICE, COMPLETE), (GRANT, FORM)}
OFTEN: Mapping[str, int | None] = {"once": 1, "always": None}
AT_ONCE = (PUT, FORM)
WITH_BODY = (*AT_ONCE, A_PART, COMPLETE)
IN_PARTS = (A_PART, COMPLETE)
ALL = (*AT_ONCE, A_PART)


@frozen
class Trouble:
    """What goes wrong.

    Attributes:
        members: of the fault; None if there is none.
        steps: where it can.
        anywhere: it strikes all calls; *steps* only say how large the object is.
        offset: seconds that the store's clock is ahead.
        varies: what comes of it depends on chance; only its truth is checked.
        then: what strikes all further tries; None for the same again.
    """

    members: Mapping[str, Any] | None
    steps: tuple[str, ...] = tuple(STEPS)
    anywhere: bool = False
    offset: float = 0.0
    varies: bool = False
    then: Mapping[str, Any] | None = None

    @property
    def lasts(self) -> bool:
        """True if the fault cannot occur just once."""
        return self.anywhere or self.then is not None

    @property
    def races(self) -> bool:
        """True if the request may or may not be sent completely before the fault."""
        members = self.members or {}
        return "cut_after" in members or members == {"reset": True}


def _all(**members: Any) -> Trouble:
    return Trouble(members)


def _body(**members: Any) -> Trouble:
    return Trouble(members, WITH_BODY)


def _clock(offset: float) -> Trouble:
    return Trouble(None, ALL, anywhere=True, offset=offset)


def _lost(**then: Any) -> Trouble:
    return Trouble({"drop_reply": True}, WITH_BODY, then=then)


TROUBLES: Mapping[str, Trouble] = {
    "request cut before its body": _all(cut_after=0),
    "request cut in its body": _body(cut_after=300),
    "request cut after its last byte": _all(cut_after=10**9),
    "request cut in its body by a reset": _body(cut_after=300, reset=True),
    "immediate reset": _all(reset=True),
    "reset of each reused connection": Trouble(
        {"reset": True, "reused": True}, ALL, anywhere=True, varies=True
    ),
    "request stalls before its body": _all(stall_after=0),
    "request stalls in its body": _body(stall_after=300),
    "slow both ways": _all(bytes_per_second=2_000_000),
    "no reply, but executed": _all(drop_reply=True),
    "reset instead of a reply, but executed": _all(drop_reply=True, reset=True),
    "no reply, but executed; then immediate resets": _lost(reset=True),
    "no reply, but executed; then 403 policy": _lost(refuse="denied"),
    "no reply, but executed; then 403 expired": _lost(refuse="expired"),
    "no reply, but executed; then 503": _lost(status=503),
    "reply cut in its first line": _all(cut_reply_after=10),
    "reply cut in its head": _all(cut_reply_after=60),
    "reply cut before its last byte": _all(cut_reply_after=-1),
    "reply stalls before its first byte": _all(stall_reply_after=0),
    "reply stalls in its head": _all(stall_reply_after=60),
    "reply stalls before its last byte": _all(stall_reply_after=-1),
    "connection closed after the reply": _all(hang_up=True),
    "late reply": _all(delay=0.05),
    "interim 100, 102 and 103": _all(interim=(100, 102, 103)),
    "500": _all(status=500),
    "500, but executed": _all(status=500, acts=True),
    "502, but executed": _all(status=502, acts=True),
    "503": _all(status=503),
    "503 with `Retry-After: 0`": _all(status=503, retry_after=0),
    "503 before the body is read": _all(status=503, early_after=0),
    "501": _all(status=501),
    "429": _all(status=429),
    "500 for three calls of ten": Trouble(
        {"status": 500, "rate": 0.3, "seed": 3}, ALL, anywhere=True, varies=True
    ),
    "400 RequestTimeout": _all(code="RequestTimeout"),
    "404 NoSuchUpload": Trouble({"code": "NoSuchUpload"}, IN_PARTS),
    "404 NoSuchUpload, but executed": Trouble(
        {"code": "NoSuchUpload", "acts": True}, (COMPLETE,)
    ),
    "403 in the middle of the body, then closed": _body(
        status=403, early_after=300, hang_up=True
    ),
    "200 with an error in it": _all(error_body=True),
    "wrong CRC-64": _body(wrong_crc=True),
    "wrong ETag": _body(wrong_etag=True),
    "wrong ETag, no CRC-64": _body(no_crc=True, wrong_etag=True),
    "no CRC-64": _body(no_crc=True),
    "no ETag": _body(no_etag=True),
    "neither CRC-64 nor ETag": _body(no_crc=True, no_etag=True),
    "403 policy": _all(refuse="denied"),
    "403 expired": _all(refuse="expired"),
    "403 not yet valid": _all(refuse="not-yet"),
    "403 key disabled": _all(refuse="key-disabled"),
    "403 key unknown": _all(refuse="key-unknown"),
    "403 signature": _all(refuse="signature"),
    "403 clock skew": _all(refuse="skewed"),
    "403 STS token expired": _all(refuse="token-expired"),
    "403 wrong region": _all(refuse="wrong-region"),
    "store's clock jumps past the expiry": _all(clock_jump=2 * HOUR),
    "store's clock jumps before the signing": _all(clock_jump=-2 * HOUR),
    "store's clock 20 minutes ahead": _clock(1_200),
    "store's clock two hours ahead": _clock(2 * HOUR),
    "store's clock 20 minutes behind": _clock(-1_200),
}


@frozen
class Cell:
    """One upload that meets one fault."""

    number: int
    name: str
    step: str
    way: str
    signer: str
    often: str

    @property
    def key(self) -> str:
        return f"{self.number:05}"

    @property
    def keys(self) -> list[str]:
        """Return the keys of all objects of the call; the first one is struck."""
        others = range(1, NEIGHBOURS + 1) if self.way == MANY else ()
        return [self.key, *(f"{self.key}-{number}" for number in others)]

    @property
    def is_shared(self) -> bool:
        """True if the fault affects all objects of the call, as the store's clock does."""
        members = self.trouble.members or {}
        return bool(self.trouble.offset or "clock_jump" in members)

    @property
    def data(self) -> bytes:
        return SMALL if self.step in AT_ONCE else LARGE

    @property
    def trouble(self) -> Trouble:
        return TROUBLES[self.name]

    @property
    def seconds(self) -> float:
        stalls = {"stall_after", "stall_reply_after"} & {*(self.trouble.members or ())}
        return HASTY if stalls else PATIENT

    @property
    def rules(self) -> list[Fault]:
        """Return the faults; none where the clock alone is wrong."""
        action, part = (None, None) if self.trouble.anywhere else STEPS[self.step]
        times = [1, None] if self.trouble.then else [OFTEN[self.often]]
        return [
            Fault(action=action, key=self.key, part_number=part, times=n, **members)
            for n, members in zip(
                times, (self.trouble.members, self.trouble.then), strict=False
            )
            if members is not None
        ]

    def text(self, seen: Seen) -> str:
        """Return what the page says of *seen*."""
        if self.trouble.varies:
            return VARIES
        blind = (self.signer, self.step) in BLIND
        if self.trouble.races and blind and seen.error and not seen.is_new:
            return f"{RACES}, {seen.tries}x"
        return str(seen)

    def __str__(self) -> str:
        return f"{self.name}, {self.step}, {self.way}, {self.signer}, {self.often}"


def all_cells() -> list[Cell]:
    """Return them in the order of the page."""
    found: list[Cell] = []
    for step, (name, trouble) in itertools.product(STEPS, TROUBLES.items()):
        if step not in trouble.steps:
            continue
        for way, signer, often in itertools.product(WAYS[step], SIGNERS[step], OFTEN):
            if trouble.lasts and often == "once":
                continue
            found.append(Cell(len(found), name, step, way, signer, often))
    return found


CELLS = all_cells()


def cross_section() -> list[Cell]:
    """Return two cells for each trouble, which meet every step, way and signer."""
    chosen: list[Cell] = []
    for place, name in enumerate(TROUBLES):
        mine = [cell for cell in CELLS if cell.name == name]
        # 13 has no factor in common with the length of any axis.
        chosen += {mine[(place * 7 + n * 13) % len(mine)]: None for n in range(2)}
    return chosen


@frozen
class Seen:
    """What came of a cell.

    Attributes:
        error: name of the exception; empty if there was none.
        outcome: what it says about the object.
        tries: how often the most frequent request of the struck kind was sent.
        is_new: whether the bytes that are visible now are those that were sent.
    """

    error: str
    outcome: str
    tries: int
    is_new: bool

    def __str__(self) -> str:
        if not self.error:
            text = "stored"
        elif self.outcome == Outcome.UNKNOWN:
            text = (
                f"`{self.error}`, unknown ({'it is' if self.is_new else 'it is not'})"
            )
        else:
            text = f"`{self.error}`, {self.outcome}"
        return f"{text}, {self.tries}x"
