"""Descriptions of servers of uploads: TOML files with templates and JSON pointers.

A description says which calls open, sign, finish and abort an upload.
docs/existing-servers.md describes all members.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from itertools import chain
from typing import Any

from attrs import Factory, fields_dict, frozen

from ..errors import ConfigurationError
from ..model import MIN_PART
from ..url_checks import header_problems, url_problem
from .templates import OF_PART, names_in

SUFFIX = ".toml"
DIGESTS = frozenset(("sha256", "md5"))  # of the object, which is read for them first
_METHODS = ("get", "post", "put", "delete")
_BODIES = ("json", "form", "multipart")
# Names that every call may use.
_FACTS = frozenset(
    (
        *("path", "dir", "name", "content_type", "expires_at"),
        *("size", "part_size", "part_count", *DIGESTS),
    )
)
_SIGNED = ("url", "headers", "send", "lifetime", "expires", "key", "failure")
# The calls, and the members of each that read its reply.
_CALLS: Mapping[str, Collection[str]] = {
    "request": (*_SIGNED, "save"),
    "single": (*_SIGNED, "save", "fields", "grant", "largest_mb", "compares"),
    "single_finish": ("save", "create_only", "failure", "send"),
    "open": (*_SIGNED, "save", "urls", "number", "part_bytes"),
    "sign": (*_SIGNED, "urls", "number"),
    "parts": ("list", "number", "size", "etag", "failure"),
    "finish": ("save", "create_only", "failure", "send"),
    "register": ("save", "failure", "send"),
    "abort": ("send",),
}
# Further names of a call: those of itself, and those of each part, in what is repeated.
_OF_CALL: Mapping[str, Collection[str]] = {
    "request": ("method", "upload_id", "number", "upload.key"),
    "sign": ("number", "numbers", "first", "count"),
    "single_finish": OF_PART,
}
_OF_PARTS: Mapping[str, Collection[str]] = {
    "open": ("number",),
    "sign": ("number",),
    "finish": OF_PART,
    "single_finish": OF_PART,
}
# Calls whose replies come before that of a call, so that it may use what they have named.
_BEFORE: Mapping[str, Collection[str]] = {
    **dict.fromkeys(("sign", "parts", "finish", "abort"), ("open",)),
    "single_finish": ("single",),
    "register": ("single", "single_finish", "open", "finish"),
}
_NAMED_URL = re.compile(r"\{upload\.[a-z0-9_]+\??\}")
_HEADER = re.compile(r"\s*\[\s*([\w.-]+)\s*\]\s*(?:#.*)?")
_MEMBER = re.compile(r"\s*\"?([\w.-]+)\"?\s*=")


@frozen(kw_only=True)
class Call:
    """One call to the server. Members that read the reply are JSON pointers."""

    method: str
    # A template: a path below the base URL, or a URL that an earlier reply has named.
    path: str
    query: Mapping[str, str] = Factory(dict)  # templates
    json: Any = None  # templates; None sends no body
    form: Mapping[str, str] = Factory(dict)  # the body as a form, in place of JSON
    multipart: Mapping[str, Any] = Factory(dict)  # likewise, each field JSON or a text
    create_only: Mapping[str, str] = Factory(dict)  # headers: replace no object
    save: Mapping[str, str] = Factory(dict)  # name -> pointer, for later calls
    failure: str | None = None  # what makes the reply a refusal, if it is there
    url: str = ""  # of the signed request; in each of *urls* if several
    urls: str | None = None  # list, or object by part number
    number: str | None = None  # of a part, in each of *urls* or *list*
    headers: str | None = None  # to send: an object, or a list of name and value
    # Templates of headers: of this call, or of the signed request if its URL signs them.
    send: Mapping[str, str] = Factory(dict)
    lifetime: str | None = None  # seconds; without it and *expires*, the URL says it
    expires: str | None = None  # the end, as RFC 3339 or in seconds since the epoch
    fields: str | None = None  # of a form
    grant: str | None = None  # grant for a form of OSS
    key: str | None = None  # template for the key; None is the saved key, if any
    largest_mb: str | None = None  # maximum size of the object in MiB
    part_bytes: str | None = None  # size that the server gives the parts
    compares: str | None = None  # the digest with which the server compares the bytes
    list: str = ""  # of stored parts
    size: str = ""  # in each of *list*, likewise
    etag: str = ""

    @property
    def is_form(self) -> bool:
        return bool(self.fields or self.grant)

    @property
    def body(self) -> Any:
        return self.json or self.form or self.multipart

    @property
    def names(self) -> set[str]:
        """The names in the templates of the request."""
        members = (self.path, self.query, self.body)
        return {name for member in members for name, _ in names_in(member)}

    @property
    def repeats(self) -> bool:
        """True if the body has a piece for each part."""
        return any(is_repeated for _, is_repeated in names_in(self.body))


@frozen(kw_only=True)
class Description:
    """Content of a description: calls to a server of uploads, and facts about the server.

    ``name`` is the built-in name or the file, and stands in messages.
    """

    name: str
    url: str | None = None  # of the server, unless the user gives another
    hosts: Sequence[str] = ()  # the only ones that get *token*
    base: str = ""  # path below which the calls are
    token: str | None = None  # env:NAME, if the user gives none
    headers: Mapping[str, str] = Factory(dict)  # of each call; one may have {token}
    segments: Sequence[str] = ()  # names for segments of a path
    location: str | None = None  # template for the server's name of the object
    error: str = "/message"  # pointer to the message in an error
    notice: str = ""
    names_objects: bool = False
    resumes: bool = False
    min_part: int = MIN_PART  # bytes
    options: Mapping[str, str] = Factory(dict)  # name -> what it is
    request: Call | None = None  # signs any call of the store
    single: Call | None = None  # signs a PUT or a form
    single_finish: Call | None = None  # publishes what the PUT has stored
    open: Call | None = None
    sign: Call | None = None
    parts: Call | None = None
    finish: Call | None = None
    register: Call | None = None  # the last call, after a PUT and after *finish*
    abort: Call | None = None

    @property
    def calls(self) -> dict[str, Call]:
        return {name: call for name in _CALLS if (call := getattr(self, name))}

    @property
    def names(self) -> set[str]:
        """The names in all templates."""
        found = set().union(*(call.names for call in self.calls.values()))
        return found | {name for name, _ in names_in(self.location)}


# Types of members; all others are texts.
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("query", "form", "save", "send", "create_only", "options"), dict),
    **dict.fromkeys(("hosts", "segments"), list),
    **dict.fromkeys(("names_objects", "resumes"), bool),
    "json": object,
    "multipart": object,
    "min_part": int,
}


def _fits(kind: type, value: Any) -> bool:
    if kind is dict:
        return isinstance(value, dict) and _fits(list, [*value.values()])
    if kind is list:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if kind is int:
        return type(value) is int and value > 0
    if kind is object:  # JSON, so no date of TOML
        nested = value.values() if isinstance(value, dict) else value
        if isinstance(value, dict | list):
            return all(_fits(object, item) for item in nested)
        return isinstance(value, str | int | float)
    return isinstance(value, kind)


class _Problems:
    """What is wrong in the file *shown*, each with the line of *text* where it stands."""

    def __init__(self, shown: str, text: str) -> None:
        self._shown, self._lines = shown, dict[tuple[str, str], int]()
        self.found: list[str] = []
        table = ""
        for number, line in enumerate(text.splitlines(), 1):
            if header := _HEADER.fullmatch(line):
                table = header[1]
                self._lines.setdefault((table, ""), number)
            elif member := _MEMBER.match(line):
                self._lines.setdefault((table, member[1].partition(".")[0]), number)

    def add(self, text: str, table: str = "", member: str = "") -> None:
        keys = ((table, member), (f"{table}.{member}", ""), (table, ""), ("", table))
        line = next((self._lines[key] for key in keys if key in self._lines), None)
        at = "" if line is None else f", line {line}"
        self.found.append(f"{self._shown}{at}: {text}")


def load(name: str) -> Description:
    """Return the description in the file *name*, or the built-in one of this name.

    Raises ConfigurationError, which lists all problems with their lines.
    """
    shown = f"the description {name}"
    try:
        text = _text_of(name)
        members = tomllib.loads(text)
    except OSError as error:
        msg = f"{shown} cannot be read: {error.strerror}"
        if not is_path(name):
            known = ", ".join(built_in_names())
            msg = f"upload_server={name!r}: known are {known}, a file.toml, or module:function"
        raise ConfigurationError(msg) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigurationError(f"{shown} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{shown} is nested too deeply") from None
    problems = _Problems(shown, text)
    calls = {t: _call(t, members[t], problems) for t in _CALLS if t in members}
    others = {name: value for name, value in members.items() if name not in calls}
    allowed = fields_dict(Description).keys() - {"name"}
    values = _valid(others, allowed, "", problems)
    description = Description(name=name, **{**values, **calls})
    if not problems.found:
        _check(description, problems)
    if problems.found:
        raise ConfigurationError(problems.found)
    return description


def _text_of(name: str) -> str:
    if is_path(name):
        with open(name, encoding="utf-8") as file:
            return file.read()
    if not name.replace("-", "").isalnum():
        raise FileNotFoundError(name)
    built_in = files(__package__) / "servers" / f"{name}{SUFFIX}"
    return built_in.read_text(encoding="utf-8")


def spelled(text: str) -> tuple[str, str | None]:
    """Split ``NAME+https://...`` into the name and the URL, which is None if missing.

    The name may also be a file or a function.
    """
    match = re.fullmatch(r"(?s)(.+?)\+(https?://.*)", text)
    return (match[1], match[2]) if match else (text, None)


def is_path(name: str) -> bool:
    """Return whether *name* is a file, and not the name of a built-in description."""
    return name.endswith(SUFFIX)


def is_function(name: str) -> bool:
    """Return whether *name* names a function, ``module:function``."""
    return ":" in name and not is_path(name)


def names_objects(upload_server: str) -> bool:
    """Return whether the server that the option *upload_server* describes names objects itself.

    Returns False for a function, which only the filesystem calls. Raises like ``load``.
    """
    name, _ = spelled(upload_server)
    return not is_function(name) and load(name).names_objects


def base_url(description: Description, given: str | None) -> str:
    """Return the URL to which the paths of calls are appended.

    *given* is the user's URL of the server; None takes that of the description.
    """
    url = given or description.url
    if url is None:
        name = description.name
        msg = (
            f"upload_server={name!r} needs the server's URL: write '{name}+https://...'"
        )
        raise ConfigurationError(msg)
    url = url.rstrip("/") + description.base
    if problem := url_problem(url) or ("has a query" if "?" in url else None):
        raise ConfigurationError(f"the URL of the upload server {problem}")
    return url


def built_in_names() -> list[str]:
    shipped = (files(__package__) / "servers").iterdir()
    return sorted(p.name.removesuffix(SUFFIX) for p in shipped if is_path(p.name))


# -- members of a file -------------------------------------------------------------------


def _call(table: str, members: Any, problems: _Problems) -> Call | None:
    members = members if isinstance(members, dict) else {}
    methods = [name for name in _METHODS if name in members]
    if len(methods) != 1 or not isinstance(members[methods[0]], str):
        problems.add(f"{table} needs one of {', '.join(_METHODS)}, a path", table)
        return None
    if len(bodies := [name for name in _BODIES if name in members]) > 1:
        problems.add(f"{table} has {' and '.join(bodies)}: give one body", table)
    others = {name: value for name, value in members.items() if name not in methods}
    values = _valid(others, ("query", *_BODIES, *_CALLS[table]), table, problems)
    return Call(method=methods[0].upper(), path=members[methods[0]], **values)


def _valid(
    members: Mapping[str, Any],
    allowed: Collection[str],
    table: str,
    problems: _Problems,
) -> dict[str, Any]:
    """Return the *members* of valid names and types; add the rest to *problems*."""
    valid, prefix = {}, f"{table}." if table else ""
    for name, value in members.items():
        # The headers of calls are a table, those of a signed request a pointer.
        kind = dict if name == "headers" and not table else _TYPES.get(name, str)
        if name not in allowed:
            problems.add(f"unknown key {(prefix + name)[:60]!r}", table, name)
        elif not _fits(kind, value):
            problems.add(f"{prefix}{name} has a value of the wrong type", table, name)
        else:
            valid[name] = value
    return valid


def _check(read: Description, problems: _Problems) -> None:
    """Add to *problems* what is missing, misplaced, or never filled."""
    single, opened, token = read.single, read.open, read.token or ""
    options = {f"option.{name}" for name in read.options}
    by_grant = single.names if single and single.grant else set()
    compares = single.compares if single else None
    is_there_already = single is not None and single.url.endswith("?")
    for is_fine, table, problem in (
        (read.request or single or opened, "", "it needs one of the tables request, single and open"),
        (not opened or read.finish, "open", "open needs the table finish"),
        (not opened or read.sign or opened.urls, "open", "open needs urls, or the table sign"),
        (not read.single_finish or single, "single_finish", "single_finish needs the table single"),
        (by_grant <= options, "single", "single has a grant, so its call may use only options"),
        (not is_there_already or compares, "single",
         "single.url may be absent only if compares= says how the server knows the object"),
        (not token or (read.url and read.hosts), "token", "token needs url and hosts, to which it is sent"),
        (not token or token.startswith("env:"), "token", "token must be env:NAME"),
    ):  # fmt: skip
        if not is_fine:
            problems.add(problem, table)
    if compares not in (None, *DIGESTS):
        problems.add("single.compares must be sha256 or md5", "single", "compares")
    for name in sorted(_FACTS & {*read.segments}):
        problems.add(
            f"segments has {name!r}, which means something else", "", "segments"
        )
    own = {n: v for n, v in read.headers.items() if n.lower() != "authorization"}
    for problem in header_problems(own):
        problems.add(f"headers: {problem}", "", "headers")
    known = {*_FACTS, *read.segments, *options}
    _check_names(read, known, problems)
    for table, call in read.calls.items():
        member = call.method.lower()
        is_path = not call.path or call.path.startswith("/")
        # Anything else could name another host, or another port.
        if not (is_path or _NAMED_URL.fullmatch(call.path)):
            problems.add(
                f"{table}.{member} = {call.path!r} must be empty, begin with '/', or be a "
                "URL that a reply has named, {upload.NAME}",
                table,
                member,
            )
    if read.base and not read.base.startswith("/"):
        text = f"base = {read.base!r} must be empty or begin with '/'"
        problems.add(text, "", "base")


def _check_names(read: Description, known: set[str], problems: _Problems) -> None:
    saved = {table: {f"upload.{n}" for n in c.save} for table, c in read.calls.items()}
    saved.setdefault("request", set()).add("upload.key")

    def check(
        template: Any,
        table: str,
        member: str,
        own: Collection[str],
        each: Collection[str] = (),  # of each part, in what is repeated
    ) -> None:
        for name, is_repeated in sorted({*names_in(template)}):
            if name in known or name in own or (is_repeated and name in each):
                continue
            is_saved = name.startswith("upload.")
            never = "no reply before has named" if is_saved else "means nothing here"
            shown = f"{table}.{member}" if table else member
            problems.add(f"{shown} has {{{name}}}, which {never}", table, member)

    for table, call in read.calls.items():
        before = (saved.get(t, ()) for t in _BEFORE.get(table, ()))
        own = {*chain.from_iterable(before), *_OF_CALL.get(table, ())}
        for member in ("query", "send", *_BODIES):
            each = _OF_PARTS.get(table, ())
            check(getattr(call, member), table, member, own, each)
        check(call.path, table, call.method.lower(), own)
        check(call.key, table, "key", own | saved.get(table, set()))
    check(read.location, "", "location", {*chain.from_iterable(saved.values())})
    check([*read.headers.values()], "", "headers", ("token",))
