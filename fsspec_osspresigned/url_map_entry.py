"""One entry of a URL map: what an owner may write, and every problem of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from attrs import define, field

from . import jsondoc, sendable
from .model import MAX_PART, MAX_PARTS, MIN_PART, frozen_mapping
from .secret import SecretURL, redact
from .url_map import EXTRAS, MapEntry, MapRequest

# The second name of each is what Alibaba Cloud's own samples print.
_ALIASES = {"signed_headers": "headers", "expiration": "expires_at"}
_REQUEST = frozenset({"method", "url", "headers", "expires_at", "part_number"})
_ENTRY = _REQUEST | {"path", "upload_id", "part_size", "parts", *EXTRAS}
# Nearly all entries of a large map have no other member.
_SIMPLE = {"path", "url", "headers", "expires_at"}
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)"
)
_PART_NUMBER = re.compile(r"[?&]partNumber=([0-9]{1,6})(?=&|$)")
_UPLOAD_ID = re.compile(r"[?&]uploadId=([^&]*)")
_MAX_SHOWN = 120
_MAX_READ = 1000  # characters of a name that are looked at to show it
_MAX_MEANT = 20  # characters of a member that may be a typo
_MAX_PROBLEMS = 1000
_MAX_SAME = 1000


def shown(text: str) -> str:
    """Show a name that may be anything, even a signed URL in the wrong place."""
    if "://" in text[:_MAX_SHOWN]:
        return repr(SecretURL(text[:_MAX_READ]).shown()[:_MAX_SHOWN])
    name, mark, _ = redact(text[:_MAX_READ]).partition("?")
    return repr(name[:_MAX_SHOWN] + ("?..." if mark else ""))


@lru_cache(1024)
def _meant(name: str, known: frozenset[str]) -> str | None:
    """Return the member that an unknown one may have meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a typo

    close = get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else None


@define
class EntryReader:
    """Reads entries and collects problems; methods return None where they noted one.

    Attributes:
        problems: the first thousand, each with its place.
    """

    problems: list[str] = field(factory=list)
    _same_headers: dict[Any, Mapping[str, str]] = field(factory=dict)
    _same_times: dict[str, float] = field(factory=dict)

    def note(self, place: object, problem: str) -> None:
        """Keep a problem, unless there are very many."""
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f"{place}: {problem}")

    def simple(self, value: Any) -> MapRequest | SecretURL | None:
        """Read one PUT, quickly; None for what must be read with care."""
        if isinstance(value, str):
            return None if sendable.url_problem(value) else SecretURL(value)
        if not isinstance(value, dict) or not value.keys() <= _SIMPLE:
            return None
        url = value.get("url")
        if not isinstance(url, str) or sendable.url_problem(url):
            return None
        headers = end = None
        if "headers" in value and (headers := self.sent(value["headers"])) is None:
            return None
        if "expires_at" in value and (end := self.moment(value["expires_at"])) is None:
            return None
        if headers is None and end is None:
            return SecretURL(url)
        return MapRequest(url=SecretURL(url), headers=headers, expires_at=end)

    def sent(self, headers: Any) -> Mapping[str, str] | None:
        """Return *headers*, one value for all that are equal; None for bad ones."""
        if not isinstance(headers, dict):
            return None
        try:
            pairs = tuple(headers.items())
            found = self._same_headers.get(pairs)
        except TypeError:
            return None
        if found is None:
            if not all(isinstance(name, str) for name in headers):
                return None
            if next(sendable.header_problems(headers), None) is not None:
                return None
            found = frozen_mapping(headers)
            if len(self._same_headers) < _MAX_SAME:
                self._same_headers[pairs] = found
        return found

    def moment(self, value: Any) -> float | None:
        """Return seconds since the epoch, one value for all that are equal."""
        if isinstance(value, datetime):
            return value.timestamp() if value.tzinfo is not None else None
        if not isinstance(value, str):
            return None
        found = self._same_times.get(value)
        if found is None:
            found = _moment(value)
            if found is not None and len(self._same_times) < _MAX_SAME:
                self._same_times[value] = found
        return found

    def entry(self, value: Any, place: str) -> MapEntry | None:
        """Read the value of one path."""
        if isinstance(value, str):
            request = self.request(value, place, "PUT")
            return None if request is None else MapEntry(put=request)
        before = len(self.problems)
        members = self.members(value, place, _ENTRY)
        if members is None:
            return None
        found = self.extras(members, place)
        expires_at = self.time(members, place)
        if "url" in members:
            put = {k: v for k, v in members.items() if k in _REQUEST}
            put.pop("expires_at", None)
            self.main(put, place, found)
        elif "headers" in members:
            self.note(f"{place}.headers", "belong to a url: give each part its own")
        if "parts" in members:
            found["parts"] = self.parts(members["parts"], f"{place}.parts")
            found["upload_id"] = self.upload_id(members, found["parts"], place)
            found["part_size"] = self.part_size(members, place)
        elif misplaced := {"upload_id", "part_size", "complete"} & members.keys():
            self.note(place, f"has {', '.join(sorted(misplaced))}, but no parts")
        if len(self.problems) > before:
            return None
        if not found:
            self.note(place, "has no URL")
            return None
        return MapEntry(expires_at=expires_at, **found)

    def main(self, members: Any, place: str, found: dict[str, Any]) -> None:
        """Read the entry's own URL into the place that its method says."""
        method = members.get("method", "PUT")
        slot = {"PUT": "put", "GET": "get", "HEAD": "head"}.get(str(method).upper())
        if slot is None:
            self.note(f"{place}.method", "must be PUT; GET and HEAD are read too")
        elif slot in found:
            self.note(f"{place}.url", f"is for {method}, and there is {slot!r} too")
        else:
            found[slot] = self.request(members, place, str(method).upper())

    def extras(self, members: Mapping[str, Any], place: str) -> dict[str, Any]:
        """Read the requests beside the upload, by their names."""
        found: dict[str, Any] = {}
        for name, method in EXTRAS.items():
            if name == "complete" and members.get(name) == "external":
                found[name] = "external"
            elif name in members:
                found[name] = self.request(members[name], f"{place}.{name}", method)
        return found

    def members(
        self, value: Any, place: str, known: frozenset[str]
    ) -> dict[str, Any] | None:
        """Return the members under their own names; others are ignored, typos noted."""
        if not isinstance(value, Mapping):
            self.note(place, f"is {jsondoc.kind(value)}, not a URL or an object")
            return None
        members: dict[str, Any] = {}
        for given, item in value.items():
            if not isinstance(given, str):
                self.note(place, "the name of a member is not a string")
                continue
            name = _ALIASES.get(given, given)
            if name in members:
                self.note(f"{place}.{given}", f"means {name}, which is there too")
            elif name in known:
                # PresignResult writes null where it signed no header.
                nothing = item is None and given == "signed_headers"
                members[name] = {} if nothing else item
            elif len(name) <= _MAX_MEANT and (close := _meant(name, known)):
                problem = f"unknown member, did you mean {close!r}?"
                self.note(f"{place}.{shown(given)}", problem)
        return members

    def request(self, value: Any, place: str, method: str) -> MapRequest | None:
        """Read a URL, or an object with one."""
        if isinstance(value, str):
            problem = sendable.url_problem(value)
            if problem:
                self.note(place, f"the URL {problem}")
                return None
            return MapRequest(url=SecretURL(value))
        before = len(self.problems)
        members = self.members(value, place, _REQUEST)
        if members is None:
            return None
        url = members.get("url")
        if not isinstance(url, str):
            self.note(f"{place}.url", f"must be a string, is {_kind(members, 'url')}")
        elif problem := sendable.url_problem(url):
            self.note(f"{place}.url", f"the URL {problem}")
        if str(members.get("method", method)).upper() != method:
            self.note(f"{place}.method", f"must be {method}")
        headers = self.headers(members, place)
        expires_at = self.time(members, place)
        if len(self.problems) > before:
            return None
        return MapRequest(
            url=SecretURL(str(url)), headers=headers, expires_at=expires_at
        )

    def headers(self, members: Mapping[str, Any], place: str) -> Any:
        """Read what must be sent; None if nothing is said."""
        if "headers" not in members:
            return None
        headers = members["headers"]
        place = f"{place}.headers"
        if not isinstance(headers, Mapping) or not all(
            isinstance(name, str) for name in headers
        ):
            self.note(place, "must be an object of names and values")
            return None
        if any("?" in name for name in headers):
            # It can be a signed URL, which must not be shown.
            self.note(place, "a header name is not an HTTP token")
            return None
        for problem in sendable.header_problems(headers):
            self.note(place, problem)
        return headers

    def time(self, members: Mapping[str, Any], place: str) -> float | None:
        """Read when the request or entry ends, seconds since the epoch."""
        if "expires_at" not in members:
            return None
        found = self.moment(members["expires_at"])
        if found is None:
            self.note(
                f"{place}.expires_at",
                "must be a time with a zone (RFC 3339), such as 2026-11-25T10:00:00Z",
            )
        return found

    def parts(self, value: Any, place: str) -> tuple[MapRequest, ...]:
        """Read the parts, part 1 first."""
        if not isinstance(value, (list, tuple)) or not value:
            self.note(place, "must be a list of URLs or objects, and not empty")
            return ()
        if len(value) > MAX_PARTS:
            self.note(place, f"holds {len(value)} parts, more than {MAX_PARTS}")
            return ()
        found: dict[int, MapRequest | None] = {}
        for index, item in enumerate(value):
            here = f"{place}[{index}]"
            number = index + 1
            if isinstance(item, Mapping) and "part_number" in item:
                number = item["part_number"]
            if not jsondoc.is_int(number) or not 1 <= number <= MAX_PARTS:
                self.note(f"{here}.part_number", f"must be 1 to {MAX_PARTS}")
                continue
            if number in found:
                self.note(f"{here}.part_number", f"part {number} comes twice")
            found[number] = request = self.request(item, here, "PUT")
            signed = request and _PART_NUMBER.search(request.url.reveal())
            if signed and int(signed[1]) != number:
                self.note(here, f"is part {number}, its URL is for part {signed[1]}")
        missing = next(
            (n for n in range(1, max(found, default=0)) if n not in found), 0
        )
        if missing:
            self.note(place, f"part {missing} is missing")
        return tuple(request for _, request in sorted(found.items()) if request)

    def upload_id(
        self, members: Mapping[str, Any], parts: Sequence[MapRequest], place: str
    ) -> str | None:
        """Return the upload id, read from the part URLs if the entry has none."""
        place = f"{place}.upload_id"
        given = members.get("upload_id")
        if "upload_id" in members and (not isinstance(given, str) or not given):
            self.note(place, "must be a string, and not empty")
            return None
        searched = (_UPLOAD_ID.search(part.url.reveal()) for part in parts)
        found = {unquote(match[1]) for match in searched if match}
        if len(found | ({given} if given else set())) > 1:
            self.note(place, "the part URLs are not all of this one upload")
        if not given and not found and parts:
            self.note(place, "is missing, and the part URLs name none")
        return given or next(iter(found), None)

    def part_size(self, members: Mapping[str, Any], place: str) -> int | None:
        """Read the bytes of a part; None if nothing is said."""
        if "part_size" not in members:
            return None
        size = members["part_size"]
        if not jsondoc.is_int(size) or not MIN_PART <= size <= MAX_PART:
            problem = f"must be {MIN_PART} to {MAX_PART} bytes"
            self.note(f"{place}.part_size", problem)
            return None
        return int(size)


def _moment(text: str) -> float | None:
    """Read RFC 3339 with a zone, in seconds since the epoch; None for anything else."""
    found = _TIME.fullmatch(text)
    if not found:
        return None
    day, clock, fraction, zone = found.groups(default="0")
    micros = (fraction + "00000")[:6]
    zone = "+00:00" if zone in "Zz" else zone
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}").timestamp()
    except (ValueError, OverflowError):
        return None


def _kind(members: Mapping[str, Any], name: str) -> str:
    return jsondoc.kind(members[name]) if name in members else "missing"
