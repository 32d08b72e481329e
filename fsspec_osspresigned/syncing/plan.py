"""What a sync has to do, decided from two listings and a memory; pure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping

from attrs import Factory, define, evolve, field, frozen

from ..signing.endpoint import check_key
from .filter import Filter

# Seconds within which two times say nothing: the store's are cut to whole ones, and so
# is what is known of the difference between its clock and ours.
SLACK = 2.0


class How(enum.StrEnum):
    """How a file and an object are compared."""

    TIME = "time"
    SIZE = "size"
    CHECKSUM = "checksum"


class Why(enum.StrEnum):
    """What was found out about a file, as it is said to people."""

    NEW = "new"
    SIZE = "other size"
    TIME = "newer"
    CONTENT = "other content"
    ALWAYS = "always"
    SAME = "same"
    UNSURE = "unsure"  # only its bytes can tell


@frozen
class Entry:
    """One file of the source.

    Attributes:
        name: below the source, with slashes.
        size: bytes; None if the source does not say.
        mtime_ns: when it was changed, nanoseconds since the epoch; None likewise.
        tag: what the source calls its content, such as an ETag; may be empty.
    """

    name: str
    size: int | None
    mtime_ns: int | None = None
    tag: str = ""


@frozen
class Aside:
    """What is in the source and is not sent.

    Attributes:
        name: below the source.
        why: what it is.
        error: why it could not be read; None if it is left out on purpose.
    """

    name: str
    why: str
    error: OSError | None = None


@frozen
class Stored:
    """One object of the destination, as it is listed; *modified* is the store's time."""

    size: int
    etag: str = ""
    modified: float | None = None


@frozen
class Sent:
    """What an earlier run has sent: the file as it was listed, and what became of it."""

    size: int
    mtime_ns: int | None = None
    tag: str = ""
    etag: str = ""
    crc64: int | None = None

    def judge(self, entry: Entry) -> Why:
        """Return whether *entry* is still what was sent, as far as it says."""
        if entry.mtime_ns is None and not entry.tag:
            return Why.UNSURE
        is_same = (entry.mtime_ns, entry.tag) == (self.mtime_ns, self.tag)
        return Why.SAME if is_same else Why.TIME


@frozen(kw_only=True)
class Rules:
    """How a plan is made.

    Attributes:
        how: what is compared.
        filter: what the sync is about, on both sides.
        prefix: of all keys; empty, or with a slash at its end.
        listed: whether the destination could be listed.
        always: everything is sent, whatever is known.
        ahead: seconds that the source's clock is ahead of the store's.
    """

    how: How = How.TIME
    filter: Filter = field(factory=Filter)
    prefix: str = ""
    listed: bool = True
    always: bool = False
    ahead: float = 0.0


@frozen
class Item:
    """A file, why it is to be sent, and what is known of its object."""

    entry: Entry
    why: Why
    stored: Stored | None = None
    sent: Sent | None = None


@frozen
class Extra:
    """An object that the source does not have."""

    name: str
    size: int


@define
class Plan:
    """What there is to do; names are below source and destination.

    Attributes:
        send: what is to be sent.
        unsure: what only its bytes can tell; empty once that was done.
        same: how many files are there already.
        same_bytes: their bytes.
        extra: objects that the source does not have, sorted.
        problems: name -> why it cannot be sent.
        errors: name -> why the source could not be read there.
        left_out: name -> what it is that is not sent.
        found: how many files the source has, under the filters.
    """

    send: list[Item] = Factory(list)
    unsure: list[Item] = Factory(list)
    same: int = 0
    same_bytes: int = 0
    extra: list[Extra] = Factory(list)
    problems: dict[str, str] = Factory(dict)
    errors: dict[str, OSError] = Factory(dict)
    left_out: dict[str, str] = Factory(dict)
    found: int = 0

    @property
    def send_bytes(self) -> int:
        """Bytes to send, as far as the source says."""
        return sum(item.entry.size or 0 for item in self.send)

    def settle(self, item: Item, why: Why) -> None:
        """Take in what the bytes of an unsure *item* have told."""
        if why is Why.SAME:
            self.same += 1
            self.same_bytes += item.entry.size or 0
        else:
            self.send.append(evolve(item, why=why))


def plan(
    source: Iterable[Entry | Aside],
    there: dict[str, Stored],
    before: Mapping[str, Sent],
    rules: Rules,
) -> Plan:
    """Compare two listings, each of which is gone through once.

    Args:
        source: what the source has; names may come in any order.
        there: name -> object; what the source has too is taken out. Empty if the
            destination could not be listed.
        before: name -> what an earlier run has sent.
        rules: how to compare.
    """
    made = Plan()
    unseen: set[str] = set()  # below them nobody has looked
    for entry in source:
        if isinstance(entry, Aside):
            if not rules.filter.skips(entry.name):
                unseen.add(entry.name)
                there.pop(entry.name, None)
                _put_aside(entry, made, rules.filter)
            continue
        if not rules.filter.takes(entry.name):
            continue
        made.found += 1
        stored = there.pop(entry.name, None)
        problem = name_problem(entry.name, rules.prefix)
        if problem is not None:
            made.problems[entry.name] = problem
            continue
        sent = before.get(entry.name)
        item = Item(entry, verdict(entry, stored, sent, rules), stored, sent)
        if item.why is Why.UNSURE:
            made.unsure.append(item)
        else:
            made.settle(item, item.why)
    extra = _extra(there, unseen, rules.filter)
    made.extra = sorted(extra, key=lambda one: one.name)
    return made


def _put_aside(aside: Aside, made: Plan, wanted: Filter) -> None:
    if aside.error is not None:
        made.errors[aside.name] = aside.error
    elif wanted.takes(aside.name):
        made.left_out[aside.name] = aside.why


def verdict(
    entry: Entry, stored: Stored | None, sent: Sent | None, rules: Rules
) -> Why:
    """Return why *entry* is to be sent, or that it is not, or that it is unsure."""
    if stored is None and (rules.listed or sent is None):
        return Why.NEW
    if rules.always:
        return Why.ALWAYS
    there = stored or sent
    if there is not None and entry.size not in (None, there.size):
        return Why.SIZE
    if rules.how is How.SIZE and entry.size is not None:
        return Why.SAME
    if rules.how is not How.TIME:
        return Why.UNSURE
    if sent is not None and is_what_was_sent(stored, sent):
        return sent.judge(entry)
    return _by_time(entry, stored, rules.ahead)


def is_what_was_sent(stored: Stored | None, sent: Sent) -> bool:
    """Return whether the object is the one that an earlier run has sent.

    An object that cannot be listed is believed to be.
    """
    return stored is None or (
        bool(sent.etag)
        and sent.etag.lower() == stored.etag.lower()
        and sent.size == stored.size
    )


def _by_time(entry: Entry, stored: Stored | None, ahead: float) -> Why:
    modified = None if stored is None else stored.modified
    if entry.mtime_ns is None or modified is None:
        return Why.UNSURE
    younger = entry.mtime_ns / 1e9 - ahead - modified
    if abs(younger) <= SLACK:
        return Why.UNSURE
    return Why.TIME if younger > 0 else Why.SAME


def name_problem(name: str, prefix: str) -> str | None:
    """Return why *name* cannot be the end of a key; None if it can."""
    if _leads_out(name):
        return "a name with '.' or '..' in it is not sent"
    return check_key(prefix + name)


def _leads_out(name: str) -> bool:
    return not {".", ".."}.isdisjoint(name.split("/"))


def _extra(
    there: dict[str, Stored], unseen: set[str], wanted: Filter
) -> Iterator[Extra]:
    """Yield what is only in the destination, and is the sync's business.

    Not what lies below something *unseen*, directories of the console (their names end
    in a slash), and names that no file can have.
    """
    for name, stored in there.items():
        if not name or name.endswith("/") or _leads_out(name):
            continue
        if wanted.takes(name) and unseen.isdisjoint(_above(name)):
            yield Extra(name, stored.size)


def _above(name: str) -> Iterator[str]:
    """Yield *name* and the directories above it, the source itself as ``""``."""
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""
