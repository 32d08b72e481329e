"""What can be said about objects: by the store where that is signed, else from memory.

A write-only signer leaves nobody to ask. Then what this process wrote or made answers,
and everything else counts as missing, with one warning a bucket, or is an error
(``unknown="error"``): never "not there" about what was written here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NoReturn

from attrs import frozen

from . import objects
from .client import Client
from .errors import BlindAnswerWarning, NotSignedError
from .model import Action, Operation, Reply, split_path
from .publish import Target

Info = dict[str, Any]


@frozen
class View:
    """Looks through one client; paths are ``bucket/key`` without a trailing slash."""

    client: Client

    def sees(self, action: Action, path: str) -> bool:
        """Return whether *action* on *path* is signed; asks the signer only."""
        bucket, key = split_path(path)
        operation = Operation(action=action, bucket=bucket, key=key)
        return bool(key) and self.client.can_sign(operation)

    def info(self, path: str) -> Info:
        """Return name, size, type and what else is known of an object or directory.

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        bucket, key = split_path(path)
        if not key and not self._is_own(path):
            return _directory(path)
        try:
            return objects.head(self.client, path)
        except NotSignedError:
            return self._remembered(path)
        except FileNotFoundError:
            try:
                found = objects.listing(self.client, bucket, f"{key}/")
                if next(found, None) is None:
                    raise
            except PermissionError:
                if not self.client.known.is_directory(path):
                    raise FileNotFoundError(2, "not there", path) from None
            return _directory(path)

    def ls(self, path: str) -> list[Info]:
        """Return what lies directly in a directory, sorted by name.

        Raises:
            FileNotFoundError: nothing is there, or it cannot be seen.
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        bucket, key = split_path(path)
        try:
            prefix = f"{key}/" if key else ""
            found = {
                item["name"]: item
                for item in objects.listing(self.client, bucket, prefix)
                if item["name"] not in (path, f"{path}/")
            }
            if not found and key:
                found = {path: objects.head(self.client, path)}
        except NotSignedError:
            known = self.client.known
            found = {item["name"]: item for item in known.below(path)}
            if not found and not known.is_directory(path):
                found = {path: self._remembered(path)}
        return [found[name] for name in sorted(found)]

    def find(
        self, path: str, *, maxdepth: int | None, withdirs: bool
    ) -> dict[str, Info]:
        """Return everything under *path*, or *path* itself if it is an object.

        Where listing is signed it costs a request per 1,000 objects, whatever the
        number of directories. Nothing found is an empty answer.

        Raises:
            PermissionError: it cannot be seen, with ``unknown="error"``.
        """
        bucket, key = split_path(path)
        prefix = f"{path}/" if path else ""
        known = self.client.known
        try:
            listed = list(
                objects.listing(
                    self.client, bucket, f"{key}/" if key else "", delimiter=""
                )
            )
        except NotSignedError:
            listed = list(known.beneath(path))
            if not listed and not known.is_directory(path):
                return self._alone(path)
        found: dict[str, Info] = {}
        for item in listed:
            name = item["name"]
            parts = name.removeprefix(prefix).split("/")
            if withdirs:
                for end in range(1, len(parts)):
                    above = prefix + "/".join(parts[:end])
                    if not above.endswith("/") and _within(end, maxdepth):
                        found.setdefault(above, _directory(above))
            is_file = item["type"] == "file" and not name.endswith("/")
            if (is_file or (withdirs and parts[-1])) and _within(len(parts), maxdepth):
                found[name] = item
        if withdirs and path and (listed or known.is_directory(path)):
            found[path] = _directory(path)
        if not listed and path not in found:
            return self._alone(path)
        return {name: found[name] for name in sorted(found)}

    def read(
        self, path: str, start: int | None = None, end: int | None = None
    ) -> bytes:
        """Return an object, or its bytes *start* to *end* (exclusive).

        Raises:
            FileNotFoundError: it is not there, or cannot be seen.
            PermissionError: this process wrote it, but nobody signs GET and its body
                was not kept.
        """
        try:
            return objects.read(self.client, path, start, end)
        except NotSignedError:
            body = self.client.known.body(path)
            if body is not None:
                return body[start:end]
            if self._is_own(path):
                msg = (
                    "this process wrote it, but reading it back is not signed, and "
                    "only small bodies that were in memory are kept"
                )
                raise NotSignedError(msg, path=path, action=Action.GetObject) from None
        return self.blind(path)

    def fetch(self, path: str, handle: Any) -> None:
        """Write a whole object into the file *handle*; raises as :meth:`read`."""
        try:
            objects.download(self.client, path, handle)
        except NotSignedError:
            handle.write(self.read(path))

    def remove(self, path: str) -> None:
        """Delete one object, and forget it; a bucket stays.

        Raises:
            PermissionError: nobody signs that, and it was written or made here.
            FileNotFoundError: nobody signs that, and it cannot be seen.
        """
        if split_path(path)[1]:
            self._change(path, lambda: objects.delete(self.client, path))
        self.client.known.forget(path)

    def copy(self, path: str, target: Target) -> None:
        """Copy one object inside the store; raises as :meth:`remove` about *path*."""
        self._change(path, lambda: objects.copy(self.client, path, target))
        self.client.known.forget(target.path)

    def shows_directory(self, path: str) -> bool:
        """Return whether *path* is a bucket, or the store lists something in it."""
        bucket, key = split_path(path)
        if not key:
            return bool(bucket)
        try:
            found = objects.listing(self.client, bucket, f"{key}/")
            return next(found, None) is not None
        except PermissionError:
            return False

    def blind(self, path: str) -> NoReturn:
        """Answer about what nobody can see.

        Raises:
            FileNotFoundError: always, after one warning per bucket; or
            PermissionError: with ``unknown="error"``.
        """
        self._warn(path)
        raise FileNotFoundError(2, "not there, or not to be seen", path)

    def _warn(self, path: str) -> None:
        if self.client.options.unknown == "error":
            msg = "nobody signs looking at objects, so whether it is there is unknown"
            raise NotSignedError(msg, path=path, action=Action.HeadObject)
        root = split_path(path)[0]
        if self.client.known.warn_once(root):
            text = (
                f"what is in {root!r} cannot be seen with what is signed; objects that "
                "this process did not write count as missing (unknown='error' refuses)"
            )
            warnings.warn(text, BlindAnswerWarning, stacklevel=5)

    def _is_own(self, path: str) -> bool:
        return self.client.known.object(path) is not None

    def _remembered(self, path: str) -> Info:
        if own := self.client.known.object(path):
            return own.info()
        if self.client.known.is_directory(path):
            return _directory(path)
        return self.blind(path)

    def _alone(self, path: str) -> dict[str, Info]:
        """Return what ``find`` answers about a path with nothing under it."""
        try:
            found = self.info(path)
        except FileNotFoundError:
            return {}
        return {path: found} if found["type"] == "file" else {}

    def _change(self, path: str, act: Callable[[], Reply]) -> None:
        try:
            act()
        except NotSignedError:
            if self._is_own(path) or self.client.known.is_directory(path):
                raise
            self.blind(path)


def _directory(path: str) -> Info:
    return {"name": path, "size": 0, "type": "directory"}


def _within(depth: int, maxdepth: int | None) -> bool:
    return maxdepth is None or depth <= maxdepth
