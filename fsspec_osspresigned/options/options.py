"""Storage options, converted strictly into one frozen value."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, fields, frozen

from ..compat import open_files
from ..errors import ConfigurationError
from ..model import (
    ACLS,
    CHECKSUMS,
    CONNECTIONS,
    MAX_CONNECTIONS,
    MAX_PART,
    MAX_SMALL,
    MIN_PART,
    STORAGE_CLASSES,
    STREAM_PART,
    STYLES,
    THRESHOLD,
    frozen_mapping,
)
from ..parsing import suggestion
from ..secret import (
    HIDDEN,
    HiddenList,
    HiddenMapping,
    Secret,
    SecretURL,
    redact,
    token_reference,
)
from ..signers import chosen, misplaced_options
from ..units import MIB, bytes_of
from ..url_checks import header_problems
from .header_values import (
    MAX_TRAFFIC,
    MIN_TRAFFIC,
    callback,
    encryption,
    is_of_texts,
    tagging,
)

# Keywords of fsspec, its caches and zarr that every filesystem gets.
FOREIGN = {
    *("add_aliases", "add_docs", "asynchronous", "batch_size", "listings_expiry_time"),
    *("loop", "max_paths", "skip_instance_cache", "use_listings_cache"),
    "default_fill_cache",
}
# Keywords that fsspec adds for a path with "::", which it takes for a chain.
CHAINED = frozenset({"fo", "target_protocol", "target_options"})
ALIAS = "url"  # alias for presigned_url, which fsspec.url_to_fs cannot pass on

# Options of s3fs and ossfs that have no other name in this package.
_OF_OTHERS = dict.fromkeys(
    ("key", "secret"),
    ": signer='keys' takes the access key from the environment "
    "(OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET)",
)

_TRUE = {"true", "1", "yes", "on"}
_FALSE = {"false", "0", "no", "off"}
_MEMORY = 256 * MIB
_HOST = re.compile(r"[^\s/?#@\\]+")  # a host with or without a port, or an IPv6 address

Convert = Callable[[Any], Any]


def is_true(value: Any) -> bool:
    return str(value).strip().lower() in _TRUE


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if isinstance(value, bool | str) and text in _TRUE | _FALSE:
        return is_true(value)
    raise ValueError("true or false")


def _number(low: int, high: int, read: Callable[[str], int], what: str) -> Convert:
    def convert(value: Any) -> int:
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = read(value)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(what.format(low=low, high=high))
        return value

    return convert


def _size(low: int, high: int) -> Convert:
    what = "bytes from {low} to {high}, such as 8388608 or '8MiB'"
    return _number(low, high, bytes_of, what)


def _integer(low: int, high: int) -> Convert:
    return _number(low, high, _digits, "a whole number from {low} to {high}")


def _digits(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise ValueError(text)
    return int(text)


def _seconds(value: Any) -> float:
    number = float("nan")
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        number = float("nan") if isinstance(value, bool) else float(value)
    if not 0 < number < 1e9:  # noqa: PLR2004 - the comparison also rejects nan and inf
        raise ValueError("a positive number of seconds")
    return number


def _timeout(value: Any) -> tuple[float, float]:
    """Return the timeouts for connecting and for progress, in seconds.

    A single number is the timeout for progress, and for connecting if it is less than 10 s.
    """
    if not isinstance(value, list | tuple):
        number = _seconds(value)
        return min(10.0, number), number
    if len(value) != 2:  # noqa: PLR2004 - the value is a pair
        raise ValueError("seconds, or a pair [connect, no progress]")
    return _seconds(value[0]), _seconds(value[1])


def _choice(*allowed: str) -> Convert:
    def convert(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return str(value)

    return convert


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def _presigned_url(value: Any) -> Any:
    return value if isinstance(value, Secret) else _text(value)


def _header_value(value: Any) -> str:
    text = _text(value)
    if problem := next(header_problems({"Content-Type": text}), None):
        raise ValueError(f"a header value; {problem}")
    return text


def _headers(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(n, str) for n in value):
        raise ValueError("a mapping of header names to values")
    if problem := "; ".join(header_problems(value)):
        raise ValueError(f"a mapping of headers; {problem}")
    return frozen_mapping(value)


def _metadata(value: Any) -> Mapping[str, str]:
    for name in _headers(value):
        if not re.fullmatch(r"[A-Za-z0-9-]+", name):
            raise ValueError(f"a mapping; {name!r} is not of letters, digits and '-'")
    return frozen_mapping(value)


def _grant(value: Any) -> Any:
    if isinstance(value, Mapping | os.PathLike | Secret) or (
        isinstance(value, str) and value.strip()
    ):
        return value
    raise ValueError("a file, a URL, env:NAME or a mapping")


def _upload_server(value: Any) -> Any:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if not (callable(value) or hasattr(value, "carries_out")):
        raise ValueError(
            "a name such as 'dashscope', a file.toml, an UploadServer, or a function"
        )
    return value


def _texts(value: Any) -> Mapping[str, str]:
    if not is_of_texts(value):
        raise ValueError("a mapping of names to texts")
    return frozen_mapping(value)


def _directory(value: Any) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or not path.strip() or "://" in path:
        raise ValueError("a directory on this machine")
    return str(Path(os.path.expanduser(path)).absolute())


def _hosts(value: Any) -> Mapping[str, str | None]:
    if isinstance(value, str):
        value = [host.strip() for host in value.split(",")]
    pairs: list[tuple[Any, Any]] = []
    if isinstance(value, list | tuple):
        pairs = [(host, None) for host in value]
    elif isinstance(value, Mapping):
        pairs = [*value.items()]
    if not pairs or not all(
        isinstance(h, str) and h and isinstance(b, str | None) for h, b in pairs
    ):
        raise ValueError("hosts: a list, or a mapping of host to bucket")
    if not all(_HOST.fullmatch(host) for host, _ in pairs):
        raise ValueError(
            "hosts, not URLs: files.example.com, or files.example.com:8443"
        )
    return {host.lower(): bucket for host, bucket in pairs}


def _option(
    default: Any,
    convert: Convert = lambda value: value,
    *,
    shown: Any = True,
    per_object: bool = False,
) -> Any:
    """Return the field of an option for attrs.

    *convert* validates a value. *shown* says whether a repr shows the value, or is a
    function that makes its text. *per_object* permits the option in calls for one
    object.
    """
    metadata = {"convert": convert, "per_object": per_object}
    return field(default=default, metadata=metadata, repr=shown)


_per_object = functools.partial(_option, per_object=True)


def _shown_source(value: Any) -> str:
    """Return the text of *value* for a repr.

    The query of a URL is left out, because it may hold a token.
    """
    if isinstance(value, str) and "://" in value:
        return SecretURL(value).shown()
    is_shown = isinstance(value, str | os.PathLike | Secret | None)
    return repr(value) if is_shown else HIDDEN


@frozen(eq=False, kw_only=True)
class Options:
    """All storage options, validated; docs/options.md describes each of them.

    Sizes are bytes, times are seconds.
    """

    presigned_url: Secret | str | None = _option(None, _presigned_url)
    url_map: Any = _option(None, shown=_shown_source)
    grant: Any = _option(None, _grant, shown=_shown_source)
    signer: Any = _option(None)
    upload_server: Any = _option(None, _upload_server)
    upload_server_options: Mapping[str, str] = _option({}, _texts)
    signer_token: Any = _option(None, token_reference)
    region: str | None = _option(None, _text)
    endpoint: str | None = _option(None, _text)
    signature_version: str = _option("v4", _choice("v1", "v4"))
    addressing_style: str | None = _option(None, _choice(*STYLES))
    expires_in: int = _option(3600, _integer(1, 604_800))
    headers: Mapping[str, str] = _per_object({}, _headers)
    metadata: Mapping[str, str] = _per_object({}, _metadata)
    content_type: str | None = _per_object(None, _header_value)
    storage_class: str | None = _per_object(None, _choice(*STORAGE_CLASSES))
    acl: str | None = _per_object(None, _choice(*ACLS))
    tagging: str | None = _per_object(None, tagging)
    server_side_encryption: Mapping[str, str] = _per_object({}, encryption)
    callback: Mapping[str, str] = _per_object({}, callback)
    traffic_limit: int | None = _per_object(None, _integer(MIN_TRAFFIC, MAX_TRAFFIC))
    part_size: int | None = _option(None, _size(MIN_PART, MAX_PART))
    multipart_threshold: int | None = _option(None, _size(1, MAX_PART))
    max_concurrency: int | None = _option(None, _integer(1, 1024))
    memory_limit: int | None = _option(None, _size(MIB, 1024 * 1024 * MIB))
    checksum: str = _per_object("auto", _choice(*CHECKSUMS))
    overwrite: bool | None = _per_object(None, _boolean)
    retries: int = _option(5, _integer(0, 100))
    retry_timeout: float = _option(300.0, _seconds)
    timeout: tuple[float, float] = _option((10.0, 60.0), _timeout)
    on_exception: str = _option("discard", _choice("discard", "publish"))
    receipts: Any = _option(None)
    resume_dir: str | None = _option(None, _directory)
    if_unverifiable: str = _option("missing", _choice("missing", "error"))
    allowed_hosts: Mapping[str, str | None] = _option({}, _hosts)
    allow_http: bool = _option(False, _boolean)
    allow_path_mismatch: bool = _option(False, _boolean)
    abort_owner_uploads: bool = _option(False, _boolean)
    default_block_size: int | None = _option(None, _size(1, MAX_PART))
    default_cache_type: str | None = _option(None, _text)

    @classmethod
    def from_storage_options(cls, given: Mapping[str, Any]) -> Options:
        """Return validated options; the value None selects the default of an option.

        Raises:
            ConfigurationError: options are invalid; the message lists all problems.
        """
        given = portable(given)
        known = {a.name: a for a in fields(cls)}
        problems: list[str] = []
        values: dict[str, Any] = {}
        if chained := CHAINED & given.keys():
            problems.append(
                f"'::' in a path makes fsspec chain filesystems ({', '.join(sorted(chained))} "
                "arrived): call the filesystem itself, fs.open(...), for such a key; a "
                "signed URL goes into presigned_url="
            )
        for name, value in given.items():
            if name in FOREIGN or name in CHAINED or value is None:
                continue
            if name == ALIAS:
                problems.append("presigned_url= and url= are one option: give one")
                continue
            if name not in known:
                advice = _OF_OTHERS.get(name) or suggestion(name, known)
                problems.append(f"unknown option {name!r}{advice}")
                continue
            try:
                values[name] = known[name].metadata["convert"](value)
            except ValueError as error:
                problems.append(f"{name}={_show(name, value)}: must be {error}")
        problems += _source_problems({**given, **values})
        if problems:
            raise ConfigurationError(problems)
        return cls(**values)

    @functools.cached_property  # every upload needs the value
    def threshold(self) -> int:
        """Size in bytes above which an object is sent in parts."""
        return self.multipart_threshold or THRESHOLD

    @property
    def connections(self) -> int:
        """Usual number of files, or of parts of one object, in flight at a time."""
        return self.max_concurrency or CONNECTIONS

    @property
    def max_connections(self) -> int:
        """Maximum number of large requests, which worker threads send, in the process."""
        return self.max_concurrency or MAX_CONNECTIONS

    @property
    def max_small(self) -> int:
        """Maximum number of small requests in flight, if the link can carry them.

        It applies to one client. The default is a quarter of the files that the process
        may open, from 16 to 128.
        """
        default = max(CONNECTIONS, min(MAX_SMALL, open_files() // 4))
        return self.max_concurrency or default

    @property
    def piece_size(self) -> int:
        """Bytes of a part of a stream, and of a range of an object that is read."""
        return self.part_size or STREAM_PART

    @property
    def max_memory(self) -> int:
        """Bytes that all open files together may buffer before writers must wait."""
        default = max(_MEMORY, self.piece_size * (self.connections + 1))
        return self.memory_limit or default

    def check_portable(self) -> None:
        """Raise TypeError if the options hold secrets or objects that cannot be pickled."""
        remedies = []
        if isinstance(self.presigned_url, Secret):
            remedies.append("presigned_url= holds the URL: pass env:NAME or file:PATH")
        remedies += [
            f"{name}= is given inline: pass a file, or env:NAME"
            for name in ("url_map", "grant")
            if not isinstance(value := getattr(self, name), str | os.PathLike | None)
            or value == "-"
        ]
        texts = {
            "signer": "'module:function', or 'keys' with the key in the environment",
            "upload_server": "'module:function'",
        }
        remedies += [
            f"{name}= is an object of this process: pass {texts.get(name, 'a text')}"
            for name in ("signer", "upload_server", "signer_token", "receipts")
            if not isinstance(getattr(self, name), str | os.PathLike | None)
        ]
        if remedies:
            raise TypeError("this filesystem cannot be pickled: " + "; ".join(remedies))

    def identity(self) -> tuple[Any, ...]:
        """Return the key by which filesystems with equal options share a client."""
        values = (hashable(getattr(self, a.name)) for a in fields(type(self)))
        return (*values, surroundings() if self.signer == "keys" else None)


def without_alias(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return *given* with ``presigned_url`` for its alias ``url``.

    fsspec's ``url_to_fs`` has a parameter ``url``, so its callers cannot pass an option
    of that name. If both names are given, both are kept.
    """
    options = dict(given)
    if ALIAS in options and options.get("presigned_url") is None:
        options["presigned_url"] = options.pop(ALIAS)
    return options


def portable(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return *given* without the alias and with absolute paths, and hide its secrets.

    Secrets get types whose ``repr`` hides them.
    """
    options = without_alias(given)
    for name in ("url_map", "grant", "receipts", "resume_dir"):
        value = options.get(name)
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if isinstance(value, str) and "://" not in value and _is_path(value):
            options[name] = _absolute(value)
    if ".toml" in str(options.get("upload_server")):
        options["upload_server"] = _absolute_description(options["upload_server"])
    for name in ("presigned_url", "url_map", "grant", "signer_token"):
        value = options.get(name)
        if isinstance(value, str) and value.startswith("file:"):
            path = value.removeprefix("file:")
            if not path.startswith("//"):
                options[name] = f"file:{_absolute(path)}"
    for name in ("presigned_url", "url_map", "grant"):
        if name in options:
            options[name] = _hidden(name, options[name])
    return options


def _hidden(name: str, value: Any) -> Any:
    """Return the value of the option *name* in a type whose ``repr`` hides it.

    A text that only refers to the value is returned as it is: ``env:NAME``, ``file:PATH``, or the
    path or URL of a map or grant.
    """
    if isinstance(value, str):
        if name == "presigned_url":
            is_reference = value.startswith(("env:", "file:")) or not value.strip()
            return value if is_reference else SecretURL(value.strip())
        return Secret(value) if value.lstrip()[:1] in ("{", "[") else value
    if isinstance(value, dict):
        return HiddenMapping(value)
    return HiddenList(value) if isinstance(value, list) else value


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _absolute_description(value: Any) -> Any:
    from ..signers.description import is_path, spelled  # noqa: PLC0415 - needed only for files

    path, url = spelled(value) if isinstance(value, str) else ("", None)
    return "+".join(filter(None, (_absolute(path), url))) if is_path(path) else value


def _is_path(text: str) -> bool:
    text = text.strip()
    return bool(text) and not text.startswith(("env:", "file:", "{", "[", "-"))


def _source_problems(values: dict[str, Any]) -> list[str]:
    problems = []
    used = chosen(values.get)
    if not used:
        problems.append(
            "no source of signatures is given: use presigned_url= (one URL, to upload), "
            "url_map= (a file of them), grant= (a file that is one signature for a "
            "directory), signer= (a service, 'keys' or a function) or upload_server= (an upload server)"
        )
    alone = next((n for n in ("upload_server", "presigned_url") if n in used), None)
    if alone and (others := [f"{name}=" for name in used if name != alone]):
        problems.append(
            f"{alone}= cannot be combined with other sources: leave out {', '.join(others)}"
        )
    takers = [n for n, kind in used.items() if "signer_token" in kind.own_options]
    if values.get("signer_token") is not None and len(takers) > 1:
        problems.append(
            "signer_token= would go to two servers, one of grant= and one of signer=: give only one"
        )
    return problems + misplaced_options(values.get)


def _show(name: str, value: Any) -> str:
    """Return *value* shortened for a message; ``...`` if it may be a secret."""
    if name in (
        ALIAS,
        "presigned_url",
        "grant",
        "signer_token",
        "headers",
        "metadata",
        "callback",
    ):
        return "..."
    return redact(repr(value))[:60]


def surroundings() -> tuple[str | None, ...]:
    """Return the environment variables that a client with access keys depends on."""
    return tuple(os.environ.get(name) for name in ("OSS_ENDPOINT", "OSS_REGION"))


def hashable(value: Any) -> Any:
    """Return a hashable key for *value*.

    Keys are equal if the values are equal. Values that cannot be hashed are equal only
    to themselves.
    """
    if isinstance(value, Mapping):
        return frozenset((k, hashable(v)) for k, v in value.items())
    if isinstance(value, list | tuple):
        return tuple(hashable(v) for v in value)
    try:
        hash(value)
    except TypeError:
        return ("id", id(value))
    return value
