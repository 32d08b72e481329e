"""Which local file ``osspresigned put`` sends where, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Sequence

from attrs import define, field

from .errors import ConfigurationError
from .failure import Failure
from .local_tree import Kind, LocalTree


@define
class PutPlan:
    """What is sent.

    Attributes:
        files: ``bucket/key`` -> local file.
        size: bytes of all of them, as they are now.
        failures: what cannot be read, so that it is not even tried.
        left_out: what is neither a file nor a directory, or a link to one.
    """

    files: dict[str, str] = field(factory=dict)
    size: int = 0
    failures: list[Failure] = field(factory=list)
    left_out: list[str] = field(factory=list)

    @classmethod
    def of(cls, sources: Sequence[str], target: str) -> PutPlan:
        """Place *sources* as ``fs.put`` places each of them; slashes alone decide.

        Args:
            sources: files, directories with all below them, and patterns.
            target: ``bucket/key`` for one file; ``bucket/prefix/`` for anything.

        Raises:
            ConfigurationError: *target* names no bucket, or two files would become one
                object; nothing was sent.
        """
        if not target.partition("/")[0]:
            raise ConfigurationError(
                f"{target!r} names no bucket: the last argument is where to, "
                "BUCKET/KEY or BUCKET/PREFIX/"
            )
        plan = cls()
        problems = []
        for source in sources:
            problems += plan.add(source, target if "/" in target else f"{target}/")
        if problems:
            raise ConfigurationError(problems)
        return plan

    @classmethod
    def one(cls, source: str, path: str) -> PutPlan:
        """Place one file at *path*, as it is.

        Raises:
            ConfigurationError: it is a directory.
        """
        if os.path.isdir(source):
            raise ConfigurationError(
                f"{source} is a directory, the URL is for one file"
            )
        return cls(files={path: source}, size=_size_of(source))

    def add(self, source: str, target: str) -> list[str]:
        """Place one source and return what is wrong with that."""
        problems = []
        try:
            tree = LocalTree(
                source, target, recursive=True, maxdepth=None, is_directory=_is_never
            )
        except FileNotFoundError as error:
            self.failures.append(Failure(source, source, error))
            return []
        for found in tree:
            if found.problem is not None:
                self.failures.append(Failure(found.path, found.local, found.problem))
            elif found.kind is Kind.FILE:
                if found.path in self.files:
                    other = self.files[found.path]
                    problems.append(
                        f"{found.local} and {other} would both become {found.path}"
                    )
                self.files[found.path] = found.local
                self.size += _size_of(found.local)
            elif found.kind is not Kind.DIRECTORY:
                self.left_out.append(f"{found.local} ({found.kind.value})")
        return problems


def _is_never(_: str) -> bool:
    return False


def _size_of(local: str) -> int:
    """Return its bytes; 0 if it cannot be looked at, which sending it will say."""
    try:
        return os.path.getsize(local)
    except OSError:
        return 0
