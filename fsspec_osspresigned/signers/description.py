"""Descriptions of upload servers: TOML files with templates and JSON pointers.

A description says which calls open, sign, finish and abort an upload.
docs/existing-servers.md describes all keys.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from attrs import Factory, field, fields_dict, frozen
from attrs.validators import and_, deep_iterable, deep_mapping, gt, instance_of

from ..errors import ConfigurationError
from ..model import MIN_PART
from ..parsing import suggestion
from ..url_checks import header_problems, url_problem
from .templates import OF_PART, names_in

SUFFIX = ".toml"
# digests of the object, which need a read of the whole object before
DIGESTS = frozenset(("sha256", "md5"))
_METHODS = ("get", "post", "put", "delete")
_BODIES = ("json", "form", "multipart")
# Names that every call may use in its templates.
_FACTS = frozenset(
    (
        *("path", "dir", "name", "content_type", "expires_at"),
        *("size", "part_size", "part_count", *DIGESTS),
    )
)
_SIGNED = "url headers send key failure"
_LAST = "save failure send"
_PART = " ".join(OF_PART)


def _words(text: str) -> list[str]:
    return text.split()


@frozen
class _Table:
    """Keys that the table of a call may have, separated by spaces."""

    # permitted keys, besides those of the request
    keys: list[str] = field(converter=_words)
    # Calls before this one, whose replies may define names for this one.
    before: list[str] = field(default="", converter=_words)
    # further names that templates may contain
    own: list[str] = field(default="", converter=_words)
    # Names with a value for each part, in repeated pieces of the body.
    each: list[str] = field(default="", converter=_words)


_CALLS = {
    "request": _Table(f"{_SIGNED} save", own="method upload_id number upload.key"),
    "single": _Table(f"{_SIGNED} save fields grant compares"),
    "single_finish": _Table(f"{_LAST} create_only", "single", _PART, _PART),
    "open": _Table(f"{_SIGNED} save urls number part_bytes", each="number"),
    "sign": _Table(f"{_SIGNED} urls number", "open", "number numbers first count", "number"),
    "parts": _Table("list number size etag failure", "open"),
    "finish": _Table(f"{_LAST} create_only", "open", each=_PART),
    "register": _Table(_LAST, "single single_finish open finish"),
    "abort": _Table("send", "open"),
}  # fmt: skip
_NAMED_URL = re.compile(r"\{upload\.[a-z0-9_]+\??\}")


def _json(_: Any, __: Any, value: Any) -> None:
    json.dumps(value)  # raises TypeError for a date of TOML


_TEXT = instance_of(str)
# Annotation of a field -> description of a valid value. Other fields are texts.
_KINDS: Mapping[Any, Any] = {
    "Mapping[str, str]": deep_mapping(_TEXT, _TEXT),
    "Mapping[str, Any]": and_(instance_of(dict), _json),
    "Any": _json,
    "Sequence[str]": deep_iterable(_TEXT, instance_of(list)),
    "bool": instance_of(bool),
    "int": and_(instance_of(int), gt(0)),
}


@frozen(kw_only=True)
class Call:
    """One call to the server. Attributes that read the reply are JSON pointers."""

    method: str
    # Template for a path below the base URL, or for a URL that an earlier reply
    # contained.
    path: str
    query: Mapping[str, str] = Factory(dict)  # templates for parameters
    json: Any = None  # template for the body; None sends no body
    form: Mapping[str, str] = Factory(dict)  # body as a form, instead of JSON
    # body as multipart/form-data; each field is JSON or a text
    multipart: Mapping[str, Any] = Factory(dict)
    # headers that prevent replacing an object
    create_only: Mapping[str, str] = Factory(dict)
    # name -> pointer to a value for later calls
    save: Mapping[str, str] = Factory(dict)
    failure: str | None = None  # pointer to a field that only a refusal has
    # pointer to the signed URL, relative to each of *urls* if there are several
    url: str = ""
    urls: str | None = None  # pointer to a list, or to an object by part number
    # pointer to the part number, relative to each of *urls* or *list*
    number: str | None = None
    # pointer to the headers to send: an object, or a list of name and value
    headers: str | None = None
    # Templates for headers of this call, or of the signed request if its URL signs
    # them.
    send: Mapping[str, str] = Factory(dict)
    fields: str | None = None  # pointer to the fields of a form
    grant: str | None = None  # pointer to a grant for an OSS form
    key: str | None = None  # template for the key; None uses the saved key, if any
    part_bytes: str | None = None  # pointer to the part size that the server chooses
    # name of the digest that the server compares with the bytes
    compares: str | None = None
    list: str = ""  # pointer to the list of stored parts
    # pointer to the size, relative to each of *list*; so are *number* and *etag*
    size: str = ""
    etag: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path or '/'}"

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
        """True if a piece of the body is repeated for each part."""
        return any(is_repeated for _, is_repeated in names_in(self.body))


@frozen(kw_only=True)
class Description:
    """Content of a description: calls to an upload server, and facts about the server.

    ``name``, for messages, is the built-in name or the file.
    """

    name: str
    url: str | None = None  # URL of the server, unless the user gives another
    hosts: Sequence[str] = ()  # the only hosts that get *token*
    base: str = ""  # path below which the calls are made
    token: str | None = None  # env:NAME, used if the user gives no token
    # headers of each call; one may contain {token}
    headers: Mapping[str, str] = Factory(dict)
    segments: Sequence[str] = ()  # names for the segments of a path
    location: str | None = None  # template for the server's name of the object
    error: str = "/message"  # pointer to the message of an error
    notice: str = ""
    names_objects: bool = False
    resumes: bool = False
    min_part: int = MIN_PART  # minimum bytes of a part
    options: Mapping[str, str] = Factory(dict)  # name of an option -> its description
    request: Call | None = None  # signs any request to the store
    single: Call | None = None  # signs a PUT or a form
    single_finish: Call | None = None  # publishes what the PUT has stored
    open: Call | None = None
    sign: Call | None = None
    parts: Call | None = None
    finish: Call | None = None
    register: Call | None = None  # the last call, made after a PUT or after *finish*
    abort: Call | None = None

    @property
    def calls(self) -> dict[str, Call]:
        return {name: call for name in _CALLS if (call := getattr(self, name))}

    @property
    def names(self) -> set[str]:
        """The names in all templates."""
        found = set().union(*(call.names for call in self.calls.values()))
        return found | {name for name, _ in names_in(self.location)}


def load(name: str) -> Description:
    """Return the description in the file *name*, or the built-in one of this name.

    Raises ConfigurationError, which lists all problems.
    """
    shown = f"the description {name}"
    try:
        members = tomllib.loads(_text_of(name))
    except OSError as error:
        msg = f"{shown} cannot be read: {error.strerror}"
        if not is_path(name):
            known = ", ".join(built_in_names())
            msg = f"upload_server={name!r}: known are {known}, a file.toml, or module:function"
        raise ConfigurationError(msg) from None
    except ValueError as error:  # the file is not TOML, or not UTF-8
        raise ConfigurationError(f"{shown} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{shown} is nested too deeply") from None
    problems: list[str] = []
    calls: dict[str, Any] = {
        t: _call(t, members.pop(t), problems) for t in _CALLS if t in members
    }
    allowed = fields_dict(Description).keys() - {"name"}
    values = _valid(Description, members, allowed, "", problems)
    description = Description(name=name, **values, **calls)
    if not problems:
        problems += _mistakes(description)
    if problems:
        raise ConfigurationError(f"{shown}: {problem}" for problem in problems)
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
    """Return whether *name* has the form ``module:function``."""
    return ":" in name and not is_path(name)


def names_objects(upload_server: str) -> bool:
    """Return whether the server of the option *upload_server* names objects itself.

    Returns False for a function, which only the filesystem calls. Raises like ``load``.
    """
    name, _ = spelled(upload_server)
    return not is_function(name) and load(name).names_objects


def base_url(description: Description, given: str | None) -> str:
    """Return the URL to which the paths of calls are appended.

    *given* is the user's URL of the server; None uses the URL in the description.
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


# -- keys of a file ----------------------------------------------------------------------


def _call(table: str, members: Any, problems: list[str]) -> Call | None:
    members = members if isinstance(members, dict) else {}
    methods = [name for name in _METHODS if isinstance(members.get(name), str)]
    if len(methods) != 1:
        problems.append(f"{table} needs one of {', '.join(_METHODS)}, a path")
        return None
    if len(bodies := [name for name in _BODIES if name in members]) > 1:
        problems.append(f"{table} has {' and '.join(bodies)}: give one body")
    path = members.pop(methods[0])
    allowed = ("query", *_BODIES, *_CALLS[table].keys)
    values = _valid(Call, members, allowed, f"{table}.", problems)
    return Call(method=methods[0].upper(), path=path, **values)


def _valid(
    kind: type[Call | Description],
    members: Mapping[str, Any],
    allowed: Collection[str],
    prefix: str,
    problems: list[str],
) -> dict[str, Any]:
    """Return the *members* of valid names and types; add the rest to *problems*."""
    valid = {}
    for name, value in members.items():
        where = prefix + name
        if name not in allowed:
            problems.append(f"unknown key {where[:60]!r}{suggestion(name, allowed)}")
            continue
        attribute = fields_dict(kind)[name]
        try:
            _KINDS.get(attribute.type, _TEXT)(None, attribute, value)
            valid[name] = value
        except (TypeError, ValueError):
            problems.append(f"{where} has a value of the wrong type")
    return valid


def _mistakes(read: Description) -> Iterator[str]:
    """Yield which keys and names are missing, misplaced or never filled."""
    single, opened, token = read.single, read.open, read.token or ""
    options = {f"option.{name}" for name in read.options}
    by_grant = single.names if single and single.grant else set()
    compares = single.compares if single else None
    is_there_already = single is not None and single.url.endswith("?")
    taken = sorted(_FACTS & {*read.segments})
    named = [t for t, c in read.calls.items() if _NAMED_URL.fullmatch(c.path)]
    for is_fine, problem in (
        (read.request or single or opened, "it needs one of the tables request, single and open"),
        (not opened or read.finish, "open needs the table finish"),
        (not opened or read.sign or opened.urls, "open needs urls, or the table sign"),
        (not read.single_finish or single, "single_finish needs the table single"),
        (by_grant <= options, "single has a grant, so its call may use only options"),
        (not is_there_already or compares,
         "single.url may be absent only if compares= says how the server knows the object"),
        (compares in (None, *DIGESTS), "single.compares must be sha256 or md5"),
        (not token or (read.url and read.hosts), "token needs url and hosts, to which it is sent"),
        (not token or token.startswith("env:"), "token must be env:NAME"),
        (not taken, f"segments has {taken}, which mean something else"),
        (not read.base or read.base.startswith("/"),
         f"base = {read.base!r} must be empty or begin with '/'"),
        (not (read.resumes and named),
         f"resumes would keep a URL that a reply names, for {', '.join(named)}, on the disk"),
    ):  # fmt: skip
        if not is_fine:
            yield problem
    own = {n: v for n, v in read.headers.items() if n.lower() != "authorization"}
    yield from (f"headers: {problem}" for problem in header_problems(own))
    for table, call in read.calls.items():
        # Any other text could change the host or the port.
        if call.path and not call.path.startswith("/") and table not in named:
            yield (
                f"{table}.{call.method.lower()} = {call.path!r} must be empty, begin with "
                "'/', or be a URL that a reply has named, {upload.NAME}"
            )
    yield from _unfilled(read, {*_FACTS, *read.segments, *options})


def _unfilled(read: Description, known: set[str]) -> Iterator[str]:
    """Yield which names in templates never get a value; *known* always have one."""
    saved = {table: {f"upload.{n}" for n in c.save} for table, c in read.calls.items()}
    saved.setdefault("request", set()).add("upload.key")

    def check(
        template: Any, where: str, own: set[str], each: Collection[str] = ()
    ) -> Iterator[str]:
        for name, is_repeated in sorted({*names_in(template)}):
            if name in known | own or (is_repeated and name in each):
                continue
            is_saved = name.startswith("upload.")
            never = "no reply before has named" if is_saved else "means nothing here"
            never += suggestion(name, known | own)
            yield f"{where} has {{{name}}}, which {never}"

    for table, call in read.calls.items():
        facts = _CALLS[table]
        own = {*facts.own}.union(*(saved.get(t, ()) for t in facts.before))
        for key in ("query", "send", *_BODIES):
            yield from check(getattr(call, key), f"{table}.{key}", own, facts.each)
        yield from check(call.path, f"{table}.{call.method.lower()}", own)
        yield from check(call.key, f"{table}.key", own | saved.get(table, set()))
    yield from check(read.headers, "headers", {"token"})
    yield from check(read.location, "location", set().union(*saved.values()))
