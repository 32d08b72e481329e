"""Descriptions of servers of uploads: TOML files with templates and JSON pointers.

A description says which calls open, sign, finish and abort an upload.
docs/existing-servers.md describes all members.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from attrs import Factory, field, fields_dict, frozen, validators

from ..errors import ConfigurationError
from ..model import MIN_PART
from ..url_checks import url_problem
from .templates import lists_in, names_in

SUFFIX = ".toml"
_METHODS = ("get", "post", "put", "delete")
# Names that every call may use; values of an operation, or of a finished upload.
_NAMES = frozenset(
    (
        *("path", "dir", "name", "type", "size", "method"),
        *("upload_id", "count", "number", "numbers", "etag", "bare_etag"),
    )
)
# Names that differ for each part, so a list in JSON can be repeated for each.
_OF_PART = frozenset(("number", "etag", "bare_etag"))
# Calls, and the members that each may have besides method, query and json.
_SIGNED = ("url", "headers", "lifetime", "key")
_CALLS: Mapping[str, Collection[str]] = {
    "request": (*_SIGNED, "save"),
    "single": (*_SIGNED, "save", "fields", "grant", "largest_mb"),
    "single_finish": ("save", "create_only"),
    "open": (*_SIGNED, "save", "urls", "number"),
    "sign": (*_SIGNED, "urls", "number"),
    "parts": ("list", "number", "size", "etag"),
    "finish": ("save", "create_only"),
    "abort": (),
}


_TEXT = validators.instance_of(str)
_SIZE = validators.and_(validators.instance_of(int), validators.gt(0))
_TEXTS = validators.deep_iterable(_TEXT, validators.instance_of(list))
_FLAG = validators.instance_of(bool)
_TABLE = validators.deep_mapping(_TEXT, _TEXT, validators.instance_of(dict))


def _member(check: Any = _TEXT, default: Any = None) -> Any:
    return field(default=default, validator=validators.optional(check))


@frozen(kw_only=True)
class Call:
    """One call to the server. Members that name parts of the reply are JSON pointers."""

    method: str
    path: str  # a template, below the base URL
    query: Mapping[str, str] = _member(_TABLE, Factory(dict))  # templates
    json: Any = None  # templates; None sends no body
    create_only: Mapping[str, str] = _member(
        _TABLE, Factory(dict)
    )  # headers: replace no object
    save: Mapping[str, str] = _member(
        _TABLE, Factory(dict)
    )  # name -> pointer, for later calls
    url: str = _member(
        default=""
    )  # of the signed request; in each of *urls* if several
    urls: str | None = _member()  # list, or object by part number
    number: str | None = _member()  # of a part, in each of *urls* or *list*
    headers: str | None = _member()  # to send: an object, or a list of name and value
    lifetime: str | None = _member()  # seconds; None if the URL says it
    fields: str | None = _member()  # of a form
    grant: str | None = _member()  # grant for a form of OSS
    key: str | None = _member()  # template for the key; None is the saved key, if any
    largest_mb: str | None = _member()  # maximum size of the object in MiB
    list: str = _member(default="")  # of stored parts
    size: str = _member(default="")  # of a part, in each entry of *list*
    etag: str = _member(default="")  # of a part, in each entry of *list*

    @property
    def is_form(self) -> bool:
        return bool(self.fields or self.grant)

    @property
    def names(self) -> set[str]:
        """The names in the templates of the request."""
        return {*names_in([self.path, self.query, self.json])}


@frozen(kw_only=True)
class Description:
    """Content of a description: calls to a server of uploads, and facts about the server.

    ``name`` is the built-in name or the file, and stands in messages.
    """

    name: str
    url: str | None = _member()  # of the server, unless the user gives another
    hosts: Sequence[str] = _member(
        _TEXTS, Factory(list)
    )  # the only ones that get *token*
    base: str = _member(default="")  # path below which the calls are
    token: str | None = _member()  # env:NAME, if the user gives none
    segments: Sequence[str] = _member(
        _TEXTS, Factory(list)
    )  # names for segments of a path
    location: str | None = _member()  # template for the server's name of the object
    error: str = _member(default="/message")  # pointer to the message in an error
    notice: str = _member(default="")
    names_objects: bool = _member(_FLAG, False)
    resumes: bool = _member(_FLAG, False)
    min_part: int = _member(_SIZE, MIN_PART)  # bytes
    options: Mapping[str, str] = _member(_TABLE, Factory(dict))  # name -> what it is
    request: Call | None = None  # signs any call of the store
    single: Call | None = None  # signs a PUT or a form
    single_finish: Call | None = None  # publishes what the PUT has stored
    open: Call | None = None
    sign: Call | None = None
    parts: Call | None = None
    finish: Call | None = None
    abort: Call | None = None

    @property
    def option_names(self) -> set[str]:
        """The names of the options in templates."""
        return {f"option.{name}" for name in self.options}


def load(name: str) -> Description:
    """Return the description in the file *name*, or the built-in one of this name.

    Raises ConfigurationError, which lists all problems.
    """
    shown = f"the description {name}"
    try:
        if is_path(name):
            with open(name, "rb") as file:
                members = tomllib.load(file)
        else:
            members = tomllib.loads(_built_in(name))
    except OSError as error:
        msg = f"{shown} cannot be read: {error.strerror}"
        if not is_path(name):
            known = ", ".join(built_in_names())
            msg = f"broker={name!r}: known are {known}, a file.toml, or module:function"
        raise ConfigurationError(msg) from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise ConfigurationError(f"{shown} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{shown} is nested too deeply") from None
    problems: list[str] = []
    description = _description(name, members, problems)
    problems = problems or [*_inconsistencies(description)]
    if problems:
        raise ConfigurationError([f"{shown}: {problem}" for problem in problems])
    return description


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


def names_objects(broker: str) -> bool:
    """Return whether the server that the option *broker* describes names objects itself.

    Returns False for a function, which only the filesystem calls. Raises like ``load``.
    """
    name, _ = spelled(broker)
    return not is_function(name) and load(name).names_objects


def base_url(description: Description, given: str | None) -> str:
    """Return the URL to which the paths of calls are appended.

    *given* is the user's URL of the server; None takes that of the description.
    """
    url = given or description.url
    if url is None:
        name = description.name
        msg = f"broker={name!r} needs the server's URL: write '{name}+https://...'"
        raise ConfigurationError(msg)
    url = url.rstrip("/") + description.base
    if problem := url_problem(url) or ("has a query" if "?" in url else None):
        raise ConfigurationError(f"the URL of the broker {problem}")
    return url


def built_in_names() -> list[str]:
    shipped = (files(__package__) / "brokers").iterdir()
    return sorted(p.name.removesuffix(SUFFIX) for p in shipped if is_path(p.name))


def _built_in(name: str) -> str:
    if not name.replace("-", "").isalnum():
        raise FileNotFoundError(name)
    file = files(__package__) / "brokers" / f"{name}{SUFFIX}"
    return file.read_text(encoding="utf-8")


# -- members of a file -------------------------------------------------------------------


def _description(
    name: str, members: Mapping[str, Any], problems: list[str]
) -> Description:
    """Return the description with the valid *members*; add what is wrong to *problems*."""
    calls = {t: _call(t, members[t], problems) for t in _CALLS if t in members}
    others = {name: value for name, value in members.items() if name not in calls}
    allowed = fields_dict(Description).keys() - {"name"}
    values = _valid(Description, others, allowed, "", problems)
    return Description(name=name, **{**values, **calls})


def _call(table: str, members: Any, problems: list[str]) -> Call | None:
    members = members if isinstance(members, dict) else {}
    methods = [name for name in _METHODS if name in members]
    if len(methods) != 1 or not isinstance(members[methods[0]], str):
        text = f"{table} needs one of {', '.join(_METHODS)}, a path"
        problems.append(text)
        return None
    others = {name: value for name, value in members.items() if name not in methods}
    allowed = ("query", "json", *_CALLS[table])
    values = _valid(Call, others, allowed, f"{table}.", problems)
    return Call(method=methods[0].upper(), path=members[methods[0]], **values)


def _valid(
    kind: type,
    members: Mapping[str, Any],
    allowed: Collection[str],
    prefix: str,
    problems: list[str],
) -> dict[str, Any]:
    """Return the *members* that are valid fields of *kind*; add the rest to *problems*."""
    valid = {}
    for name, value in members.items():
        member = fields_dict(kind).get(name)
        if member is None or name not in allowed:
            problems.append(f"unknown key {(prefix + name)[:60]!r}")
            continue
        try:
            if member.validator is not None:
                member.validator(None, member, value)
            valid[name] = value
        except (TypeError, ValueError):
            problems.append(f"{prefix}{name} has a value of the wrong type")
    return valid


def _inconsistencies(read: Description) -> Iterator[str]:
    single, opened, token = read.single, read.open, read.token or ""
    by_grant = single.names if single and single.grant else set()
    for is_fine, problem in (
        (read.request or single or opened, "it needs one of the tables request, single and open"),
        (not opened or read.finish, "open needs the table finish"),
        (not opened or read.sign or opened.urls, "open needs urls, or the table sign"),
        (not read.single_finish or single, "single_finish needs the table single"),
        (by_grant <= read.option_names, "single has a grant, so its call may use only options"),
        (not token or (read.url and read.hosts), "token needs url and hosts, to which it is sent"),
        (not token or token.startswith("env:"), "token must be env:NAME"),
    ):  # fmt: skip
        if not is_fine:
            yield problem
    calls = {name: getattr(read, name) for name in _CALLS if getattr(read, name)}
    paths = {f"{name}.{call.method.lower()}": call.path for name, call in calls.items()}
    for member, path in {"base": read.base, **paths}.items():
        # Anything else could name another host, or another port.
        if path and not path.startswith("/"):
            yield f"{member} = {path!r} must be empty or begin with '/'"
    for name in sorted(_NAMES & {*read.segments}):
        yield f"segments has {name!r}, which means something else"
    yield from _unfilled_lists(calls)
    yield from _unknown_names(read, calls)


def _unfilled_lists(calls: Mapping[str, Call]) -> Iterator[str]:
    for table, call in calls.items():
        for member, template in lists_in(call.json, f"{table}.json"):
            if table not in ("finish", "single_finish"):
                yield f"{member} is a list, which only finish and single_finish can have"
            elif _OF_PART.isdisjoint(names_in(template)):
                names = "{number}, {etag} or {bare_etag}"
                yield f"{member} is a list without {names}, which differ for each part"


def _unknown_names(read: Description, calls: Mapping[str, Call]) -> Iterator[str]:
    saved = {name for call in calls.values() for name in call.save} | {"key", "id"}
    known = {*_NAMES, *read.segments, *read.option_names}
    known |= {f"upload.{name}" for name in saved}
    members = {name: call.names for name, call in calls.items()}
    members |= {f"{n}.key": {*names_in(call.key)} for n, call in calls.items()}
    members["location"] = {*names_in(read.location)}
    for member, names in members.items():
        for name in sorted(names - known):
            yield f"{member} has the unknown name {{{name}}}"
