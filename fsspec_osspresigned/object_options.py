"""What one object is stored with: the options of the filesystem and of the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields, frozen

from .errors import ConfigurationError
from .options import Options, header_problem
from .publish import FORBID_OVERWRITE, Target

# Options that a call may set as well; the conversion is that of the constructor.
_PER_CALL = (
    "content_type",
    "headers",
    "metadata",
    "storage_class",
    "overwrite",
    "checksum",
)
# What fsspec and its users pass along to every filesystem and means nothing here.
_FOREIGN = frozenset(
    {"autocommit", "batch_size", "block_size", "cache_options", "cache_type"}
    | {"max_concurrency", "size", "mode"}
)


@frozen
class ObjectOptions:
    """The validated options of one object."""

    options: Options

    @classmethod
    def of(cls, base: Options, given: Mapping[str, Any], *, path: str) -> ObjectOptions:
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
                values[name] = {**getattr(base, name), **values[name]}
        return cls(evolve(base, **values))

    def target(self, path: str, *, guessed: str | None, exclusive: bool) -> Target:
        """Return the target; *guessed* is a Content-Type that is only wished.

        Raises:
            ConfigurationError: a header is given twice, or cannot be sent.
        """
        options = self.options
        headers = dict(options.headers)
        more = {f"x-oss-meta-{n.lower()}": v for n, v in options.metadata.items()}
        if options.content_type is not None:
            more["Content-Type"] = options.content_type
        if options.storage_class is not None:
            more["x-oss-storage-class"] = options.storage_class
        if exclusive or not options.overwrite:
            more[FORBID_OVERWRITE] = "true"
        lower = {name.lower() for name in headers}
        problems = [
            f"header {name} is given twice: by headers= and by its own option"
            for name in more
            if name.lower() in lower and name != FORBID_OVERWRITE
        ]
        problems += [p for n, v in more.items() if (p := header_problem(n, v))]
        if problems:
            raise ConfigurationError(problems, path=path)
        headers = {n: v for n, v in headers.items() if n.lower() != FORBID_OVERWRITE} | (
            more
            if FORBID_OVERWRITE in more or FORBID_OVERWRITE not in lower
            else {**more, FORBID_OVERWRITE: "true"}
        )
        wished = {}
        if guessed is not None and "content-type" not in {n.lower() for n in headers}:
            wished["Content-Type"] = guessed
        return Target(
            path=path,
            headers=headers,
            optional_headers=wished,
            checksum=options.checksum,
        )
