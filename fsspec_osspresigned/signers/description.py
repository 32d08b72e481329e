"""Descriptions of servers of uploads: TOML files with templates and JSON pointers.

A description says which calls open, sign, finish and abort an upload. A template such as
``/multipart/{upload.id}`` has names in braces: ``{+name}`` keeps slashes in a path,
``{name:int}`` is a number in JSON, and a member with ``{name?}`` is left out without a
value. A list in ``json`` has one template, which is repeated for each part. What a reply
contains is named by JSON pointers (RFC 6901); one that ends in ``?`` may lead nowhere.
docs/existing-servers.md describes all members.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlencode

from attrs import field, fields, frozen

from ..errors import ConfigurationError
from ..model import MIN_PART
from ..url_checks import url_problem

SUFFIX = ".toml"
_METHODS = ("get", "post", "put", "delete")
# Names that every call may use; values of an operation, or of a finished upload.
NAMES = frozenset(
    (
        *("path", "dir", "name", "type", "size", "method"),
        *("upload_id", "count", "number", "numbers", "etag", "bare_etag"),
    )
)
_HOLE = re.compile(r"\{(\+?)([a-z_]+(?:\.[a-z_]+)?)(:int)?(\??)\}")
_ABSENT: Any = object()
# Calls, and the members that each may have besides method, query and json.
_CALLS: Mapping[str, Collection[str]] = {
    "request": ("url", "headers", "lifetime", "save"),
    "single": (
        *("url", "headers", "lifetime", "save"),
        *("fields", "grant", "key", "largest_mb"),
    ),
    "single_finish": ("save", "create_only"),
    "open": ("save", "urls", "number", "url", "headers", "lifetime"),
    "sign": ("urls", "number", "url", "headers", "lifetime"),
    "parts": ("list", "number", "size", "etag"),
    "finish": ("save", "create_only"),
    "abort": (),
}

Values = Mapping[str, Any]


@frozen(kw_only=True)
class Call:
    """One call to the server. Members that name parts of the reply are JSON pointers."""

    method: str
    path: str  # a template, below the base URL
    query: Mapping[str, Any] = field(factory=dict)  # templates
    json: Any = None  # templates; None sends no body
    create_only: Mapping[str, str] = field(factory=dict)  # headers: replace no object
    save: Mapping[str, str] = field(factory=dict)  # name -> pointer, for later calls
    url: str = ""  # of the signed request; in each of *urls* if there are several
    urls: str | None = None  # list, or object by part number
    number: str | None = None  # of a part, in each of *urls* or *list*
    headers: str | None = None  # to send: an object, or a list of name and value
    lifetime: str | int | None = None  # seconds; None if the URL says it
    fields: str | None = None  # of a form
    grant: str | None = None  # grant for a form of OSS
    key: str | None = None  # template for the key of the object, with a grant
    largest_mb: str | None = None  # maximum size of the object in MiB
    list: str = ""  # of stored parts
    size: str = ""  # in each of *list*, likewise
    etag: str = ""

    @property
    def names(self) -> set[str]:
        """The names in the templates of the request."""
        texts = _texts([self.path, self.query, self.json])
        return {match[2] for text in texts for match in _HOLE.finditer(text)}


@frozen(kw_only=True)
class Description:
    """What a description says; ``name`` is for messages."""

    name: str
    url: str | None = None  # of the server, unless the user gives another
    hosts: Sequence[str] = ()  # that may get the token of the environment
    base: str = ""  # path below which the calls are
    token: str | None = None  # env:NAME, if the user gives none
    segments: Sequence[str] = ()  # names for the segments of a path, from its begin
    location: str | None = None  # template for the server's name of the object
    error: str = "/message"  # pointer to the message in an error
    notice: str = ""
    names_objects: bool = False
    resumes: bool = False
    min_part: int = MIN_PART  # bytes
    stream_parts: int = 1000  # for which URLs are requested if the size is unknown
    options: Mapping[str, str] = field(factory=dict)  # name -> what it is
    request: Call | None = None  # signs any call of the store
    single: Call | None = None  # signs a PUT or a form
    single_finish: Call | None = None  # publishes what the PUT has stored
    open: Call | None = None
    sign: Call | None = None
    parts: Call | None = None
    finish: Call | None = None
    abort: Call | None = None


def load(place: str) -> Description:
    """Return the description in the file *place*, or the built-in one of this name.

    Raises ConfigurationError, which lists all problems.
    """
    is_file = is_path(place)
    try:
        if is_file:
            with open(place, "rb") as file:
                members = tomllib.load(file)
        else:
            members = tomllib.loads(_built_in(place))
    except OSError as error:
        if not is_file:
            known = ", ".join(built_in_names())
            msg = (
                f"broker={place!r}: known are {known}, a file.toml, or module:function"
            )
            raise ConfigurationError(msg) from None
        msg = f"the description {place} cannot be read: {error.strerror}"
        raise ConfigurationError(msg) from None
    except ValueError as error:  # no TOML, or no UTF-8
        msg = f"the description {place} is not valid TOML: {error}"
        raise ConfigurationError(msg) from None
    return _Reader(place).description(members)


def spelled(text: str) -> tuple[str, str | None]:
    """Return the name, file or function in ``NAME+https://...``, and the URL, if any."""
    match = re.fullmatch(r"(?s)(.+?)\+(https?://.*)", text)
    return (match[1], match[2]) if match else (text, None)


def is_path(place: str) -> bool:
    """Return whether *place* is a file, and not the name of a built-in description."""
    return place.endswith(SUFFIX)


def names_objects(broker: str) -> bool:
    """Return whether the server that the option *broker* describes names objects itself.

    False for a function, which only the filesystem calls. Raises like ``load``.
    """
    place, _ = spelled(broker)
    is_module = ":" in place and not is_path(place)
    return not is_module and load(place).names_objects


def _built_in(name: str) -> str:
    if not name.replace("-", "").isalnum():
        raise FileNotFoundError(name)
    place = files(__package__) / "brokers" / f"{name}{SUFFIX}"
    return place.read_text(encoding="utf-8")


def built_in_names() -> list[str]:
    places = (files(__package__) / "brokers").iterdir()
    return sorted(p.name.removesuffix(SUFFIX) for p in places if is_path(p.name))


class _Reader:
    """Reader of one description, which collects the problems."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._problems: list[str] = []

    def description(self, members: Mapping[str, Any]) -> Description:
        known = {each.name: each for each in fields(Description)}
        values: dict[str, Any] = {}
        for name, value in members.items():
            if name in _CALLS:
                values[name] = self._call(name, value)
            elif name not in known or name == "name":
                self._note(f"unknown member {name!r}")
            elif self._fits(name, value, known[name].type):
                values[name] = value
        if self._problems:
            raise ConfigurationError(self._problems)
        read = Description(name=self._place, **values)
        self._check(read)
        if self._problems:
            raise ConfigurationError(self._problems)
        return read

    def _note(self, problem: str) -> None:
        self._problems.append(f"the description {self._place}: {problem}")

    def _fits(self, name: str, value: Any, kind: str | type | None) -> bool:
        text = str(kind)
        if "Mapping" in text:
            fits = isinstance(value, dict)
            fits = fits and all(isinstance(v, str) for v in value.values())
        elif "Sequence" in text:
            fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
        elif isinstance(value, bool):
            fits = "bool" in text
        elif isinstance(value, int):
            fits = "int" in text and value > 0
        else:
            fits = isinstance(value, str) and "str" in text
        if not fits:
            self._note(f"{name} has a value of the wrong type")
        return fits

    def _call(self, table: str, members: Any) -> Call | None:
        if not isinstance(members, dict):
            self._note(f"{table} is not a table")
            return None
        methods = [name for name in _METHODS if name in members]
        if len(methods) != 1 or not isinstance(members[methods[0]], str):
            self._note(f"{table} needs one of {', '.join(_METHODS)}, a path")
            return None
        known = {each.name: each for each in fields(Call)}
        values: dict[str, Any] = {}
        for name, value in members.items():
            if name in methods:
                continue
            if name not in ("query", "json", *_CALLS[table]):
                self._note(f"unknown member {table}.{name}")
            elif name == "json" or self._fits(
                f"{table}.{name}", value, known[name].type
            ):
                values[name] = value
        (method,) = methods
        return Call(method=method.upper(), path=members[method], **values)

    def _check(self, read: Description) -> None:
        if not (read.request or read.single or read.open):
            self._note("it needs one of the tables request, single and open")
        if read.open and not read.finish:
            self._note("open needs the table finish")
        if read.open and not (read.sign or read.open.urls):
            self._note("open needs urls, or the table sign")
        for name in sorted(NAMES & {*read.segments}):
            self._note(f"segments has {name!r}, which means something else")
        single = read.single
        if single and single.grant and any("." not in name for name in single.names):
            self._note("single has a grant, so its call may use only options")
        if read.token is not None and not (read.url and read.hosts):
            self._note("token needs url and hosts, to which it is sent")
        if read.token is not None and not read.token.startswith("env:"):
            self._note("token must be env:NAME")
        self._check_names(read)

    def _check_names(self, read: Description) -> None:
        calls = {name: getattr(read, name) for name in _CALLS if getattr(read, name)}
        saved = {name for call in calls.values() for name in call.save} | {"key", "id"}
        known = NAMES | {*read.segments}
        known |= {f"option.{name}" for name in read.options}
        known |= {f"upload.{name}" for name in saved}
        places = [(name, call.names) for name, call in calls.items()]
        places += [
            (name, {match[2] for match in _HOLE.finditer(text)})
            for name, text in (
                ("location", read.location or ""),
                ("single.key", (read.single and read.single.key) or ""),
            )
        ]
        for place, names in places:
            for name in sorted(names - known):
                self._note(f"{place} has the unknown name {{{name}}}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


# -- templates ---------------------------------------------------------------------------


def filled_path(template: str, values: Values) -> str:
    """Return the path in *template*, in which values are percent-encoded."""

    def fill(match: re.Match[str]) -> str:
        return quote(str(_value(match, values)), safe="/" if match[1] else "")

    return _HOLE.sub(fill, template)


def filled(template: str, values: Values) -> str:
    return _HOLE.sub(lambda match: str(_value(match, values)), template)


def filled_query(query: Mapping[str, Any], values: Values) -> str:
    return urlencode(filled_json(dict(query), values, ()), quote_via=quote)


def filled_json(template: Any, values: Values, parts: Sequence[Values]) -> Any:
    """Return *template* with values; a list has one item for each of *parts*."""
    if isinstance(template, str):
        match = _HOLE.fullmatch(template)
        if match is None:
            return filled(template, values)
        value = _value(match, values)
        return int(value) if match[3] and value is not _ABSENT else value
    if isinstance(template, dict):
        members = ((n, filled_json(v, values, parts)) for n, v in template.items())
        return {name: value for name, value in members if value is not _ABSENT}
    if isinstance(template, list):
        return [
            filled_json(item, {**values, **part}, ())
            for part in parts
            for item in template
        ]
    return template


def _value(match: re.Match[str], values: Values) -> Any:
    value = values.get(match[2])
    if value is None and not match[4]:
        raise ConfigurationError(f"the server's replies have named no {match[2]!r}")
    return _ABSENT if value is None else value


def at(document: Any, pointer: str) -> Any:
    """Return the value to which the JSON *pointer* leads in *document*; None if nowhere."""
    for token in pointer.removesuffix("?").split("/")[1:]:
        name = token.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isdecimal():
            document = document[int(name)] if int(name) < len(document) else None
        else:
            return None
    return document


def base_url(description: Description, given: str | None) -> str:
    """Return the URL to which the paths of calls are appended.

    *given* is the user's URL of the server; None takes that of the description.
    """
    url = given or description.url
    if url is None:
        name = description.name
        msg = f"broker={name!r} needs the server's URL: write '{name}+https://...'"
        raise ConfigurationError(msg)
    if problem := url_problem(url) or ("has a query" if "?" in url else None):
        raise ConfigurationError(f"the URL of the broker {problem}")
    return url.rstrip("/") + description.base
