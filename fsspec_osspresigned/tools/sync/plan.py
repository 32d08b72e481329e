"""Sync plan: files to transfer and to delete, computed from two listings.

Filter rules are ordered globs; the last one that matches a name decides.
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from glob import escape
from typing import ClassVar, Self

from attrs import Factory, define, evolve, field, frozen
from attrs.validators import instance_of, optional
from fsspec.utils import glob_translate

from ...errors import ConfigurationError
from ...filesystem.destinations import local_name_problem
from ...signing.endpoint import check_key

_SIGNS = {"+": True, "-": False}


@functools.cache
def _pattern(glob: str) -> re.Pattern[str]:
    body = glob.removeprefix("/").removesuffix("/")
    if not body:
        msg = f"{glob!r} is not a glob: write one as '*.csv' or 'tmp/'"
        raise ConfigurationError(msg)
    if not glob.startswith("/"):
        body = f"**/{body}"
    # A matching directory includes everything in it.
    globs = [f"{body}/**"] if glob.endswith("/") else [body, f"{body}/**"]
    try:
        text = "|".join(map(glob_translate, globs))
    except ValueError:
        msg = f"{glob!r} is not a glob: write ** only between slashes"
        raise ConfigurationError(msg) from None
    return re.compile(text.replace("[^", "[^/"))  # [!a] matches no slash


@frozen
class Rule:
    """One filter rule.

    Attributes:
        takes: True includes the names that the glob matches, False excludes them.
        glob: a glob of fsspec: ``*``, ``?`` and ``[!a-z]`` do not match a slash, ``**``
            matches directories. A glob with a leading slash matches only at the top of
            the directory, other globs at any depth. A glob with a trailing slash
            matches only directories.

    Raises:
        ConfigurationError: *glob* is invalid.
    """

    takes: bool
    glob: str = field(validator=lambda _rule, _field, glob: _pattern(glob))

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the rule in *text*, ``+ GLOB`` or ``- GLOB`` as in rclone.

        ConfigurationError for any other text.
        """
        sign, space, glob = text.partition(" ")
        if sign not in _SIGNS or not space:
            msg = f"{text!r} is not a rule: write '+ GLOB' or '- GLOB'"
            raise ConfigurationError(msg)
        return cls(_SIGNS[sign], glob.strip())

    @classmethod
    def against(cls, name: str) -> Self:
        """Return a rule that excludes only the file *name*."""
        return cls(takes=False, glob=f"/{escape(name)}")

    def fits(self, name: str) -> bool:
        return _pattern(self.glob).fullmatch(name) is not None


@frozen
class NameList:
    """Rule that includes the files in *names*; *seen* collects those of the source."""

    takes: ClassVar[bool] = True
    names: frozenset[str]
    seen: set[str] = field(factory=set, eq=False)

    def fits(self, name: str) -> bool:
        return name in self.names


@frozen
class Filter:
    """Ordered filter rules: the last rule that matches a name decides.

    A name that no rule matches is included, unless the first rule is an including one.
    """

    rules: tuple[Rule | NameList, ...] = ()

    @classmethod
    def of(cls, rules: Iterable[Rule | NameList | str]) -> Self:
        if isinstance(rules, str):
            raise ConfigurationError("filters= must be a list of rules")
        return cls(tuple(Rule.of(r) if isinstance(r, str) else r for r in rules))

    def takes(self, name: str) -> bool:
        """Return whether the rules include *name*, which the source has."""
        for rule in self.rules:
            if isinstance(rule, NameList) and rule.fits(name):
                rule.seen.add(name)
        return self.includes(name)

    def includes(self, name: str) -> bool:
        for rule in reversed(self.rules):
            if rule.fits(name):
                return rule.takes
        return not (self.rules and self.rules[0].takes)

    def skips(self, directory: str) -> bool:
        """Return whether the rules certainly exclude everything in *directory*."""
        for rule in reversed(self.rules):
            if rule.takes:
                return False
            if rule.fits(f"{directory}/"):
                return True
        return False


# A smaller difference of times proves nothing, because the store's times and the
# measured clock offset are in whole seconds.
SLACK = 2.0


class How(enum.StrEnum):
    TIME = "time"
    SIZE = "size"
    CHECKSUM = "checksum"


class Why(enum.StrEnum):
    NEW = "new"
    SIZE = "other size"
    TIME = "newer"
    CONTENT = "other content"
    ALWAYS = "always"
    SAME = "same"
    UNSURE = "unsure"  # only a comparison of the bytes can decide


@frozen
class Entry:
    """File of the source."""

    name: str  # path relative to the source, with forward slashes
    size: int | None  # bytes; None if the source does not say
    mtime_ns: int | None = None  # nanoseconds since the epoch; None if unknown
    tag: str = ""  # the source's content identifier, such as an ETag


@frozen
class Aside:
    """Entry of the source that a sync leaves out."""

    name: str
    why: str  # the kind of the entry
    error: OSError | None = None  # the error if the entry is unreadable


@frozen
class Stored:
    """Object or file of the destination, from a listing."""

    size: int
    etag: str = ""
    modified: float | None = None  # seconds since the epoch, by the destination's clock


@frozen
class Sent:
    """Record of a file that an earlier sync sent.

    The record has size, time and tag of the file, and ETag and CRC-64 of its object.
    """

    size: int = field(validator=instance_of(int))
    mtime_ns: int | None = field(default=None, validator=optional(instance_of(int)))
    tag: str = field(default="", validator=instance_of(str))
    etag: str = field(default="", validator=instance_of(str))
    crc64: int | None = field(default=None, validator=optional(instance_of(int)))


@frozen(kw_only=True)
class PlanRules:
    how: How = How.TIME
    filter: Filter = field(factory=Filter)
    prefix: str = ""  # prefix of all keys; empty, or with a final slash
    downward: bool = False  # True if the destination is a local directory
    listed: bool = True  # True if the destination could be listed
    ignore_times: bool = False
    # seconds by which the source's clock is ahead of the destination's
    ahead: float = 0.0


@frozen
class Item:
    """A file of the source, the verdict, and facts about its object."""

    entry: Entry
    why: Why
    stored: Stored | None = None
    sent: Sent | None = None


@frozen
class Extra:
    """An object or file at the destination that the source does not have."""

    name: str
    size: int


@define
class Plan:
    """Plan of one sync; names are relative to source and destination.

    Attributes:
        send: files to send.
        unsure: files whose bytes must be compared; empty after the comparison.
        same: number of files that the destination already has.
        extra: objects or files that only the destination has and the sync may delete,
            sorted; empty for a sync without *delete*.
        problems: name -> reason why the file cannot be sent.
        errors: name -> exception, of source entries that could not be read.
        left_out: name -> kind, of entries that are not files.
        found: number of files in the source that the filters include.
    """

    send: list[Item] = Factory(list)
    unsure: list[Item] = Factory(list)
    same: int = 0
    extra: list[Extra] = Factory(list)
    problems: dict[str, str] = Factory(dict)
    errors: dict[str, OSError] = Factory(dict)
    left_out: dict[str, str] = Factory(dict)
    found: int = 0

    @property
    def send_bytes(self) -> int:
        """Total size of the files to send in bytes; an unknown size counts as 0."""
        return sum(item.entry.size or 0 for item in self.send)

    def sort_in(self, item: Item) -> None:
        if item.why is Why.UNSURE:
            self.unsure.append(item)
        elif item.why is Why.SAME:
            self.same += 1
        else:
            self.send.append(item)

    def resolve(self, item: Item, why: Why) -> None:
        """Add *item* with the verdict *why*, found by comparing its bytes."""
        self.sort_in(evolve(item, why=why))


def plan(
    source: Iterable[Entry | Aside],
    listed: dict[str, Stored],
    before: Mapping[str, Sent],
    rules: PlanRules,
) -> Plan:
    """Return the sync plan for *source*, compared with the destination by name.

    *listed* are the objects at the destination; pass an empty dictionary if it could
    not be listed. Each name that the source has is removed from *listed*. *before* are
    the records of files that earlier runs sent, by name.
    """
    result = Plan()
    unseen: set[str] = set()  # paths below which the content is unknown
    for entry in source:
        name, takes = entry.name, rules.filter.takes(entry.name)
        if isinstance(entry, Aside):
            if rules.filter.skips(name):
                continue
            unseen.add(name)
            listed.pop(name, None)
            if entry.error is not None:
                result.errors[name] = entry.error
            elif takes:
                result.left_out[name] = entry.why
        elif takes:
            result.found += 1
            stored, sent = listed.pop(name, None), before.get(name)
            if rules.downward:
                problem = _fetch_problem(name)
            else:
                problem = name_problem(name, rules.prefix)
            if problem is not None:
                result.problems[name] = problem
            else:
                why = verdict(entry, stored, sent, rules)
                result.sort_in(Item(entry, why, stored, sent))
    extra = _extra(listed, unseen, rules.filter)
    result.extra = sorted(extra, key=lambda each: each.name)
    return result


def verdict(
    entry: Entry, stored: Stored | None, sent: Sent | None, rules: PlanRules
) -> Why:
    """Return why *entry* must be sent; ``SAME`` if it need not be sent.

    ``UNSURE`` means that only a comparison of the bytes can decide.
    """
    if stored is None and (rules.listed or sent is None):
        return Why.NEW
    if rules.ignore_times:
        return Why.ALWAYS
    known = stored or sent
    if known is not None and entry.size not in (None, known.size):
        return Why.SIZE
    if rules.how is How.SIZE and entry.size is not None:
        return Why.SAME
    if rules.how is not How.TIME:
        return Why.UNSURE
    if sent is not None and is_what_was_sent(stored, sent):
        if entry.mtime_ns is None and not entry.tag:
            return Why.UNSURE
        is_same = (entry.mtime_ns, entry.tag) == (sent.mtime_ns, sent.tag)
        return Why.SAME if is_same else Why.TIME
    if entry.mtime_ns is None or stored is None or stored.modified is None:
        return Why.UNSURE
    younger = entry.mtime_ns / 1e9 - rules.ahead - stored.modified
    if abs(younger) <= SLACK:
        return Why.UNSURE
    return Why.TIME if younger > 0 else Why.SAME


def is_what_was_sent(stored: Stored | None, sent: Sent) -> bool:
    """Return whether *stored* is the object that an earlier run sent (*sent*).

    Compares ETag and size. True if *stored* is None, because the destination could not
    be listed.
    """
    return stored is None or (
        bool(sent.etag)
        and sent.etag.lower() == stored.etag.lower()
        and sent.size == stored.size
    )


def name_problem(name: str, prefix: str) -> str | None:
    if _leads_out(name):
        return "a name with '.' or '..' in it is not sent"
    return check_key(prefix + name)


def _fetch_problem(name: str) -> str | None:
    if _leads_out(name):
        return "a key with '.' or '..' in it is not fetched"
    if "" in name.split("/"):
        return "a key with a slash at its beginning, or two in a row, is not fetched"
    why = local_name_problem(name)
    return f"the key {why}" if why else None


def _leads_out(name: str) -> bool:
    return not {".", ".."}.isdisjoint(name.split("/"))


def _extra(
    listed: dict[str, Stored], unseen: set[str], chosen: Filter
) -> Iterator[Extra]:
    """Yield the objects that only the destination has and that the sync may delete.

    This leaves out objects that *chosen* excludes, objects in or below *unseen*, names
    with a final slash (which represent directories), and names with a segment ``.`` or
    ``..``.
    """
    for name, stored in listed.items():
        if not name or name.endswith("/") or _leads_out(name):
            continue
        if chosen.includes(name) and unseen.isdisjoint(_above(name)):
            yield Extra(name, stored.size)


def _above(name: str) -> Iterator[str]:
    """Yield *name*, its parent directories, and ``""`` for the top directory."""
    while name:
        yield name
        name = name.rpartition("/")[0]
    yield ""
