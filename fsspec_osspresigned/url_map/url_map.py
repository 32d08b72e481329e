"""URL map: presigned URLs by object path, and a search for similar paths."""

from __future__ import annotations

import json
from bisect import bisect
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

from attrs import field, frozen

from ..model import OPERATIONS, FrozenDict, frozen_mapping
from ..secret import SecretURL

VERSION = 1
_NEIGHBOURS = 12
_ALIKE = 0.5
# Keys with one more request beside the upload -> its method.
EXTRAS = {
    spec.slot: spec.method
    for spec in OPERATIONS.values()
    if spec.slot not in (None, "put", "parts")
}


def _headers(value: Mapping[str, str] | None) -> Mapping[str, str] | None:
    # Equal mappings are shared, because 100,000 entries often have the same headers.
    if value is None or isinstance(value, FrozenDict):
        return value
    return frozen_mapping(value)


@frozen(kw_only=True, weakref_slot=False)
class MapRequest:
    url: SecretURL
    # Exactly these headers are sent. None if the map has none.
    headers: Mapping[str, str] | None = field(default=None, converter=_headers)
    expires_at: float | None = None  # expiry time in the map, seconds since the epoch


@frozen(kw_only=True, weakref_slot=False)
class MapEntry:
    """All presigned requests for one object of a URL map."""

    put: MapRequest | None = None  # None if the object can only be sent in parts
    # expiry time of requests that have none, seconds since the epoch
    expires_at: float | None = None
    upload_id: str | None = None  # ID of the multipart upload that the owner initiated
    # Required size in bytes of every part except the last. None lets the client choose.
    part_size: int | None = None
    parts: tuple[MapRequest, ...] = ()  # requests of the parts, in order
    # external: the owner completes the upload
    complete: MapRequest | Literal["external"] | None = None
    abort: MapRequest | None = None
    list: MapRequest | None = None
    head: MapRequest | None = None
    get: MapRequest | None = None
    delete: MapRequest | None = None
    # copies to this object, from the source in the headers
    copy: MapRequest | None = None
    # lists one page of objects whose names begin with the key
    ls: MapRequest | None = None


@frozen(slots=False, eq=False, repr=False)
class URLMap(Mapping[str, MapEntry]):
    """Read-only mapping of ``bucket/key`` to the presigned requests for that object."""

    _entries: Mapping[str, MapEntry] = field(factory=dict)

    def __getitem__(self, path: str) -> MapEntry:
        return self._entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"<URLMap of {len(self)} objects>"

    @cached_property
    def _ordered(self) -> tuple[list[str], list[str]]:
        return sorted(self), sorted(path[::-1] for path in self)

    def nearest(self, path: str) -> tuple[str, ...]:
        """Return up to three paths that are similar to *path*, the closest first.

        A path with one mistake has the same beginning or the same end as the correct
        one. So it is compared only with its neighbours in forward and backward order.
        The first call sorts all paths.
        """
        from difflib import get_close_matches  # noqa: PLC0415 - needed only for a typo

        forward, backward = self._ordered
        near = {text[::-1] for text in _neighbours(backward, path[::-1])}
        near |= {*_neighbours(forward, path)}
        return tuple(get_close_matches(path, sorted(near), 3, _ALIKE))


def _neighbours(ordered: list[str], name: str) -> list[str]:
    at = bisect(ordered, name)
    return ordered[max(0, at - _NEIGHBOURS) : at + _NEIGHBOURS]


def dump(url_map: Mapping[str, MapEntry]) -> str:
    """Return *url_map* as text in version 1 of the format, which is a secret."""
    rows = ",\n".join(
        f"{json.dumps(path)}: {json.dumps(_shortest(_dump_entry(entry)))}"
        for path, entry in url_map.items()
    )
    return f'{{"version": {VERSION},\n"objects": {{\n{rows}\n}}}}\n'


def _dump_entry(entry: MapEntry) -> dict[str, Any]:
    members = _dump_request(entry.put) if entry.put else {}
    if entry.expires_at is not None:
        members["expires_at"] = _timestamp(entry.expires_at)
    for name in ("upload_id", "part_size"):
        if getattr(entry, name) is not None:
            members[name] = getattr(entry, name)
    if entry.parts:
        members["parts"] = [_shortest(_dump_request(part)) for part in entry.parts]
    for name in EXTRAS:
        extra = getattr(entry, name)
        if isinstance(extra, MapRequest):
            extra = _shortest(_dump_request(extra))
        if extra is not None:
            members[name] = extra
    return members


def _dump_request(request: MapRequest) -> dict[str, Any]:
    members: dict[str, Any] = {"url": request.url.reveal()}
    if request.headers is not None:
        members["headers"] = dict(request.headers)
    if request.expires_at is not None:
        members["expires_at"] = _timestamp(request.expires_at)
    return members


def _shortest(members: dict[str, Any]) -> Any:
    return members["url"] if members.keys() == {"url"} else members


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
