"""What one object is stored with: the options of the filesystem and of the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields, frozen

from .errors import ConfigurationError
from .options import Options
from .publish import FORBID_OVERWRITE, Target

# Options that a call may set as well; the conversion is that of the constructor.
_PER_CALL = (
    "content_type",
    "headers",
    "metadata",
    "storage_class",
    "acl",
    "tagging",
    "server_side_encryption",
    "callback",
    "traffic_limit",
    "overwrite",
    "checksum",
)
_HEADERS = {
    "content_type": "Content-Type",
    "storage_class": "x-oss-storage-class",
    "acl": "x-oss-object-acl",
    "tagging": "x-oss-tagging",
    "traffic_limit": "x-oss-traffic-limit",
}
# What fsspec and its users pass along to every filesystem and means nothing here.
_FOREIGN = frozenset(
    {"autocommit", "batch_size", "block_size", "cache_options", "cache_type"}
    | {"max_concurrency", "size", "mode"}
)


@frozen(eq=False)
class ObjectOptions:
    """The validated options of one object."""

    options: Options

    @classmethod
    def of(
        cls, base: Options, given: Mapping[str, Any], *, path: str | None = None
    ) -> ObjectOptions:
        """Lay the options of a call over those of the filesystem.

        Raises:
            ConfigurationError: with every problem.
        """
        own = {n: v for n, v in given.items() if n not in _FOREIGN and v is not None}
        if not own:
            return cls(base)
        known = {a.name: a for a in fields(Options) if a.name in _PER_CALL}
        problems = []
        values: dict[str, Any] = {}
        for name, value in own.items():
            if name not in known:
                problems.append(f"unknown option {name!r} for one object")
                continue
            try:
                values[name] = known[name].metadata["convert"](value)
            except ValueError as error:
                problems.append(f"{name}= must be {error}")
        if problems:
            raise ConfigurationError(problems, path=path)
        for name in ("headers", "metadata"):
            if name in values:
                values[name] = _over(getattr(base, name), values[name])
        return cls(evolve(base, **values))

    def target(self, path: str, *, guessed: str | None, exclusive: bool) -> Target:
        """Return the target; *guessed* is a Content-Type that is only wished.

        Raises:
            ConfigurationError: a header is given twice.
        """
        options = self.options
        named = {f"x-oss-meta-{n.lower()}": v for n, v in options.metadata.items()}
        named |= {**options.server_side_encryption, **options.callback}
        named |= {
            header: str(value)
            for name, header in _HEADERS.items()
            if (value := getattr(options, name)) is not None
        }
        forced = exclusive or not options.overwrite
        given = {
            name: value
            for name, value in options.headers.items()
            if not (forced and name.lower() == FORBID_OVERWRITE)
        }
        lower = {name.lower() for name in given}
        twice = [name for name in named if name.lower() in lower]
        if twice:
            raise ConfigurationError(
                [
                    f"header {n} is given by headers= and by its own option"
                    for n in twice
                ],
                path=path,
            )
        headers = {**given, **named}
        if forced:
            headers[FORBID_OVERWRITE] = "true"
        has_type = "Content-Type" in named or "content-type" in lower
        wished = {} if guessed is None or has_type else {"Content-Type": guessed}
        return Target(
            path=path,
            headers=headers,
            optional_headers=wished,
            checksum=options.checksum,
        )


def _over(base: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return *base* with those of *given* in place of its equals in any case."""
    lower = {name.lower() for name in given}
    return {**{n: v for n, v in base.items() if n.lower() not in lower}, **given}
