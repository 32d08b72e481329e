"""Options of one object: the filesystem's options, overridden by those of the call."""

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
)
from ..parsing import suggestion
from .options import Options

_HEADERS = {
    "content_type": "Content-Type",
    "storage_class": STORAGE_CLASS,
    "acl": OBJECT_ACL,
    "tagging": "x-oss-tagging",
    "traffic_limit": TRAFFIC_LIMIT,
}
# Keywords that fsspec and its users pass to every filesystem; they have no meaning
# here.
_FOREIGN = {
    *("autocommit", "batch_size", "block_size", "cache_options", "cache_type"),
    *("blocksize", "chunksize", "default_cache", "fill_cache"),
    *("max_concurrency", "mode", "size"),
}


@frozen(eq=False)
class ObjectOptions:
    """Validated options of one object."""

    options: Options
    # Arguments of ``target`` -> the kind of the target. Many objects share a kind.
    _kinds: dict[Any, TargetKind] = field(factory=dict, init=False)

    @classmethod
    def from_call(
        cls, base: Options, given: Mapping[str, Any], *, path: str | None = None
    ) -> ObjectOptions:
        """Return the options *given* to a call, completed by the filesystem's options.

        ``headers`` and ``metadata`` of both are merged by name. Keywords that fsspec passes
        to every filesystem are ignored.

        Raises:
            ConfigurationError: options are invalid; the message lists all problems.
        """
        given = {n: v for n, v in given.items() if n not in _FOREIGN and v is not None}
        if not given:
            return cls(base)
        known = {a.name: a for a in fields(Options) if a.metadata["per_object"]}
        problems = []
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name not in known:
                hint = suggestion(name, [*known, *sorted(_FOREIGN)])
                problems.append(f"unknown option {name!r} for one object{hint}")
                continue
            try:
                values[name] = known[name].metadata["convert"](value)
            except ValueError as error:
                problems.append(f"{name}= must be {error}")
        if problems:
            raise ConfigurationError(problems, path=path)
        for name in ("headers", "metadata"):
            if name in values:
                lower = {n.lower() for n in values[name]}
                inherited = getattr(base, name).items()
                kept = {n: v for n, v in inherited if n.lower() not in lower}
                values[name] = {**kept, **values[name]}
        return cls(evolve(base, **values))

    def target(
        self,
        path: str,
        *,
        guessed: str | None,
        exclusive: bool,
        hidden: bool = False,
    ) -> Target:
        """Return the upload target *path*, with the headers that these options set.

        *guessed* is the Content-Type if the options set none; the signer may drop it.
        None sends no Content-Type. *exclusive* forbids overwriting. *hidden* asks the
        signer to forbid overwriting, unless the option ``overwrite`` is given.
        """
        wanted = guessed, exclusive, hidden
        kind = self._kinds.get(wanted)
        if kind is None:
            kind = self._kinds[wanted] = self._made_kind(path, *wanted)
        return Target(path, kind)

    def _made_kind(
        self, path: str, guessed: str | None, exclusive: bool, hidden: bool
    ) -> TargetKind:
        headers = self._made_headers(path, exclusive=exclusive)
        names = {name.lower() for name in headers}
        optional = {}
        if guessed is not None and "content-type" not in names:
            optional["Content-Type"] = guessed
        if hidden and self.options.overwrite is None and FORBID_OVERWRITE not in names:
            optional[FORBID_OVERWRITE] = "true"
        return TargetKind(headers, optional, self.options.checksum)

    def _made_headers(self, path: str, *, exclusive: bool) -> dict[str, str]:
        options = self.options
        named = {f"x-oss-meta-{n.lower()}": v for n, v in options.metadata.items()}
        named |= {**options.server_side_encryption, **options.callback}
        named |= {
            header: str(value)
            for name, header in _HEADERS.items()
            if (value := getattr(options, name)) is not None
        }
        forced = exclusive or options.overwrite is False
        lock = {FORBID_OVERWRITE: "true"} if forced else {}
        headers = {n: v for n, v in options.headers.items() if n.lower() not in lock}
        lower = {name.lower() for name in headers}
        if problems := [
            f"header {name} is given by headers= and by its own option"
            for name in named
            if name.lower() in lower
        ]:
            raise ConfigurationError(problems, path=path)
        return {**headers, **named, **lock}


class _Picked(dict[Action, tuple[Mapping[str, str], ...]]):
    """For each call, the entries of *headers* that it accepts."""

    def __init__(self, *headers: Mapping[str, str]) -> None:
        super().__init__()
        self._headers = headers

    def __missing__(self, action: Action) -> tuple[Mapping[str, str], ...]:
        picked = (frozen_mapping(action.spec.pick(each)) for each in self._headers)
        self[action] = found = tuple(picked)
        return found


@frozen(eq=False)
class TargetKind:
    """Headers of a target, and properties that follow from them; many targets share a kind.

    Required headers must be signed; optional ones may be dropped by the signer.

    Attributes:
        exclusive: an existing object must not be replaced.
        keeps_hidden: the signer is asked to forbid replacing a hidden object. An object
            is hidden if the token has no permission to check for it.
    """

    headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    optional_headers: Mapping[str, str] = field(factory=dict, converter=frozen_mapping)
    checksum: str = "auto"
    exclusive: bool = field(init=False)
    keeps_hidden: bool = field(init=False)
    content_type: str | None = field(init=False)
    # Action -> the required and the optional headers of this call.
    headers_of: _Picked = field(init=False)

    @exclusive.default
    def _is_exclusive(self) -> bool:
        lower = {n.lower(): v.lower() for n, v in self.headers.items()}
        return lower.get(FORBID_OVERWRITE) == "true"

    @keeps_hidden.default
    def _asks_to_keep_hidden(self) -> bool:
        return FORBID_OVERWRITE in self.optional_headers

    @content_type.default
    def _type(self) -> str | None:
        for headers in (self.headers, self.optional_headers):
            for name, value in headers.items():
                if name.lower() == "content-type":
                    return value
        return None

    @headers_of.default
    def _picked(self) -> _Picked:
        return _Picked(self.headers, self.optional_headers)


_PLAIN = TargetKind()


@frozen(eq=False)
class Target:
    """Object to store, with the headers to send."""

    path: str
    kind: TargetKind = _PLAIN

    @classmethod
    def of(
        cls,
        path: str,
        headers: Mapping[str, str] | None = None,
        optional_headers: Mapping[str, str] | None = None,
    ) -> Target:
        """Return the target *path* with these headers; None means no headers."""
        return cls(path, TargetKind(headers, optional_headers))

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
        """Return the operation *action* on the object, with its headers for that call.

        *headers* are added to the required ones. *optional_headers* replace the
        object's optional headers; None keeps them.
        """
        bucket, _, key = self.path.partition("/")
        required, optional = self.kind.headers_of[action]
        return Operation(
            action=action,
            bucket=bucket,
            key=key,
            headers={**required, **headers} if headers else required,
            optional_headers=optional if optional_headers is None else optional_headers,
            upload_id=upload_id,
            part_number=part_number,
            content_length=content_length,
        )
