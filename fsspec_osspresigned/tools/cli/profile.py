"""Profiles: named sets of command options in a configuration file."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import click
from click.core import ParameterSource

from ...url_checks import is_presigned

# Sources of signatures: one on the command line replaces all of a profile.
_SOURCES = ("url_map", "grant", "signer", "broker", "url_file")
_OF_SOURCE = (
    *("signer_token", "region", "endpoint", "addressing_style"),
    *("broker_options", "model"),
)
# Options of a call, not of a place.
_NEVER = (
    "profile",
    "url-file",
    "dry-run",
    "yes",
    "delete",
    "check",
    "files-from",
    "recursive",
    "state",
    "help",
)
_PLACES = ("map", "grant", "checkpoint", "receipts", "filter-from")
_REFERENCES = ("env:", "file:")


def config_file() -> str:
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.path.join(base, "osspresigned", "config.toml")


def use_profile(
    context: click.Context, _: click.Parameter, name: str | None
) -> str | None:
    """Make the options of profile *name* the defaults of the command.

    A callback of click, which returns *name*. UsageError if the profile is missing or
    invalid.
    """
    if name is not None and not context.resilient_parsing:
        context.default_map = _checked(context, name)
    return name


def without_profile_source(context: click.Context, values: dict[str, Any]) -> None:
    """Remove the profile's source of signatures if the command line names one.

    In *values*, that source and the options that belong to it become None. Otherwise,
    the profile's token would be sent to another signer.
    """
    origin = context.get_parameter_source
    if any(origin(name) is ParameterSource.COMMANDLINE for name in _SOURCES):
        for name in (*_SOURCES, *_OF_SOURCE):
            if name in values and origin(name) is ParameterSource.DEFAULT_MAP:
                values[name] = None


def _read(place: str) -> Mapping[str, Mapping[str, Any]]:
    try:
        with open(place, "rb") as file:
            status = os.fstat(file.fileno())
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if os.name == "posix" and (
                others or status.st_uid not in (0, os.geteuid())
            ):
                msg = f"{place} may be written by others: chmod go-w it, and own it"
                raise click.UsageError(msg)
            profiles = tomllib.load(file)
    except OSError as error:
        raise click.UsageError(f"{place}: {error.strerror}") from None
    except ValueError as error:  # no TOML, or no UTF-8
        raise click.UsageError(f"{place} is not valid TOML: {error}") from None
    for name, section in profiles.items():
        if not isinstance(section, dict):
            msg = f"{place}: {name!r} stands outside of a section such as [{name}]"
            raise click.UsageError(msg)
    return profiles


def _checked(context: click.Context, name: str) -> dict[str, Any]:
    place = config_file()
    profiles = _read(place)
    if name not in profiles:
        hint = _near(name, profiles) or f" has {', '.join(profiles) or 'none'}"
        raise click.UsageError(f"no profile {name!r}: {place}{hint}")
    flags, defaults = _known(context), {}
    for key, value in profiles[name].items():
        flag = key.replace("_", "-")
        where = f"profile {name!r} in {place}"
        if flag not in flags:
            raise click.UsageError(f"{where}: unknown key {key!r}{_near(flag, flags)}")
        if problem := _problem(flag, value):
            raise click.UsageError(f"{where}: {key}: {problem}")
        option = flags[flag]
        converted = _converted(flag, value, os.path.dirname(place))
        if isinstance(converted, list) and not option.multiple:
            raise click.UsageError(f"{where}: {key}: write one value, not several")
        try:
            option.type_cast_value(context, converted)
        except click.BadParameter as error:
            raise click.UsageError(f"{where}: {key}: {error.message}") from None
        if option in context.command.params:
            defaults[str(option.name)] = converted
    return defaults


def _near(name: str, known: Any) -> str:
    matches = get_close_matches(_PYTHON.get(name, name), [*known], 1)
    return f": did you mean {matches[0]!r}?" if matches else ""


# Names of storage options, which are not those of flags.
_PYTHON = {
    "signer-token": "token",
    "url-map": "map",
    "expires-in": "expires",
    "allowed-hosts": "allowed-host",
    "headers": "header",
    "max-concurrency": "jobs",
}


def _known(context: click.Context) -> dict[str, click.Option]:
    root = context.find_root().command
    commands = [*root.commands.values()] if isinstance(root, click.Group) else []
    taking = [
        command
        for command in commands
        if any(param.name == "profile" for param in command.params)
    ]
    options: dict[str, click.Option] = {}
    for command in (context.command, *taking):
        for param in command.params:
            if isinstance(param, click.Option):
                options.setdefault(param.opts[0].removeprefix("--"), param)
    return {flag: option for flag, option in options.items() if flag not in _NEVER}


def _problem(flag: str, value: Any) -> str | None:
    """Return why *value* is invalid for *flag*, or None if it is valid.

    The text does not quote *value*, which may be a secret.
    """
    texts = [*value.values()] if isinstance(value, dict) else value
    texts = texts if isinstance(texts, list) else [texts]
    if any(not isinstance(text, str | int | float) for text in texts):
        return "write a text, a number, true or false, or a list of texts"
    if any(is_presigned(str(text)) for text in texts):
        return "a presigned URL is a secret: keep it in a file, for --url-file"
    if flag == "token" and not str(value).startswith(_REFERENCES):
        return (
            "this would be the token itself: write env:NAME, or file:PATH of a file "
            "that holds it"
        )
    return None


def _converted(flag: str, value: Any, folder: str) -> Any:
    if isinstance(value, dict):
        return [f"{name}={text}" for name, text in value.items()]
    if flag in _PLACES and isinstance(value, list):
        return [_converted(flag, item, folder) for item in value]
    if flag in _PLACES and isinstance(value, str):
        plain = "://" not in value and not value.startswith("env:") and value != "-"
        return _path(value, folder) if plain else value
    if flag == "token" and isinstance(value, str) and value.startswith("file:"):
        return f"file:{_path(value.removeprefix('file:'), folder)}"
    return value


def _path(value: str, folder: str) -> str:
    return os.path.join(folder, os.path.expanduser(value))
