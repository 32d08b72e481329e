"""URL map parser: accepts several formats, and reports all problems at once.

While the JSON text is decoded, each request in it becomes a small object at once. A map
of version 1 therefore needs less than three times the memory of its file; the plain
result of ``json.loads`` would need up to five times.
"""

from __future__ import annotations

import codecs
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import unquote

from attrs import define, field

from .. import parsing, url_checks
from ..errors import ConfigurationError
from ..model import MAX_MAP, MAX_PART, MAX_PARTS, MIN_PART, frozen_mapping
from ..secret import SecretURL, redact
from ..units import KIB, MIB
from .url_map import EXTRAS, VERSION, Kept, MapEntry, MapRequest, URLMap

_PIECE = 256 * KIB
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
# Only LF ends a line, because keys may contain other Unicode line breaks.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")

# The second name of each is what Alibaba Cloud's own samples print.
_ALIASES = {"signed_headers": "headers", "expiration": "expires_at"}
_REQUEST = frozenset({"method", "url", "headers", "expires_at", "part_number"})
_ENTRY = _REQUEST | {"path", "upload_id", "part_size", "parts", *EXTRAS}
# Nearly all entries of a large map have no other key.
_SIMPLE = {"path", "url", "headers", "expires_at"}
# The keys of a bare map are paths with a slash, so these names mean one entry.
_MARKS = {"path", "url", "parts", "upload_id"}
# The method of an entry says for which call its own URL is.
_OWN_SLOTS = {"PUT": "put", "GET": "get", "HEAD": "head"}
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_PART_NUMBER = re.compile(r"[?&]partNumber=([0-9]{1,6})(?=&|$)")
_UPLOAD_ID = re.compile(r"[?&]uploadId=([^&]*)")
_MAX_PATH = 63 + 1 + 1024
_MAX_SHOWN = 120
_MAX_READ = 1000  # characters of a name that are read to show it
_MAX_MEANT = 20  # characters of a key that may be a typo
_MAX_PROBLEMS = 1000
_MAX_SAME = 1000


def parse(data: bytes | str | BinaryIO | Mapping[str, Any] | Sequence[Any]) -> URLMap:
    """Return the URL map in *data*.

    These formats are accepted: the version-1 object; a bare object ``{"bucket/key": URL
    or entry}``; JSON Lines with a ``path`` each; a list of URLs, in JSON or one per
    line; one entry or one signed request as Alibaba Cloud's samples print them.
    *data* is the text, a file of at most ``MAX_MAP`` bytes, or parsed JSON. Raises
    ConfigurationError, which lists every problem with where it is, but no query of a URL.
    """
    reader = _MapReader()
    try:
        if isinstance(data, (bytes, str)) or not isinstance(data, (Mapping, Sequence)):
            reader.text(_bytes_of(data))
        else:
            reader.document(data)
    except _TooManyProblems:
        reader.problems.append("URL map: the rest was not read")
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
    from difflib import get_close_matches  # noqa: PLC0415 - only for a typo

    close = get_close_matches(name, known, n=1, cutoff=0.8)
    return close[0] if close else None


@define(slots=False)
class _Where:
    """Where an entry is, for messages; its text is made only when needed."""

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
    """A map has so many problems that the rest is not read."""


@define
class _MapReader:
    """Reader of one URL map; its methods record what is wrong in *problems*."""

    problems: list[str] = field(factory=list)
    entries: dict[str, Kept] = field(factory=dict)
    is_text: bool = False
    where: str = "URL map"  # of the JSON text that is decoded
    # Equal headers and times share one object. Headers may be secret, so the cache ends
    # with the reader.
    _headers_of: Callable[[Any], Mapping[str, str] | None] = field(
        factory=lambda: lru_cache(_MAX_SAME)(_sent)
    )
    _time_of: Callable[[str], float | None] = field(
        factory=lambda: lru_cache(_MAX_SAME)(_moment)
    )

    def note(self, where: object, problem: str) -> None:
        self.problems.append(f"{where}: {problem}")
        if len(self.problems) == _MAX_PROBLEMS:
            raise _TooManyProblems

    def text(self, data: bytearray) -> None:
        """Read the text of a map, in JSON or by lines; empty *data* to save memory.

        Raises ValueError if a text in JSON is not UTF-8.
        """
        self.is_text = True
        decoder = parsing.decoder(self.decoded)
        if _is_lines(data):
            self.lines(data, decoder)
            return
        is_ascii = data.isascii()
        text = _ascii_json(data)
        if not text.strip(" \t\r\n"):
            self.note("URL map", "is empty")
            return
        try:
            value = parsing.loads(text, decoder=decoder)
        except ValueError as error:
            # The column would count the escapes of other characters.
            problem = str(error)
            if not is_ascii:
                problem = problem.partition(" column ")[0]
            self.note("URL map", problem)
            return
        del text
        self.document(value)

    def lines(self, data: bytearray, decoder: json.JSONDecoder) -> None:
        for number, line in _lines_of(data):
            self.where = f"line {number}"
            try:
                if line[0] in b'{["':
                    value = parsing.loads(line, decoder=decoder)
                else:
                    value = line.decode()
            except UnicodeDecodeError:
                self.note(self.where, "is not UTF-8")
            except ValueError as error:
                problem = str(error).replace(" at line 1 column", " at column")
                self.note(self.where, problem)
            else:
                self.item(value, self.where)

    def decoded(self, pairs: list[tuple[str, Any]]) -> Any:
        """Return a JSON object: a request if it is valid and nothing more, else a dict."""
        members = dict(pairs)
        if len(members) != len(pairs):
            for name, count in Counter(name for name, _ in pairs).items():
                if count > 1:
                    what = "path" if "/" in name else "key"
                    self.note(self.where, f"the {what} {shown(name)} appears twice")
        if "url" not in members or "path" in members:
            return members
        return self.simple(members) or members

    def request_in(self, value: Any) -> SecretURL | MapRequest | None:
        # ``decoded`` has checked what it made.
        is_checked = self.is_text and isinstance(value, (SecretURL, MapRequest))
        return value if is_checked else None

    def document(self, value: Any) -> None:
        if self.request_in(value):
            self.item(value, "URL map")
        elif isinstance(value, (list, tuple)):
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
        """Read an entry of a list; its path is a member, or is taken from its URL."""
        if isinstance(value, Mapping) and "path" in value:
            self.add(value["path"], value, where)
            return
        kept = self.kept(value, where)
        if kept is None:
            return
        url = _own_url(kept)
        if url is None:
            self.note(where, "has neither a path nor a URL")
            return
        try:
            bucket, key = url_checks.object_of(url.reveal())
        except ValueError:
            self.note(where, "the URL's path is not UTF-8: give the path yourself")
            return
        if bucket is not None:
            self.keep(f"{bucket}/{key}", kept, where)
            return
        problem = f"the URL {url.shown()} does not show the bucket"
        self.note(where, problem + ': give the path, as in {"bucket/key": URL}')

    def add(self, path: Any, value: Any, where: object) -> None:
        kept = self.kept(value, where)
        if not isinstance(path, str):
            self.note(where, "the path is not a string")
        elif kept is not None:
            self.keep(path.removeprefix("osspresigned://"), kept, where)

    def keep(self, path: str, entry: Kept, where: object) -> None:
        bucket, _, key = path.partition("/")
        try:
            length = len(path.encode())
        except UnicodeEncodeError:
            length = 0
        if path.startswith(("https://", "http://")):
            self.note(where, "expected bucket/key, got a URL: swap the two")
        elif not bucket or not (key or _only_lists(entry)):
            self.note(where, "the path must be bucket/key")
        elif not 0 < length <= _MAX_PATH:
            self.note(where, "the path is too long, or not Unicode text")
        elif path in self.entries:
            self.note(where, f"the path {shown(path)} appears twice")
        else:
            self.entries[path] = entry

    def kept(self, value: Any, where: object) -> Kept | None:
        return (
            self.request_in(value)
            or self.simple(value)
            or self.entry(value, str(where))
        )

    def simple(self, value: Any) -> MapRequest | SecretURL | None:
        """Return a simple PUT by a fast path; None if a value needs the full reader."""
        if isinstance(value, str):
            return None if url_checks.url_problem(value) else SecretURL(value)
        if not isinstance(value, dict) or not value.keys() <= _SIMPLE:
            return None
        url = value.get("url")
        if not isinstance(url, str) or url_checks.url_problem(url):
            return None
        headers = expires_at = None
        if "headers" in value:
            try:
                headers = self._headers_of(tuple(value["headers"].items()))
            except (AttributeError, TypeError):
                return None
            if headers is None:
                return None
        if "expires_at" in value:
            expires_at = self.moment(value["expires_at"])
            if expires_at is None:
                return None
        if headers is None and expires_at is None:
            return SecretURL(url)
        return MapRequest(url=SecretURL(url), headers=headers, expires_at=expires_at)

    def moment(self, value: Any) -> float | None:
        if isinstance(value, datetime):
            return value.timestamp() if value.tzinfo is not None else None
        return self._time_of(value) if isinstance(value, str) else None

    def entry(self, value: Any, where: str) -> MapEntry | None:
        if isinstance(value, str):
            request = self.request(value, where, "PUT")
            return None if request is None else MapEntry(put=request)
        before = len(self.problems)
        members = self.members(value, where, _ENTRY)
        if members is None:
            return None
        fields: dict[str, Any] = {
            slot: item
            if (slot, item) == ("complete", "external")
            else self.request(item, here, method)
            for slot, item, here, method in self.requests(members, where)
        }
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

    def requests(
        self, members: Mapping[str, Any], where: str
    ) -> Iterator[tuple[str, Any, str, str]]:
        """Yield slot, value, position and method of an entry's requests, except its parts.

        The slot is the field of ``MapEntry``. The entry's own ``url`` has the slot of its
        method, ``put`` by default.
        """
        for slot, method in EXTRAS.items():
            if slot in members:
                yield slot, members[slot], f"{where}.{slot}", method
        verb = str(members.get("method", "PUT")).upper()
        slot = _OWN_SLOTS.get(verb, "")
        if "url" not in members:
            if "headers" in members:
                self.note(f"{where}.headers", "belong to a url: give each part its own")
        elif not slot:
            self.note(f"{where}.method", "must be PUT; GET and HEAD are read too")
        elif slot in members:
            self.note(f"{where}.url", f"is for {verb}, and there is {slot!r} too")
        else:
            names = _REQUEST & members.keys() - {"expires_at"}
            yield slot, {name: members[name] for name in names}, where, verb

    def members(
        self, value: Any, where: str, known: frozenset[str]
    ) -> dict[str, Any] | None:
        """Return the known keys and values of *value*, without aliases; None if no object.

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
                # PresignResult writes null where it signed no header.
                nothing = item is None and raw == "signed_headers"
                members[name] = {} if nothing else item
            elif len(name) <= _MAX_MEANT and (close := _meant(name, known)):
                problem = f"unknown key, did you mean {close!r}?"
                self.note(f"{where}.{shown(raw)}", problem)
        return members

    def request(self, value: Any, where: str, method: str) -> MapRequest | None:
        checked = self.request_in(value)
        if isinstance(checked, SecretURL):
            return MapRequest(url=checked)
        if checked is not None:
            return checked
        before = len(self.problems)
        is_url = isinstance(value, str)
        members = {"url": value} if is_url else self.members(value, where, _REQUEST)
        if members is None:
            return None
        url, at = members.get("url"), where if is_url else f"{where}.url"
        if not isinstance(url, str):
            kind = parsing.kind(url) if "url" in members else "missing"
            self.note(at, f"must be a string, not {kind}")
        elif problem := url_checks.url_problem(url):
            self.note(at, f"the URL {problem}")
        if str(members.get("method", method)).upper() != method:
            self.note(f"{where}.method", f"must be {method}")
        headers = self.headers(members, where)
        expires_at = self.time(members, where)
        if len(self.problems) > before:
            return None
        url = SecretURL(str(url))
        return MapRequest(url=url, headers=headers, expires_at=expires_at)

    def headers(self, members: Mapping[str, Any], where: str) -> Any:
        if "headers" not in members:
            return None
        headers = members["headers"]
        if isinstance(url := self.request_in(headers), SecretURL):
            headers = {"url": url.reveal()}  # a header of that name
        where = f"{where}.headers"
        if not isinstance(headers, Mapping) or not all(
            isinstance(name, str) for name in headers
        ):
            self.note(where, "must be an object of names and values")
        elif any("?" in name for name in headers):
            # It can be a signed URL, which must not be shown.
            self.note(where, "a header name is not an HTTP token")
        else:
            for problem in url_checks.header_problems(headers):
                self.note(where, problem)
        return headers

    def time(self, members: Mapping[str, Any], where: str) -> float | None:
        if "expires_at" not in members:
            return None
        if (seconds := self.moment(members["expires_at"])) is None:
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
        self, members: Mapping[str, Any], parts: Sequence[MapRequest], where: str
    ) -> str | None:
        """Return the upload ID in the member, or else in the URLs of the parts, or None."""
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

    def part_size(self, members: Mapping[str, Any], where: str) -> int | None:
        size = members.get("part_size", MIN_PART)
        if not parsing.is_int(size) or not MIN_PART <= size <= MAX_PART:
            self.note(f"{where}.part_size", f"must be {MIN_PART} to {MAX_PART} bytes")
        return members.get("part_size")


def _bytes_of(data: bytes | str | BinaryIO) -> bytearray:
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    if isinstance(data, bytes):
        read = bytearray(data)
    else:
        read = bytearray()
        while len(read) <= MAX_MAP and (piece := data.read(_PIECE)):
            read += piece
    if len(read) > MAX_MAP:
        raise ValueError(f"is longer than {MAX_MAP // MIB} MiB")
    if read.startswith(codecs.BOM_UTF8):
        del read[: len(codecs.BOM_UTF8)]
    return read


def _ascii_json(data: bytearray) -> str:
    """Return the JSON text *data* with characters beyond ASCII escaped, and empty *data*.

    In a text with one emoji, every character would take four bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = []
    for start in range(0, len(data) + 1, _PIECE):
        kept = len(decoder.getstate()[0])
        end = start + _PIECE
        try:
            piece = decoder.decode(data[start:end], final=end > len(data))
        except UnicodeDecodeError as error:
            where = start - kept + error.start
            raise ValueError(f"not UTF-8 at byte {where}") from None
        pieces.append(_BEYOND_ASCII.sub(lambda m: json.dumps(m[0])[1:-1], piece))
    data.clear()
    return "".join(pieces)


def _lines_of(data: bytearray) -> Iterator[tuple[int, bytes]]:
    """Yield each non-blank line with its number."""
    for number, match in enumerate(_LINE.finditer(data), 1):
        if line := match[0].strip(b" \t\r\n"):
            yield number, line


def _is_lines(data: bytearray) -> bool:
    """Return whether *data* has one URL, or one JSON object, in each line.

    The first two lines decide.
    """
    lines = (line for _, line in _lines_of(data))
    first, second = next(lines, b""), next(lines, b"")
    if first[:6].lower().startswith((b"https:", b"http:")):
        return True
    if not first.startswith(b"{") or not second:
        return False
    try:
        return isinstance(parsing.loads(first), dict)
    except ValueError:
        # A broken first line among lines that are whole is still JSON Lines.
        return first.endswith(b"}") and second.startswith(b"{")


def _own_url(kept: Kept) -> SecretURL | None:
    if isinstance(kept, MapEntry):
        requests = (kept.put, *kept.parts[:1], kept.get, kept.head)
        return next((request.url for request in requests if request), None)
    return kept if isinstance(kept, SecretURL) else kept.url


def _only_lists(entry: Kept) -> bool:
    return isinstance(entry, MapEntry) and entry == MapEntry(
        ls=entry.ls, expires_at=entry.expires_at
    )
