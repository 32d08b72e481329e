"""Reading a URL map: every shape that is accepted, every problem at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Any
from urllib.parse import unquote

from attrs import define, field

from . import jsondoc, sendable
from .errors import ConfigurationError
from .model import MAX_PART, MAX_PARTS, MIN_PART
from .secret import SecretURL, redact
from .url_map import EXTRAS, VERSION, MapEntry, MapRequest, URLMap

# The second name of each is what Alibaba Cloud's own samples print.
_ALIASES = {"signed_headers": "headers", "expiration": "expires_at"}
_REQUEST = {"method", "url", "headers", "expires_at", "part_number"}
_ENTRY = _REQUEST | {"path", "upload_id", "part_size", "parts", *EXTRAS}
# A bare map's members are paths with a slash, so these names mean one entry.
_MARKS = {"path", "url", "parts", "upload_id"}
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)"
)
_PART_NUMBER = re.compile(r"[?&]partNumber=([0-9]{1,6})(?=&|$)")
_UPLOAD_ID = re.compile(r"[?&]uploadId=([^&]*)")
_MAX_PATH = 63 + 1 + 1024
_MAX_SHOWN = 120
_MAX_PROBLEMS = 1000


def parse(data: bytes | str | Mapping[str, Any] | Sequence[Any]) -> URLMap:
    """Return the map that *data* holds.

    Accepted: the version-1 object; a bare object ``{"bucket/key": URL or entry}``; JSON
    Lines with a ``path`` each; a list of URLs, in JSON or one a line; one entry or one
    signed request as Alibaba Cloud's samples print them.

    Args:
        data: the text, or what a JSON reader made of it.

    Raises:
        ConfigurationError: with every problem and its place, never a URL's query.
    """
    reader = _Reader()
    if isinstance(data, (bytes, str)):
        reader.text(data)
    else:
        reader.document(data)
    if reader.problems:
        raise ConfigurationError(reader.problems[:_MAX_PROBLEMS])
    return URLMap(reader.entries)


def _shown(text: str) -> str:
    """Show a name that may be anything, even a signed URL in the wrong place."""
    if "://" in text:
        return repr(SecretURL(text).shown()[:_MAX_SHOWN])
    return repr(redact(text)[:_MAX_SHOWN])


@define
class _Reader:
    """Collects entries and problems; methods return None where they noted one."""

    entries: dict[str, MapEntry] = field(factory=dict)
    problems: list[str] = field(factory=list)

    def note(self, place: str, problem: str) -> None:
        self.problems.append(f"{place}: {problem}")

    def text(self, data: bytes | str) -> None:
        try:
            text = data.decode() if isinstance(data, bytes) else data
        except UnicodeDecodeError as error:
            self.note("URL map", f"not UTF-8 at byte {error.start}")
            return
        text = text.removeprefix("\ufeff")
        first = [line for _, line in islice(_lines(text), 2)]
        if not first:
            self.note("URL map", "is empty")
        elif _is_lines(first):
            for number, line in _lines(text):
                self.line(line, f"line {number}")
        else:
            try:
                value = jsondoc.loads(text)
            except ValueError as error:
                self.note("URL map", str(error))
            else:
                self.document(value)

    def line(self, line: str, place: str) -> None:
        if line[:1] not in '{["':
            self.item(line, place)
            return
        try:
            value = jsondoc.loads(line)
        except ValueError as error:
            self.note(place, str(error).replace(" at line 1 column", " at column"))
        else:
            self.item(value, place)

    def document(self, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.item(item, f"[{index}]")
        elif not isinstance(value, Mapping):
            self.note("URL map", f"is {jsondoc.kind(value)}, not an object or a list")
        elif "version" in value:
            self.versioned(value)
        elif _MARKS & value.keys():
            self.item(value, "URL map")
        else:
            self.objects(value, "")

    def versioned(self, value: Mapping[Any, Any]) -> None:
        version = value["version"]
        if not jsondoc.is_int(version) or version != VERSION:
            known = f"only {VERSION} is known: update this package, or the map"
            self.note("version", known)
            return
        objects = value.get("objects")
        if isinstance(objects, Mapping):
            self.objects(objects, "objects")
        else:
            self.note("objects", "must be an object of paths")

    def objects(self, objects: Mapping[Any, Any], place: str) -> None:
        for path, value in objects.items():
            self.add(path, value, f"{place}[{_shown(str(path))}]")

    def item(self, value: Any, place: str) -> None:
        """Read an entry that names its path itself, or by its URL."""
        if isinstance(value, Mapping) and "path" in value:
            self.add(value["path"], value, place)
            return
        entry = self.entry(value, place)
        if entry is None:
            return
        request = entry.put or next(iter(entry.parts), None) or entry.get or entry.head
        if request is None:
            self.note(place, "has neither a path nor a URL")
            return
        try:
            bucket, key = sendable.object_of(request.url.reveal())
        except ValueError:
            self.note(place, "the URL's path is not UTF-8: give the path yourself")
            return
        if bucket is None:
            self.note(
                place,
                f"the bucket of {request.url.shown()} cannot be seen: give the path, "
                'as in {"bucket/key": URL}',
            )
            return
        self.keep(f"{bucket}/{key}", entry, place)

    def add(self, path: Any, value: Any, place: str) -> None:
        entry = self.entry(value, place)
        if not isinstance(path, str):
            self.note(place, "the path is not a string")
        elif entry is not None:
            self.keep(path.removeprefix("osspresigned://"), entry, place)

    def keep(self, path: str, entry: MapEntry, place: str) -> None:
        bucket, _, key = path.partition("/")
        try:
            length = len(path.encode())
        except UnicodeEncodeError:
            length = 0
        if path.startswith(("https://", "http://")):
            self.note(place, "a URL stands where bucket/key must: turn the pair round")
        elif not bucket or not key:
            self.note(place, "the path must be bucket/key")
        elif not 0 < length <= _MAX_PATH:
            self.note(place, "the path is too long, or not Unicode text")
        elif path in self.entries:
            self.note(place, f"the path {_shown(path)} comes twice")
        else:
            self.entries[path] = entry

    def entry(self, value: Any, place: str) -> MapEntry | None:
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
        found: dict[str, Any] = {}
        for name, method in EXTRAS.items():
            if name == "complete" and members.get(name) == "external":
                found[name] = "external"
            elif name in members:
                found[name] = self.request(members[name], f"{place}.{name}", method)
        return found

    def members(self, value: Any, place: str, known: set[str]) -> dict[str, Any] | None:
        """Return the members under their own names; others are ignored, typos noted."""
        if not isinstance(value, Mapping):
            self.note(place, f"is {jsondoc.kind(value)}, not a URL or an object")
            return None
        members: dict[str, Any] = {}
        for given, item in value.items():
            name = _ALIASES.get(given, given)
            if name in members:
                self.note(f"{place}.{given}", f"means {name}, which is there too")
            elif name in known:
                # PresignResult writes null where it signed no header.
                nothing = item is None and given == "signed_headers"
                members[name] = {} if nothing else item
            elif close := get_close_matches(str(name), known, n=1, cutoff=0.8):
                problem = f"unknown member, did you mean {close[0]!r}?"
                self.note(f"{place}.{_shown(str(given))}", problem)
        return members

    def request(self, value: Any, place: str, method: str) -> MapRequest | None:
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
        headers = members.get("headers")
        if headers is None and "headers" not in members:
            return None
        place = f"{place}.headers"
        if not isinstance(headers, Mapping) or not all(
            isinstance(name, str) for name in headers
        ):
            self.note(place, "must be an object of names and values")
            return None
        for problem in sendable.header_problems(headers):
            self.note(place, problem)
        return headers

    def time(self, members: Mapping[str, Any], place: str) -> float | None:
        if "expires_at" not in members:
            return None
        value = members["expires_at"]
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.timestamp()
        found = _TIME.fullmatch(value) if isinstance(value, str) else None
        if found:
            day, clock, fraction, zone = found.groups(default="0")
            micros = (fraction + "00000")[:6]
            zone = "+00:00" if zone in "Zz" else zone
            try:
                moment = datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}")
                return moment.timestamp()
            except (ValueError, OverflowError):
                pass
        self.note(
            f"{place}.expires_at",
            "must be a time with a zone (RFC 3339), such as 2026-11-25T10:00:00Z",
        )
        return None

    def parts(self, value: Any, place: str) -> tuple[MapRequest, ...]:
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
        if "part_size" not in members:
            return None
        size = members["part_size"]
        if not jsondoc.is_int(size) or not MIN_PART <= size <= MAX_PART:
            problem = f"must be {MIN_PART} to {MAX_PART} bytes"
            self.note(f"{place}.part_size", problem)
            return None
        return int(size)


def _kind(members: Mapping[str, Any], name: str) -> str:
    return jsondoc.kind(members[name]) if name in members else "missing"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines that are not blank, with their numbers, one by one.

    Only LF ends a line, since keys may hold what Unicode calls a line break.
    """
    start, number = 0, 0
    while start < len(text):
        number += 1
        end = text.find("\n", start) % (len(text) + 1)  # -1, not found, is the end
        if line := text[start:end].strip(" \t\r"):
            yield number, line
        start = end + 1


def _is_lines(first: Sequence[str]) -> bool:
    """Return whether each line stands for itself: URLs, or objects closed in a line.

    Args:
        first: the first line that is not blank, and the second if there is one.
    """
    if first[0].lower().startswith(("https:", "http:")):
        return True
    if not first[0].startswith("{") or len(first) == 1:
        return False
    try:
        return isinstance(jsondoc.loads(first[0]), dict)
    except ValueError:
        # A broken first line among lines that are whole is still JSON Lines.
        return first[0].endswith("}") and first[1].startswith("{")
