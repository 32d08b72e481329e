"""URL map parser: accepts several formats, and reports all problems at once.

The JSON reader never holds a whole text in memory. The standard ``json`` needs 3.5 to 4.6
times the size of a map of 100,000 objects; this reader needs 1.8 times.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO, TypeVar
from urllib.parse import unquote

from attrs import define, field

from .. import parsing, url_checks
from ..errors import ConfigurationError
from ..model import MAX_PART, MAX_PARTS, MIN_PART, frozen_mapping
from ..secret import SecretURL, redact
from ..units import MIB
from .url_map import EXTRAS, VERSION, Kept, MapEntry, MapRequest, URLMap

T = TypeVar("T")

PIECE = 256 * 1024
# Characters of one value: an entry of 10,000 parts has some 10 million. What is no JSON,
# such as a device that never ends, is not collected beyond it.
MAX_VALUE = 256 * MIB
# A number may continue after as many characters as ``e-``.
_AFTER = 3
_BLANKS = re.compile(r"[ \t\n\r]*")
# A name without escapes, and what stands around it: nearly every name is one.
_NAME = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:')
# The step of the decoder that says where a value ends; its stubs leave it out.
_scan: Callable[[str, int], tuple[Any, int]] = parsing.DECODER.scan_once  # type: ignore[attr-defined]


class JSONStream:
    """Reader of a JSON text or file; each method reads on from the current position.

    Methods raise ValueError if the text is not JSON or not UTF-8. The message has the
    position, but no part of the text. A byte order mark is ignored.
    """

    def __init__(
        self,
        data: bytes | str | BinaryIO,
        piece: int = PIECE,
        max_value: int = MAX_VALUE,
    ) -> None:
        self._more = _decoded(data, piece)
        self._max_value = max_value
        self._text = ""
        self._at = 0
        self._lines = 0  # that were dropped before the text
        self._column = 0  # characters of its first line that were dropped

    @property
    def line(self) -> int:
        """Number of the current line, counted from 1."""
        return self._place(self._at)[0]

    def ahead(self) -> str:
        """Skip whitespace and return the next character, without consuming it.

        At the end of the text, the result is empty.
        """
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._fill():
                return self._text[self._at : self._at + 1]

    def head(self) -> str:
        """Skip whitespace and return the text in memory, without consuming it."""
        self.ahead()
        return self._text[self._at :]

    def value(self) -> Any:
        """Read one JSON value and return it."""
        self.ahead()
        while True:
            try:
                value, end = _scan(self._text, self._at)
            except RecursionError:
                raise ValueError("nested too deeply") from None
            except (StopIteration, json.JSONDecodeError) as error:
                if self._fill():
                    continue
                if isinstance(error, json.JSONDecodeError):
                    raise self._error(error.msg, error.pos) from None
                raise self._error("Expecting value", error.value) from None
            if len(self._text) - end < _AFTER and self._fill():
                continue
            self._at = end
            return value

    def members(self) -> Iterator[str]:
        """Read an object: yield each name; the caller then reads its value."""
        return self._each(self._name, "}")

    def items(self) -> Iterator[Any]:
        """Read a list, and yield its values."""
        return self._each(self.value, "]")

    def _each(self, read: Callable[[], T], mark: str) -> Iterator[T]:
        self._at += 1
        is_over = self.ahead() == mark
        self._at += is_over
        while not is_over:
            yield read()
            found = self.ahead()
            if found not in (mark, ","):
                raise self._error("Expecting ',' delimiter", self._at)
            self._at += 1
            is_over = found == mark

    def lines(self) -> Iterator[tuple[int, str]]:
        """Read the rest of the text, and yield each non-blank line with its number.

        Only LF ends a line, because keys may contain other Unicode line breaks.
        """
        number = self.line
        end = 0
        while end >= 0:
            end = self._text.find("\n", self._at)
            if end < 0 and self._fill():
                end = 0
                continue
            stop = len(self._text) if end < 0 else end
            line = self._text[self._at : stop].strip(" \t\r")
            self._at = stop + 1
            if line:
                yield number, line
            number += 1

    def end(self) -> None:
        """Check that the text ends; ValueError if anything but whitespace follows."""
        if self.ahead():
            raise self._error("Extra data", self._at)

    def _name(self) -> str:
        if found := _NAME.match(self._text, self._at):
            self._at = found.end()
            return found[1]
        if self.ahead() != '"':
            problem = "Expecting property name enclosed in double quotes"
            raise self._error(problem, self._at)
        name = str(self.value())
        if self.ahead() != ":":
            raise self._error("Expecting ':' delimiter", self._at)
        self._at += 1
        return name

    def _fill(self) -> bool:
        """Drop the consumed text, and at least double the text that is left in memory.

        Doubling limits how often one long value is scanned. Returns False if the source
        has no more text.
        """
        rest = self._text[self._at :]
        if len(rest) > self._max_value:
            raise ValueError(f"not JSON: a value is longer than {self._max_value}")
        pieces, size = [rest], 0
        while size <= len(rest) and (piece := next(self._more, "")):
            pieces.append(piece)
            size += len(piece)
        if not size:
            return False
        line, column = self._place(self._at)
        self._lines, self._column = line - 1, column - 1
        self._text = "".join(pieces)
        self._at = 0
        return True

    def _place(self, at: int) -> tuple[int, int]:
        """Return line and column of the index *at*, counted from 1."""
        lines = self._text.count("\n", 0, at)
        if not lines:
            return self._lines + 1, self._column + at + 1
        return self._lines + lines + 1, at - self._text.rfind("\n", 0, at)

    def _error(self, problem: str, at: int) -> ValueError:
        line, column = self._place(at)
        return ValueError(f"not JSON: {problem} at line {line} column {column}")


def _decoded(data: bytes | str | BinaryIO, piece: int) -> Iterator[str]:
    """Yield the text of *data* in non-empty pieces."""
    if isinstance(data, str):
        yield data.removeprefix("\ufeff")
        return
    file = io.BytesIO(data) if isinstance(data, bytes) else data
    decoder = codecs.getincrementaldecoder("utf-8")()
    before, is_first, read = 0, True, b"-"
    while read:
        read = file.read(piece)
        try:
            text = decoder.decode(read, not read)
        except UnicodeDecodeError as error:
            # Bytes of a cut character were kept from the piece before.
            place = before - (len(error.object) - len(read)) + error.start
            raise ValueError(f"not UTF-8 at byte {place}") from None
        before += len(read)
        if text and is_first:
            text, is_first = text.removeprefix("\ufeff"), False
        if text:
            yield text


# The second name of each is what Alibaba Cloud's own samples print.
_ALIASES = {"signed_headers": "headers", "expiration": "expires_at"}
_REQUEST = frozenset({"method", "url", "headers", "expires_at", "part_number"})
_ENTRY = _REQUEST | {"path", "upload_id", "part_size", "parts", *EXTRAS}
# Nearly all entries of a large map have no other member.
_SIMPLE = {"path", "url", "headers", "expires_at"}
# A bare map's members are paths with a slash, so these names mean one entry.
_MARKS = {"path", "url", "parts", "upload_id"}
# An entry's own URL goes by its method.
_OWN_SLOTS = {"PUT": "put", "GET": "get", "HEAD": "head"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_PART_NUMBER = re.compile(r"[?&]partNumber=([0-9]{1,6})(?=&|$)")
_UPLOAD_ID = re.compile(r"[?&]uploadId=([^&]*)")
_MAX_PATH = 63 + 1 + 1024
_MAX_SHOWN = 120
_MAX_READ = 1000  # characters of a name that are looked at to show it
_MAX_MEANT = 20  # characters of a member that may be a typo
_MAX_PROBLEMS = 1000
_MAX_SAME = 1000


def parse(
    data: bytes | str | BinaryIO | Mapping[str, Any] | Sequence[Any], piece: int = PIECE
) -> URLMap:
    """Return the URL map in *data*.

    These formats are accepted: the version-1 object; a bare object ``{"bucket/key": URL
    or entry}``; JSON Lines with a ``path`` each; a list of URLs, in JSON or one per
    line; one entry or one signed request as Alibaba Cloud's samples print them.
    *data* is the text, a file that is read in pieces of *piece* bytes, or parsed
    JSON.

    Raises:
        ConfigurationError: the message lists every problem with its place, but no query
            of a URL.
    """
    reader = _MapReader()
    try:
        if isinstance(data, (bytes, str)) or not isinstance(data, (Mapping, Sequence)):
            reader.text(JSONStream(data, piece))
        else:
            reader.document(data)
    except _TooManyProblems as error:
        reader.problems = [*error.problems, "URL map: the rest was not read"]
    except ValueError as error:
        reader.problems.append(f"URL map: {error}")
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return URLMap(reader.entries)


def shown(text: str) -> str:
    """Return *text* for messages; hide its secrets if it is a signed URL."""
    if "://" in text[:_MAX_SHOWN]:
        return repr(SecretURL(text[:_MAX_READ]).shown()[:_MAX_SHOWN])
    name, mark, _ = redact(text[:_MAX_READ]).partition("?")
    return repr(name[:_MAX_SHOWN] + ("?..." if mark else ""))


@lru_cache(1024)
def _meant(name: str, known: frozenset[str]) -> str | None:
    """Return the known member that *name* resembles most; None if there is none."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for a typo

    close = get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else None


@define(slots=False)
class _Place:
    """Place of an entry in the map, for messages; its text is made only when needed."""

    before: str
    path: str

    def __str__(self) -> str:
        return f"{self.before}[{shown(self.path)}]"


def _sent(pairs: tuple[tuple[Any, Any], ...]) -> Mapping[str, str] | None:
    """Return *pairs* as headers; None if one of them is invalid."""
    headers = dict(pairs)
    if not all(isinstance(name, str) for name in headers):
        return None
    return None if any(url_checks.header_problems(headers)) else frozen_mapping(headers)


def _moment(text: str) -> float | None:
    """Return an RFC 3339 time with zone as seconds since the epoch, or None."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


class _TooManyProblems(Exception):  # noqa: N818 - ends the reading, is no error itself
    """Control-flow exception: a map has so many problems that the rest is not read."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__()
        self.problems = problems


@define
class _MapReader:
    """Reader of one URL map; each method returns None after it recorded a problem."""

    problems: list[str] = field(factory=list)
    entries: dict[str, Kept] = field(factory=dict)
    # Equal values are one object. Headers may hold secrets, and go with the reader.
    _headers_of: Callable[[Any], Mapping[str, str] | None] = field(
        factory=lambda: lru_cache(_MAX_SAME)(_sent)
    )
    _time_of: Callable[[str], float | None] = field(
        factory=lambda: lru_cache(_MAX_SAME)(_moment)
    )

    def note(self, place: object, problem: str) -> None:
        """Record a problem; end the reading if there are too many."""
        self.problems.append(f"{place}: {problem}")
        if len(self.problems) == _MAX_PROBLEMS:
            raise _TooManyProblems(self.problems)

    def text(self, text: JSONStream) -> None:
        """Read the whole text of a map; ValueError if it is not JSON."""
        mark = text.ahead()
        if not mark:
            self.note("URL map", "is empty")
        elif _is_lines(text.head()):
            self.lines(text)
        elif mark == "{":
            self.whole(text)
        elif mark == "[":
            self.items(text.items())
            text.end()
        else:
            value = text.value()
            text.end()
            self.document(value)

    def lines(self, text: JSONStream) -> None:
        for number, line in text.lines():
            place = f"line {number}"
            if line[0] not in '{["':
                self.item(line, place)
                continue
            try:
                value = parsing.loads(line)
            except ValueError as error:
                problem = str(error).replace(" at line 1 column", " at column")
                self.note(place, problem)
            else:
                self.item(value, place)

    def whole(self, text: JSONStream) -> None:
        """Read a top-level object: a map, an entry, or the first line of JSON Lines."""
        line = text.line
        listed, bare = _MapReader(), _MapReader()
        rest = _members_of(text, listed, bare)
        end = text.line
        if text.ahead():
            if end != line or text.line == end:
                text.end()
            self.item(rest, f"line {line}")
            self.lines(text)
        elif rest.get("objects") is listed:
            if self.is_known(rest.get("version")):
                self.entries, self.problems = listed.entries, listed.problems
        elif "version" in rest or _MARKS & rest.keys():
            self.document(rest)
        else:
            self.entries, self.problems = bare.entries, bare.problems
            self.objects(rest, "")

    def document(self, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            self.items(value)
        elif not isinstance(value, Mapping):
            self.note("URL map", f"is {parsing.kind(value)}, not an object or a list")
        elif "version" in value:
            if self.is_known(value["version"]):
                if isinstance(objects := value.get("objects"), Mapping):
                    self.objects(objects, "objects")
                else:
                    self.note("objects", "must be an object of paths")
        elif _MARKS & value.keys():
            self.item(value, "URL map")
        else:
            self.objects(value, "")

    def is_known(self, version: Any) -> bool:
        if parsing.is_int(version) and version == VERSION:
            return True
        problem = f"only {VERSION} is known: update this package, or the map"
        if version is None:
            problem = f'is missing beside "objects": add "version": {VERSION}'
        self.note("version", problem)
        return False

    def objects(self, objects: Mapping[Any, Any], place: str) -> None:
        for path, value in objects.items():
            self.add(path, value, _Place(place, str(path)))

    def items(self, items: Iterable[Any]) -> None:
        for index, item in enumerate(items):
            self.item(item, f"[{index}]")

    def item(self, value: Any, place: str) -> None:
        """Read an entry of a list; its path is a member, or is taken from its URL."""
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
            bucket, key = url_checks.object_of(request.url.reveal())
        except ValueError:
            self.note(place, "the URL's path is not UTF-8: give the path yourself")
            return
        if bucket is not None:
            self.keep(f"{bucket}/{key}", entry, place)
            return
        problem = f"the URL {request.url.shown()} does not show the bucket"
        self.note(place, problem + ': give the path, as in {"bucket/key": URL}')

    def add(self, path: Any, value: Any, place: object) -> None:
        kept = self.simple(value) or self.entry(value, str(place))
        if not isinstance(path, str):
            self.note(place, "the path is not a string")
        elif kept is not None:
            self.keep(path.removeprefix("osspresigned://"), kept, place)

    def keep(self, path: str, entry: Kept, place: object) -> None:
        bucket, _, key = path.partition("/")
        try:
            length = len(path.encode())
        except UnicodeEncodeError:
            length = 0
        if path.startswith(("https://", "http://")):
            self.note(place, "a URL is in the place of bucket/key: swap the two")
        elif not bucket or not (key or _only_lists(entry)):
            self.note(place, "the path must be bucket/key")
        elif not 0 < length <= _MAX_PATH:
            self.note(place, "the path is too long, or not Unicode text")
        elif path in self.entries:
            self.note(place, f"the path {shown(path)} appears twice")
        else:
            self.entries[path] = entry

    def simple(self, value: Any) -> MapRequest | SecretURL | None:
        """Return a simple PUT by a fast path; None if a value needs the full reader."""
        if isinstance(value, str):
            return None if url_checks.url_problem(value) else SecretURL(value)
        if not isinstance(value, dict) or not value.keys() <= _SIMPLE:
            return None
        url = value.get("url")
        if not isinstance(url, str) or url_checks.url_problem(url):
            return None
        headers = ends = None
        if "headers" in value:
            try:
                headers = self._headers_of(tuple(value["headers"].items()))
            except (AttributeError, TypeError):
                return None
            if headers is None:
                return None
        if "expires_at" in value:
            ends = self.moment(value["expires_at"])
            if ends is None:
                return None
        if headers is None and ends is None:
            return SecretURL(url)
        return MapRequest(url=SecretURL(url), headers=headers, expires_at=ends)

    def moment(self, value: Any) -> float | None:
        """Return the time *value* as seconds since the epoch; None if it is invalid."""
        if isinstance(value, datetime):
            return value.timestamp() if value.tzinfo is not None else None
        return self._time_of(value) if isinstance(value, str) else None

    def entry(self, value: Any, place: str) -> MapEntry | None:
        """Return the map entry in *value*, the JSON value of one path."""
        if isinstance(value, str):
            request = self.request(value, place, "PUT")
            return None if request is None else MapEntry(put=request)
        before = len(self.problems)
        members = self.members(value, place, _ENTRY)
        if members is None:
            return None
        found: dict[str, Any] = {
            slot: one
            if (slot, one) == ("complete", "external")
            else self.request(one, here, method)
            for slot, one, here, method in self.requests(members, place)
        }
        expires_at = self.time(members, place)
        if "parts" in members:
            found["parts"] = parts = self.parts(members["parts"], f"{place}.parts")
            found["upload_id"] = self.upload_id(members, parts, place)
            found["part_size"] = self.part_size(members, place)
        elif misplaced := {"upload_id", "part_size", "complete"} & members.keys():
            self.note(place, f"has {', '.join(sorted(misplaced))}, but no parts")
        if not found and len(self.problems) == before:
            self.note(place, "has no URL")
        if len(self.problems) > before:
            return None
        return MapEntry(expires_at=expires_at, **found)

    def requests(
        self, members: Mapping[str, Any], place: str
    ) -> Iterator[tuple[str, Any, str, str]]:
        """Yield member, value, place and method of each request except the parts."""
        for slot, method in EXTRAS.items():
            if slot in members:
                yield slot, members[slot], f"{place}.{slot}", method
        own = str(members.get("method", "PUT")).upper()
        slot = _OWN_SLOTS.get(own, "")
        if "url" not in members:
            if "headers" in members:
                self.note(f"{place}.headers", "belong to a url: give each part its own")
        elif not slot:
            self.note(f"{place}.method", "must be PUT; GET and HEAD are read too")
        elif slot in members:
            self.note(f"{place}.url", f"is for {own}, and there is {slot!r} too")
        else:
            names = _REQUEST & members.keys() - {"expires_at"}
            yield slot, {name: members[name] for name in names}, place, own

    def members(
        self, value: Any, place: str, known: frozenset[str]
    ) -> dict[str, Any] | None:
        """Return the known members of *value*; record likely typos as problems."""
        if not isinstance(value, Mapping):
            self.note(place, f"is {parsing.kind(value)}, not a URL or an object")
            return None
        members: dict[str, Any] = {}
        for given, item in value.items():
            if not isinstance(given, str):
                self.note(place, "the name of a member is not a string")
                continue
            name = _ALIASES.get(given, given)
            if name in members:
                self.note(f"{place}.{given}", f"means {name}, which is also present")
            elif name in known:
                # PresignResult writes null where it signed no header.
                nothing = item is None and given == "signed_headers"
                members[name] = {} if nothing else item
            elif len(name) <= _MAX_MEANT and (close := _meant(name, known)):
                problem = f"unknown member, did you mean {close!r}?"
                self.note(f"{place}.{shown(given)}", problem)
        return members

    def request(self, value: Any, place: str, method: str) -> MapRequest | None:
        """Return the request in *value*: a URL, or an object with a URL."""
        before = len(self.problems)
        is_url = isinstance(value, str)
        members = {"url": value} if is_url else self.members(value, place, _REQUEST)
        if members is None:
            return None
        url, where = members.get("url"), place if is_url else f"{place}.url"
        if not isinstance(url, str):
            kind = parsing.kind(url) if "url" in members else "missing"
            self.note(where, f"must be a string, not {kind}")
        elif problem := url_checks.url_problem(url):
            self.note(where, f"the URL {problem}")
        if str(members.get("method", method)).upper() != method:
            self.note(f"{place}.method", f"must be {method}")
        headers = self.headers(members, place)
        expires_at = self.time(members, place)
        if len(self.problems) > before:
            return None
        url = SecretURL(str(url))
        return MapRequest(url=url, headers=headers, expires_at=expires_at)

    def headers(self, members: Mapping[str, Any], place: str) -> Any:
        """Return the headers to send; None if the map has none for the request."""
        if "headers" not in members:
            return None
        headers = members["headers"]
        place = f"{place}.headers"
        if not isinstance(headers, Mapping) or not all(
            isinstance(name, str) for name in headers
        ):
            self.note(place, "must be an object of names and values")
        elif any("?" in name for name in headers):
            # It can be a signed URL, which must not be shown.
            self.note(place, "a header name is not an HTTP token")
        else:
            for problem in url_checks.header_problems(headers):
                self.note(place, problem)
        return headers

    def time(self, members: Mapping[str, Any], place: str) -> float | None:
        """Return the expiry time of a request or entry, in seconds since the epoch."""
        if "expires_at" not in members:
            return None
        if (found := self.moment(members["expires_at"])) is None:
            problem = "must be a time with a zone (RFC 3339): 2026-11-25T10:00:00Z"
            self.note(f"{place}.expires_at", problem)
        return found

    def parts(self, value: Any, place: str) -> tuple[MapRequest, ...]:
        """Return the requests for the parts, part 1 first."""
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
            if not parsing.is_int(number) or not 1 <= number <= MAX_PARTS:
                self.note(f"{here}.part_number", f"must be 1 to {MAX_PARTS}")
                continue
            if number in found:
                self.note(f"{here}.part_number", f"part {number} appears twice")
            found[number] = request = self.request(item, here, "PUT")
            signed = request and _PART_NUMBER.search(request.url.reveal())
            if signed and int(signed[1]) != number:
                self.note(here, f"is part {number}, its URL is for part {signed[1]}")
        if missing := {*range(1, max(found, default=0))} - found.keys():
            self.note(place, f"part {min(missing)} is missing")
        return tuple(request for _, request in sorted(found.items()) if request)

    def upload_id(
        self, members: Mapping[str, Any], parts: Sequence[MapRequest], place: str
    ) -> str | None:
        """Return the upload ID in the member, or else in the URLs of the parts."""
        place = f"{place}.upload_id"
        given = members.get("upload_id")
        if "upload_id" in members and (not isinstance(given, str) or not given):
            self.note(place, "must be a string, and not empty")
            return None
        searched = (_UPLOAD_ID.search(part.url.reveal()) for part in parts)
        found = {unquote(match[1]) for match in searched if match}
        if len(found | ({given} if given else set())) > 1:
            self.note(place, "the part URLs do not all belong to this upload")
        if not given and not found and parts:
            self.note(place, "is missing, and the part URLs name none")
        return given or next(iter(found), None)

    def part_size(self, members: Mapping[str, Any], place: str) -> int | None:
        """Return the part size in bytes; None if the member is missing."""
        size = members.get("part_size", MIN_PART)
        if not parsing.is_int(size) or not MIN_PART <= size <= MAX_PART:
            self.note(f"{place}.part_size", f"must be {MIN_PART} to {MAX_PART} bytes")
        return members.get("part_size")


def _members_of(
    text: JSONStream, listed: _MapReader, bare: _MapReader
) -> dict[str, Any]:
    """Return the members of a JSON object, except map entries.

    Entries in ``objects`` go to the reader *listed*, other entries to *bare*.
    """
    rest: dict[str, Any] = {}
    for name in text.members():
        if name in rest:
            raise ValueError(f"the member {shown(name)} appears twice in one object")
        if name == "objects" and text.ahead() == "{":
            rest[name] = listed
            for path in text.members():
                listed.add(path, text.value(), _Place(name, path))
        elif "/" in name:
            bare.add(name, text.value(), _Place("", name))
        else:
            rest[name] = text.value()
    return rest


def _is_lines(head: str) -> bool:
    """Return whether each line has one URL or one JSON object, judged by the *head*."""
    first, _, rest = head.partition("\n")
    first, rest = first.rstrip(" \t\r"), rest.lstrip(" \t\r\n")
    if first.lower().startswith(("https:", "http:")):
        return True
    if not first.startswith("{") or not rest:
        return False
    try:
        return isinstance(parsing.loads(first), dict)
    except ValueError:
        # A broken first line among lines that are whole is still JSON Lines.
        return first.endswith("}") and rest.startswith("{")


def _only_lists(entry: Kept) -> bool:
    """Return whether *entry* permits only listing a bucket."""
    return isinstance(entry, MapEntry) and entry == MapEntry(
        ls=entry.ls, expires_at=entry.expires_at
    )
