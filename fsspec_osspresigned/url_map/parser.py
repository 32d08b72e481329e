"""URL map parser: accepts several formats, and reports all problems at once."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import unquote

from attrs import define, field

from .. import parsing, url_checks
from ..errors import ConfigurationError
from ..model import MAX_MAP, MAX_PART, MAX_PARTS, MIN_PART
from ..secret import SecretURL, redact
from ..units import MIB
from .url_map import EXTRAS, VERSION, MapEntry, MapRequest, URLMap

# Only LF ends a line, because keys may contain other Unicode line breaks.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

# Alternative names of keys, which Alibaba Cloud's samples print.
_ALIASES = {"signed_headers": "headers", "expiration": "expires_at"}
_REQUEST = frozenset({"method", "url", "headers", "expires_at", "part_number"})
_ENTRY = _REQUEST | {"path", "upload_id", "part_size", "parts", *EXTRAS}
# The keys of a bare map are paths, which contain a slash. So these names mean that the
# object is one entry.
_MARKS = {"path", "url", "parts", "upload_id"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_PART_NUMBER = re.compile(r"[?&]partNumber=([0-9]{1,6})(?=&|$)")
_UPLOAD_ID = re.compile(r"[?&]uploadId=([^&]*)")
_MAX_PATH = 63 + 1 + 1024
_MAX_SHOWN = 120
_MAX_READ = 1000  # characters of a name that are read to show it
_MAX_MEANT = 20  # maximum characters of a key that may be a typo
_MAX_PROBLEMS = 1000


def parse(data: bytes | str | BinaryIO | Mapping[str, Any] | Sequence[Any]) -> URLMap:
    """Return the URL map in *data*.

    These formats are accepted: the version-1 object; a bare object ``{"bucket/key": URL
    or entry}``; JSON Lines with a ``path`` in each line; a list of URLs, in JSON or one
    per line; one entry, or one signed request as Alibaba Cloud's samples print it.
    *data* is the text, a file of at most ``MAX_MAP`` bytes, or parsed JSON. Raises
    ConfigurationError, which lists every problem with its position, but no query of a
    URL.
    """
    reader = _MapReader()
    try:
        if isinstance(data, (bytes, str)) or not isinstance(data, (Mapping, Sequence)):
            reader.text(_bytes_of(data))
        else:
            reader.document(data)
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
    from difflib import get_close_matches  # noqa: PLC0415 - needed only for a typo

    close = get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else None


@define(slots=False)
class _Where:
    """Position of an entry, for messages; its text is made only when needed."""

    before: str
    path: str

    def __str__(self) -> str:
        return f"{self.before}[{shown(self.path)}]"


@define
class _MapReader:
    """Reader of one URL map; its methods record all mistakes in *problems*."""

    problems: list[str] = field(factory=list)
    entries: dict[str, MapEntry] = field(factory=dict)

    def note(self, where: object, problem: str) -> None:
        """Record *problem*; raise ValueError if there are too many to read on."""
        self.problems.append(f"{where}: {problem}")
        if len(self.problems) == _MAX_PROBLEMS:
            raise ValueError("the rest was not read")

    def text(self, data: bytes) -> None:
        """Read the text of a map, as JSON or line by line.

        Raises ValueError if the text is neither.
        """
        if _is_lines(data):
            self.lines(data)
        elif data.strip():
            self.document(parsing.loads(data))
        else:
            self.note("URL map", "is empty")

    def lines(self, data: bytes) -> None:
        for number, line in _lines_of(data):
            where = f"line {number}"
            try:
                value = parsing.loads(line) if line[0] in b'{["' else line.decode()
            except UnicodeDecodeError:
                self.note(where, "is not UTF-8")
            except ValueError as error:
                problem = str(error).replace(" at line 1 column", " at column")
                self.note(where, problem)
            else:
                self.item(value, where)

    def document(self, value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for index, item in enumerate(value):
                self.item(item, f"[{index}]")
        elif not isinstance(value, Mapping):
            self.note("URL map", f"is {parsing.kind(value)}, not an object or a list")
        elif "version" in value or isinstance(value.get("objects"), Mapping):
            if self.is_known(value.get("version")):
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

    def objects(self, objects: Mapping[Any, Any], where: str) -> None:
        for path, value in objects.items():
            self.add(path, value, _Where(where, str(path)))

    def item(self, value: Any, where: str) -> None:
        """Read an entry of a list; its path is a key, or is taken from its URL."""
        if isinstance(value, Mapping) and "path" in value:
            self.add(value["path"], value, where)
            return
        entry = self.entry(value, where)
        if entry is None:
            return
        requests = (entry.put, *entry.parts[:1], entry.get, entry.head)
        url = next((request.url for request in requests if request), None)
        if url is None:
            self.note(where, "has neither a path nor a URL")
            return
        try:
            bucket, key = url_checks.object_of(url.reveal())
        except ValueError:
            self.note(where, "the URL's path is not UTF-8: give the path yourself")
            return
        if bucket is not None:
            self.keep(f"{bucket}/{key}", entry, where)
            return
        problem = f"the URL {url.shown()} does not show the bucket"
        self.note(where, problem + ': give the path, as in {"bucket/key": URL}')

    def add(self, path: Any, value: Any, where: object) -> None:
        entry = self.entry(value, where)
        if not isinstance(path, str):
            self.note(where, "the path is not a string")
        elif entry is not None:
            self.keep(path.removeprefix("osspresigned://"), entry, where)

    def keep(self, path: str, entry: MapEntry, where: object) -> None:
        bucket, _, key = path.partition("/")
        try:
            length = len(path.encode())
        except UnicodeEncodeError:
            length = 0
        only_lists = entry == MapEntry(ls=entry.ls, expires_at=entry.expires_at)
        if path.startswith(("https://", "http://")):
            self.note(where, "expected bucket/key, got a URL: swap the two")
        elif not bucket or not (key or only_lists):
            self.note(where, "the path must be bucket/key")
        elif not 0 < length <= _MAX_PATH:
            self.note(where, "the path is too long, or not Unicode text")
        elif path in self.entries:
            self.note(where, f"the path {shown(path)} appears twice")
        else:
            self.entries[path] = entry

    def entry(self, value: Any, where: object) -> MapEntry | None:
        if isinstance(value, str):
            put = self.request(value, where, "PUT")
            return None if put is None else MapEntry(put=put)
        before = len(self.problems)
        members = self.members(value, where, _ENTRY)
        if members is None:
            return None
        fields = self.requests(members, where)
        expires_at = self.time(members, where)
        if "parts" in members:
            fields["parts"] = parts = self.parts(members["parts"], f"{where}.parts")
            fields["upload_id"] = self.upload_id(members, parts, where)
            fields["part_size"] = self.part_size(members, where)
        elif misplaced := {"upload_id", "part_size", "complete"} & members.keys():
            self.note(where, f"has {', '.join(sorted(misplaced))}, but no parts")
        if not fields and len(self.problems) == before:
            self.note(where, "has no URL")
        if len(self.problems) > before:
            return None
        return MapEntry(expires_at=expires_at, **fields)

    def requests(self, members: Mapping[str, Any], where: object) -> dict[str, Any]:
        """Return the requests of an entry, except its parts, by the fields of MapEntry."""
        found: dict[str, Any] = {}
        if "url" in members:
            names = _REQUEST & members.keys() - {"expires_at"}
            own = {name: members[name] for name in names}
            found["put"] = self.request(own, where, "PUT")
        elif "headers" in members:
            self.note(f"{where}.headers", "belong to a url: give each part its own")
        for slot in [name for name in EXTRAS if name in members]:
            item = members[slot]
            if (slot, item) != ("complete", "external"):
                item = self.request(item, f"{where}.{slot}", EXTRAS[slot])
            found[slot] = item
        return found

    def members(
        self, value: Any, where: object, known: frozenset[str]
    ) -> dict[str, Any] | None:
        """Return the known keys of *value*, without aliases; None if it is no object.

        A likely typo is recorded as a problem. Other unknown keys are ignored.
        """
        if not isinstance(value, Mapping):
            self.note(where, f"is {parsing.kind(value)}, not a URL or an object")
            return None
        members: dict[str, Any] = {}
        for raw, item in value.items():
            if not isinstance(raw, str):
                self.note(where, "a key is not a string")
                continue
            name = _ALIASES.get(raw, raw)
            if name in members:
                self.note(f"{where}.{raw}", f"means {name}, which is also present")
            elif name in known:
                # If no header was signed, PresignResult contains null here.
                nothing = item is None and raw == "signed_headers"
                members[name] = {} if nothing else item
            elif len(name) <= _MAX_MEANT and (close := _meant(name, known)):
                problem = f"unknown key, did you mean {close!r}?"
                self.note(f"{where}.{shown(raw)}", problem)
        return members

    def request(self, value: Any, where: object, method: str) -> MapRequest | None:
        before = len(self.problems)
        is_url = isinstance(value, str)
        members = {"url": value} if is_url else self.members(value, where, _REQUEST)
        if members is None:
            return None
        url = members.get("url")
        if not isinstance(url, str):
            kind = parsing.kind(url) if "url" in members else "missing"
            self.note(f"{where}.url", f"must be a string, not {kind}")
        elif problem := url_checks.url_problem(url):
            self.note(where if is_url else f"{where}.url", f"the URL {problem}")
        if str(members.get("method", method)).upper() != method:
            self.note(f"{where}.method", f"must be {method}")
        headers = self.headers(members, where)
        expires_at = self.time(members, where)
        if len(self.problems) > before:
            return None
        url = SecretURL(str(url))
        return MapRequest(url=url, headers=headers, expires_at=expires_at)

    def headers(self, members: Mapping[str, Any], where: object) -> Any:
        if "headers" not in members:
            return None
        headers = members["headers"]
        if not isinstance(headers, Mapping) or not all(
            isinstance(name, str) for name in headers
        ):
            self.note(f"{where}.headers", "must be an object of names and values")
        elif any("?" in name for name in headers):
            # The name may be a signed URL, which must not be shown.
            self.note(f"{where}.headers", "a header name is not an HTTP token")
        else:
            for problem in url_checks.header_problems(headers):
                self.note(f"{where}.headers", problem)
        return headers

    def time(self, members: Mapping[str, Any], where: object) -> float | None:
        if "expires_at" not in members:
            return None
        if (seconds := _moment(members["expires_at"])) is None:
            problem = "must be a time with a zone (RFC 3339): 2026-11-25T10:00:00Z"
            self.note(f"{where}.expires_at", problem)
        return seconds

    def parts(self, value: Any, where: str) -> tuple[MapRequest, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            self.note(where, "must be a list of URLs or objects, and not empty")
            return ()
        if len(value) > MAX_PARTS:
            self.note(where, f"holds {len(value)} parts, more than {MAX_PARTS}")
            return ()
        requests: dict[int, MapRequest | None] = {}
        for index, item in enumerate(value):
            here = f"{where}[{index}]"
            number = index + 1
            if isinstance(item, Mapping) and "part_number" in item:
                number = item["part_number"]
            if not parsing.is_int(number) or not 1 <= number <= MAX_PARTS:
                self.note(f"{here}.part_number", f"must be 1 to {MAX_PARTS}")
                continue
            if number in requests:
                self.note(f"{here}.part_number", f"part {number} appears twice")
            requests[number] = request = self.request(item, here, "PUT")
            signed = request and _PART_NUMBER.search(request.url.reveal())
            if signed and int(signed[1]) != number:
                self.note(here, f"is part {number}, its URL is for part {signed[1]}")
        if missing := {*range(1, max(requests, default=0))} - requests.keys():
            self.note(where, f"part {min(missing)} is missing")
        return tuple(request for _, request in sorted(requests.items()) if request)

    def upload_id(
        self, members: Mapping[str, Any], parts: Sequence[MapRequest], where: object
    ) -> str | None:
        """Return the upload ID of the entry, or else of its part URLs, or None."""
        where = f"{where}.upload_id"
        own_id = members.get("upload_id")
        if "upload_id" in members and (not isinstance(own_id, str) or not own_id):
            self.note(where, "must be a string, and not empty")
            return None
        matches = (_UPLOAD_ID.search(part.url.reveal()) for part in parts)
        of_urls = {unquote(match[1]) for match in matches if match}
        if len(of_urls | ({own_id} if own_id else set())) > 1:
            self.note(where, "the part URLs do not all belong to this upload")
        if not own_id and not of_urls and parts:
            self.note(where, "is missing, and the part URLs name none")
        return own_id or next(iter(of_urls), None)

    def part_size(self, members: Mapping[str, Any], where: object) -> int | None:
        size = members.get("part_size", MIN_PART)
        if not parsing.is_int(size) or not MIN_PART <= size <= MAX_PART:
            self.note(f"{where}.part_size", f"must be {MIN_PART} to {MAX_PART} bytes")
        return members.get("part_size")


def _moment(value: Any) -> float | None:
    """Return a datetime, or an RFC 3339 text with a zone, as seconds since the epoch."""
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            value = datetime.fromisoformat(value.upper())
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.timestamp()
    except (ValueError, OverflowError):
        pass
    return None


def _bytes_of(data: bytes | str | BinaryIO) -> bytes:
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    elif not isinstance(data, bytes):
        data = data.read(MAX_MAP + 1)
    if len(data) > MAX_MAP:
        raise ValueError(f"is longer than {MAX_MAP // MIB} MiB")
    return data.removeprefix(codecs.BOM_UTF8)


def _lines_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each non-blank line with its number."""
    for number, match in enumerate(_LINE.finditer(data), 1):
        if line := match[0].strip(b" \t\r\n"):
            yield number, line


def _is_lines(data: bytes) -> bool:
    """Return whether each line of *data* has one URL or one JSON object.

    The first two lines decide.
    """
    lines = (line for _, line in _lines_of(data))
    first, second = next(lines, b""), next(lines, b"")
    if first[:6].lower().startswith((b"https:", b"http:")):
        return True
    return first.startswith(b"{") and second.startswith(b"{")
