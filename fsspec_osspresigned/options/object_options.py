"""What one object is stored with: the options of the filesystem and of the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, field, fields, frozen

from ..errors import ConfigurationError
from ..model import (
    FORBID_OVERWRITE,
    OBJECT_ACL,
    STORAGE_CLASS,
    TRAFFIC_LIMIT,
    Action,
    Operation,
    frozen_mapping,
    split_path,
)
from .options import Options

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
    "storage_class": STORAGE_CLASS,
    "acl": OBJECT_ACL,
    "tagging": "x-oss-tagging",
    "traffic_limit": TRAFFIC_LIMIT,
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


@frozen(eq=False, kw_only=True)
class Target:
    """Which object to store, and with what.

    Attributes:
        path: ``bucket/key``.
        headers: demanded headers.
        optional_headers: wished headers, such as a guessed Content-Type.
        checksum: ``auto``, ``crc64``, ``md5`` or ``none``.
    """

    path: str
    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    optional_headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    checksum: str = "auto"

    @property
    def exclusive(self) -> bool:
        """Whether an object that is there must stay."""
        lower = {n.lower(): v.lower() for n, v in self.headers.items()}
        return lower.get(FORBID_OVERWRITE) == "true"

    @property
    def content_type(self) -> str | None:
        """The Content-Type that was asked for; None if none was."""
        for headers in (self.headers, self.optional_headers):
            for name, value in headers.items():
                if name.lower() == "content-type":
                    return value
        return None

    @property
    def on_initiate(self) -> Mapping[str, str]:
        """The demanded headers of InitiateMultipartUpload."""
        return Action.InitiateMultipartUpload.spec.pick(self.headers)

    @property
    def on_complete(self) -> Mapping[str, str]:
        """The demanded headers of CompleteMultipartUpload."""
        return Action.CompleteMultipartUpload.spec.pick(self.headers)

    def operation(
        self,
        action: Action,
        *,
        headers: Mapping[str, str] | None = None,
        optional_headers: Mapping[str, str] | None = None,
        upload_id: str | None = None,
        part_number: int | None = None,
        content_length: int | None = None,
    ) -> Operation:
        """Return the operation *action* on this object."""
        bucket, key = split_path(self.path)
        return Operation(
            action=action,
            bucket=bucket,
            key=key,
            headers=headers,
            optional_headers=optional_headers,
            upload_id=upload_id,
            part_number=part_number,
            content_length=content_length,
        )

    def put_operation(self, size: int | None) -> Operation:
        """Return the PutObject of *size* bytes; None while nobody knows them."""
        return self.operation(
            Action.PutObject,
            headers=self.headers,
            optional_headers=self.optional_headers,
            content_length=size,
        )

    def initiate_operation(self) -> Operation:
        """Return the InitiateMultipartUpload."""
        return self.operation(
            Action.InitiateMultipartUpload,
            headers=self.on_initiate,
            optional_headers=self.optional_headers,
            content_length=0,
        )

    def part_operation(
        self, upload_id: str, number: int, size: int | None
    ) -> Operation:
        """Return the UploadPart of part *number*; *size* as for a PutObject."""
        return self.operation(
            Action.UploadPart,
            headers=Action.UploadPart.spec.pick(self.headers),
            upload_id=upload_id,
            part_number=number,
            content_length=size,
        )
