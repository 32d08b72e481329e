"""Reading a URL map: every shape that is accepted, every problem at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, BinaryIO

from attrs import define, field

from . import jsondoc, sendable
from .errors import ConfigurationError
from .jsonpieces import Pieces
from .url_map import VERSION, Kept, MapEntry, URLMap
from .url_map_entry import EntryReader, shown

# A bare map's members are paths with a slash, so these names mean one entry.
_MARKS = {"path", "url", "parts", "upload_id"}
_MAX_PATH = 63 + 1 + 1024


def parse(data: bytes | str | BinaryIO | Mapping[str, Any] | Sequence[Any]) -> URLMap:
    """Return the map that *data* holds.

    Accepted: the version-1 object; a bare object ``{"bucket/key": URL or entry}``; JSON
    Lines with a ``path`` each; a list of URLs, in JSON or one a line; one entry or one
    signed request as Alibaba Cloud's samples print them.

    Args:
        data: the text, a file of it that is read piece by piece, or what a JSON reader
            made of it.

    Raises:
        ConfigurationError: with every problem and its place, never a URL's query.
        OSError: the file cannot be read.
    """
    reader = _Reader()
    if isinstance(data, Mapping) or (
        isinstance(data, Sequence) and not isinstance(data, bytes | str)
    ):
        reader.document(data)
    else:
        try:
            reader.text(Pieces.of(data))
        except ValueError as error:
            reader.note("URL map", str(error))
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return URLMap(reader.entries)


class _Place:
    """Where an entry stands, put into words only if there is something to say."""

    def __init__(self, before: str, path: str) -> None:
        self._before = before
        self._path = path

    def __str__(self) -> str:
        return f"{self._before}[{shown(self._path)}]"


@define
class _Reader(EntryReader):
    """Collects entries by their paths, and problems."""

    entries: dict[str, Kept] = field(factory=dict)

    def text(self, text: Pieces) -> None:
        """Read a whole text. Raises ValueError where it is no JSON."""
        mark = text.ahead()
        if not mark:
            self.note("URL map", "is empty")
        elif _is_lines([line for _, line in islice(_lines(text.head()), 2)]):
            self.lines(text)
        elif mark == "{":
            self.whole(text)
        elif mark == "[":
            for index, item in enumerate(text.items()):
                self.item(item, f"[{index}]")
            text.end()
        else:
            value = text.value()
            text.end()
            self.document(value)

    def lines(self, text: Pieces) -> None:
        for number, line in text.lines():
            place = f"line {number}"
            if line[0] not in '{["':
                self.item(line, place)
                continue
            try:
                value = jsondoc.loads(line)
            except ValueError as error:
                problem = str(error).replace(" at line 1 column", " at column")
                self.note(place, problem)
            else:
                self.item(value, place)

    def whole(self, text: Pieces) -> None:
        """Read one object at the top: a map of either kind, an entry, or line 1."""
        line = text.line
        listed, bare = _Reader(), _Reader()
        rest: dict[str, Any] = {}
        for name in text.members():
            if name in rest:
                msg = f"the member {shown(name)} comes twice in one object"
                raise ValueError(msg)
            if name == "objects" and text.ahead() == "{":
                rest[name] = listed
                for path in text.members():
                    listed.add(path, text.value(), _Place(name, path))
            elif "/" in name:
                bare.add(name, text.value(), _Place("", name))
            else:
                rest[name] = text.value()
        end = text.line
        if text.ahead():
            if end != line or text.line == end:
                text.end()
            self.item(rest, f"line {line}")
            self.lines(text)
        elif rest.get("objects") is listed:
            self.take(listed, rest.get("version"))
        elif "version" in rest or _MARKS & rest.keys():
            self.document(rest)
        else:
            self.entries, self.problems = bare.entries, bare.problems
            self.objects(rest, "")

    def take(self, listed: _Reader, version: Any) -> None:
        """Take what was read of a map, if this is its version."""
        if version is None:
            self.note(
                "version", f'is missing beside "objects": add "version": {VERSION}'
            )
        elif self.is_known(version):
            self.entries, self.problems = listed.entries, listed.problems

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

    def is_known(self, version: Any) -> bool:
        if jsondoc.is_int(version) and version == VERSION:
            return True
        known = f"only {VERSION} is known: update this package, or the map"
        self.note("version", known)
        return False

    def versioned(self, value: Mapping[Any, Any]) -> None:
        if not self.is_known(value["version"]):
            return
        objects = value.get("objects")
        if isinstance(objects, Mapping):
            self.objects(objects, "objects")
        else:
            self.note("objects", "must be an object of paths")

    def objects(self, objects: Mapping[Any, Any], place: str) -> None:
        for path, value in objects.items():
            self.add(path, value, _Place(place, str(path)))

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
            self.note(place, "a URL stands where bucket/key must: turn the pair round")
        elif not bucket or not (key or _only_lists(entry)):
            self.note(place, "the path must be bucket/key")
        elif not 0 < length <= _MAX_PATH:
            self.note(place, "the path is too long, or not Unicode text")
        elif path in self.entries:
            self.note(place, f"the path {shown(path)} comes twice")
        else:
            self.entries[path] = entry


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


def _only_lists(entry: Kept) -> bool:
    """Return whether *entry* is for no object, but for listing a bucket."""
    return isinstance(entry, MapEntry) and entry == MapEntry(
        ls=entry.ls, expires_at=entry.expires_at
    )
