"""The URL map: which presigned URLs an owner handed out for which object.

Format: URL map 1 of the documentation, and the shapes that owners print by hand.
"""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias
from unicodedata import normalize
from urllib.parse import quote, unquote

from attrs import field, frozen

from ..model import OPERATIONS, frozen_mapping
from ..secret import SecretURL

# Which of many names somebody may have meant.

_NEIGHBOURS = 12
_ALIKE = 0.5
_SAME_NAME = 0.5
# Of a longer name only the end is retyped, and only so many letters.
_RETYPED = 120
_LETTERS = 60
_COMPARED = 200
_SCATTERED = 1e-4


class Nearest:
    """Names, sorted from both ends, so that a question costs milliseconds.

    A name with one wrong place shares with the right one all before that place or all
    behind it, so one of the two orders brings them together; where thousands share it,
    every single wrong letter is tried.
    """

    def __init__(self, names: Collection[str]) -> None:
        """Sort *names*, which must not change any more."""
        self._names = names
        self._forward = sorted(names)
        self._backward = sorted(names, key=_reversed)

    def to(self, name: str) -> tuple[str, ...]:
        """Return up to three names that *name* may have meant, the likeliest first."""
        near = dict.fromkeys((*self._with_its_end(name), *self._with_its_begin(name)))
        letters = sorted(set("".join((*near, name))))[:_LETTERS]
        for tried in (*_respelled(name), *_retyped(name, letters)):
            if tried in self._names:
                near[tried] = None
        last = _last(name)
        scored = []
        for found in near:
            score = _likeness(found, name)
            if _last(found) == last:
                score += _SAME_NAME
            if score > _ALIKE:
                scored.append((-score, found))
        return tuple(found for _, found in sorted(scored)[:3])

    def _with_its_begin(self, name: str) -> list[str]:
        at = bisect(self._forward, name)
        return self._forward[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]

    def _with_its_end(self, name: str) -> list[str]:
        at = bisect(self._backward, _reversed(name), key=_reversed)
        return self._backward[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]


def _reversed(name: str) -> str:
    return name[::-1]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _respelled(name: str) -> Iterator[str]:
    """Yield other ways to write the same."""
    yield from (name.lower(), normalize("NFC", name), normalize("NFD", name))
    yield from (unquote(name), quote(name, errors="replace"))
    slashes = name.replace("\\", "/")
    yield "/".join(part for part in slashes.split("/") if part)


def _retyped(name: str, letters: list[str]) -> Iterator[str]:
    """Yield *name* with one letter left out, swapped, replaced or put in."""
    for at in range(max(0, len(name) - _RETYPED), len(name) + 1):
        before, rest = name[:at], name[at:]
        yield before + rest[1:]
        yield before + rest[1:2] + rest[:1] + rest[2:]
        for letter in letters:
            yield before + letter + rest[1:]
            yield before + letter + rest


def _likeness(one: str, other: str) -> float:
    """Return from 0 to 1 how much two names have in common.

    What they share at both ends is not compared again, which also bounds the cost.
    """
    whole = len(one) + len(other)
    begin = _shared(one, other)
    one, other = one[begin:], other[begin:]
    end = _shared(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    same = begin + end
    if max(len(one), len(other)) <= _COMPARED:
        from difflib import SequenceMatcher  # noqa: PLC0415 - only for a typo

        blocks = SequenceMatcher(None, one, other, autojunk=False)
        same += sum(block.size for block in blocks.get_matching_blocks())
    # Of two that share as much, the one that differs in one place only.
    return 2 * same / whole - _SCATTERED * max(len(one), len(other))


def _shared(one: str, other: str) -> int:
    """Return how many characters both begin with."""
    for count, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return count
    return min(len(one), len(other))


VERSION = 1
# Members that hold one more request beside the upload, and the method of each.
EXTRAS = {
    spec.slot: spec.method
    for spec in OPERATIONS.values()
    if spec.slot not in (None, "put", "parts")
}


def _headers(value: Mapping[str, str] | None) -> Mapping[str, str] | None:
    # What is frozen is shared: 100,000 entries often have the same headers.
    if value is None or isinstance(value, MappingProxyType):
        return value
    return frozen_mapping(value)


@frozen(kw_only=True, weakref_slot=False)
class MapRequest:
    """One presigned request of a map.

    Attributes:
        url: the presigned URL.
        headers: exactly what must be sent; None if the map does not say.
        expires_at: seconds since the epoch as the map says; None if it does not.
    """

    url: SecretURL
    headers: Mapping[str, str] | None = field(default=None, converter=_headers)
    expires_at: float | None = None


@frozen(kw_only=True, weakref_slot=False)
class MapEntry:
    """Everything that the owner handed out for one object.

    Attributes:
        put: one PutObject; None if the object goes in parts only.
        expires_at: for requests that say nothing themselves, seconds since the epoch.
        upload_id: of the multipart upload that the owner initiated.
        part_size: bytes that bind every part but the last; None leaves it to us.
        parts: UploadPart requests, part 1 first.
        complete: CompleteMultipartUpload, or ``external`` if the owner completes.
        abort: AbortMultipartUpload.
        list: ListParts.
        head: HeadObject.
        get: GetObject.
        delete: DeleteObject.
        copy: CopyObject, to here from the source that its headers name.
        ls: ListObjectsV2 of what begins with the key, one page.
    """

    put: MapRequest | None = None
    expires_at: float | None = None
    upload_id: str | None = None
    part_size: int | None = None
    parts: tuple[MapRequest, ...] = ()
    complete: MapRequest | Literal["external"] | None = None
    abort: MapRequest | None = None
    list: MapRequest | None = None
    head: MapRequest | None = None
    get: MapRequest | None = None
    delete: MapRequest | None = None
    copy: MapRequest | None = None
    ls: MapRequest | None = None


# Nearly all entries of a large map are one PUT: only that is kept of them.
Kept: TypeAlias = MapEntry | MapRequest | SecretURL


@frozen(weakref_slot=False, eq=False, repr=False)
class URLMap(Mapping[str, MapEntry]):
    """``bucket/key`` -> entry, read-only.

    An entry may be given as its PUT alone, or as that one's URL: 100,000 of them take a
    third of the memory then.
    """

    _entries: Mapping[str, Kept] = field(factory=dict)
    _nearest: list[Nearest] = field(factory=list, init=False)

    def __getitem__(self, path: str) -> MapEntry:
        """Return the entry of *path*."""
        kept = self._entries[path]
        if isinstance(kept, SecretURL):
            return MapEntry(put=MapRequest(url=kept))
        if isinstance(kept, MapRequest):
            put = MapRequest(url=kept.url, headers=kept.headers)
            return MapEntry(put=put, expires_at=kept.expires_at)
        return kept

    def __iter__(self) -> Iterator[str]:
        """Iterate over the paths in the order of the map."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return how many objects the map holds."""
        return len(self._entries)

    def __repr__(self) -> str:
        """Say how large the map is; its paths can be many."""
        return f"<URLMap of {len(self)} objects>"

    def nearest(self, path: str) -> tuple[str, ...]:
        """Return up to three keys that *path* may have meant, the likeliest first.

        The first question sorts the map, each costs some milliseconds more.
        """
        if not self._nearest:
            self._nearest.append(Nearest(self._entries))
        return self._nearest[0].to(path)


def dump(url_map: Mapping[str, MapEntry]) -> str:
    """Return the version-1 text of *url_map*: a secret, URLs spelled out."""
    rows = ",\n".join(
        f"{json.dumps(path)}: {json.dumps(_dump_entry(entry))}"
        for path, entry in url_map.items()
    )
    return f'{{"version": {VERSION},\n"objects": {{\n{rows}\n}}}}\n'


def dump_line(path: str, entry: MapEntry) -> str:
    """Return one line of JSON Lines: a secret, URLs spelled out."""
    members = _dump_entry(entry)
    if not isinstance(members, dict):
        members = {"url": members}
    return json.dumps({"path": path, **members}) + "\n"


def _dump_entry(entry: MapEntry) -> Any:
    members: dict[str, Any] = {}
    if entry.put is not None:
        put = _dump_request(entry.put)
        members.update(put if isinstance(put, dict) else {"url": put})
    if entry.expires_at is not None:
        members["expires_at"] = _timestamp(entry.expires_at)
    for name in ("upload_id", "part_size"):
        if getattr(entry, name) is not None:
            members[name] = getattr(entry, name)
    if entry.parts:
        members["parts"] = [_dump_request(part) for part in entry.parts]
    for name in EXTRAS:
        extra = getattr(entry, name)
        if extra is not None:
            members[name] = extra if extra == "external" else _dump_request(extra)
    return members["url"] if members.keys() == {"url"} else members


def _dump_request(request: MapRequest) -> Any:
    url = request.url.reveal()
    if request.headers is None and request.expires_at is None:
        return url
    members: dict[str, Any] = {"url": url}
    if request.headers is not None:
        members["headers"] = dict(request.headers)
    if request.expires_at is not None:
        members["expires_at"] = _timestamp(request.expires_at)
    return members


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
