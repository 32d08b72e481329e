"""Sources of URL maps and grants: a file, an environment variable, or a URL."""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import unquote, urlsplit

from ..engine.warn import warn_user
from ..errors import ConfigurationError, SecretFileReadableWarning, UnreadableMapWarning
from ..files import FileStamp
from ..secret import Secret, SecretURL
from ..units import MIB
from ..url_checks import has_signature, http_problem, is_web
from .parser import parse
from .url_map import MapEntry, URLMap, dump

T = TypeVar("T")
Opener = Callable[[str], bytes]
Reference = Secret | str | os.PathLike[str] | Mapping[str, Any] | Sequence[Any]

# Keys that only grants have, and keys of URL maps.
_POLICY = re.compile(rb'(?i)"(encoded[-_]?)?policy"\s*:')
_ENTRY = re.compile(rb'(?i)"(objects|[^"/]+/[^"]*)"\s*:')
_ONE_URL = "presigned URL"
_OPTIONS = {
    "URL map": "url_map=",
    "grant": "grant=",
    _ONE_URL: "presigned_url= (file:PATH)",
}
_OTHERS = 0o077
_ABSENT = FileStamp()


class FileSource(Generic[T]):
    """Content of a URL map or grant file, read again when the file changes."""

    def __init__(
        self,
        read: Callable[[], T],
        *,
        path: Path | None,
        local: bool,
        kind: str = "URL map",
    ) -> None:
        self.path = path  # None if the source is no local file
        # True if the file is on this machine; then its URLs may lead to this machine
        self.local = local
        self.kind = kind  # kind of the file, for messages
        self._lock = threading.Lock()
        self._read = read
        self._stamp = self._read_stamp()
        self._held = read()
        if path is not None:
            warn_if_exposed(path, kind)

    @property
    def has_changed(self) -> bool:
        return self._read_stamp() not in (self._stamp, _ABSENT)

    def current(self) -> T:
        """Return the current content of the file.

        If the file is missing or unreadable, for example while a job rewrites it, the
        old content stays in use. An unreadable file causes a warning.
        """
        # This check needs no lock, so workers do not wait for each other.
        if not self.has_changed:
            return self._held
        with self._lock:
            stamp = self._read_stamp()
            if stamp in (_ABSENT, self._stamp):
                return self._held
            try:
                self._held = self._read()
            except ConfigurationError as error:
                message = f"the old {self.kind} stays in use: {error.message}"
                warn_user(message, UnreadableMapWarning)
            self._stamp = stamp
            return self._held

    def _read_stamp(self) -> FileStamp:
        return _ABSENT if self.path is None else FileStamp.read(self.path)


MapSource = FileSource[URLMap]


def load(
    reference: Reference, opener: Opener | None = None, *, allow_http: bool = False
) -> MapSource:
    """Return a source of the URL map at *reference*.

    *reference* is a mapping, a list, or a reference for ``load_file``.
    """
    if not isinstance(reference, Secret | str | os.PathLike):
        url_map = reference if isinstance(reference, URLMap) else parse(reference)
        return FileSource(lambda: url_map, path=None, local=True)
    return load_file(reference, parse, opener, allow_http=allow_http)


def load_file(
    reference: Secret | str | os.PathLike[str],
    parse: Callable[[BinaryIO], T],
    opener: Opener | None = None,
    *,
    allow_http: bool = False,
    kind: str = "URL map",
    option: str = "url_map",
) -> FileSource[T]:
    """Read the text at *reference*, and return a source of the result of *parse*.

    *reference* is JSON text, a path, ``file:PATH``, ``env:NAME``, ``-`` for standard input,
    or any URL that *opener* can read. The text is a secret, so plain http is permitted
    only on this machine, unless *allow_http*. Messages name *kind* and *option*. Raises
    ConfigurationError if the text cannot be read, or *parse* refuses it.
    """
    if isinstance(reference, Secret):
        reference = reference.reveal()
    if isinstance(reference, str):
        name, read = _text_at(reference, option)
        if read is None and "://" in reference and not reference.startswith("file:"):
            name = _checked(reference, kind, allow_http=allow_http)
            if opener is None:
                msg = f"a {kind} at {name} cannot be opened here: give a local file"
                raise ConfigurationError(msg)
            read = functools.partial(opener, reference)
        if read is not None:
            text = read
            parsed = functools.partial(
                _parse_at, name, lambda: BytesIO(text()), parse, kind
            )
            return FileSource(parsed, path=None, local="://" not in name, kind=kind)
        if reference.startswith("file://"):
            reference = unquote(urlsplit(reference).path)
        reference = reference.removeprefix("file:")
    path = Path(reference).expanduser().absolute()
    parsed = functools.partial(
        _parse_at, str(path), lambda: path.open("rb"), parse, kind
    )
    return FileSource(parsed, path=path, local=True, kind=kind)


def _text_at(reference: str, option: str) -> tuple[str, Callable[[], bytes] | None]:
    """Return name and reader of *reference*; None for a file or URL."""
    if reference.lstrip()[:1] in ("{", "["):
        return option, lambda: reference.encode("utf-8", "replace")
    if reference == "-":
        return "standard input", sys.stdin.buffer.read
    if reference.startswith("env:"):
        return reference, lambda: _variable(reference.removeprefix("env:"))
    return "", None


def _checked(reference: str, kind: str, *, allow_http: bool) -> str:
    shown = SecretURL(reference).shown()
    is_http = reference.lower().startswith("http:")
    problem = is_http and http_problem(reference, allow_http=allow_http, local=True)
    if problem:
        raise ConfigurationError(f"the {kind} at {shown} {problem}")
    if has_signature(reference):
        msg = f"{shown} is a presigned URL, not a {kind}: give it as presigned_url="
        raise ConfigurationError(msg)
    return shown


def write(url_map: Mapping[str, MapEntry], path: str | os.PathLike[str]) -> None:
    """Write *url_map* as text to *path*; see :func:`write_text`."""
    write_text(dump(url_map), path)


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write *text*, a secret, to *path* atomically, readable only by its owner."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp gave the file mode 0600, and replacing keeps that mode.
        os.replace(name, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(target)) from None
        raise


def _parse_at(
    name: str, open_: Callable[[], BinaryIO], parse: Callable[[BinaryIO], T], kind: str
) -> T:
    """Return the parsed content of the reference *name*.

    Raises ConfigurationError, whose problems begin with *name*.
    """
    try:
        with open_() as file:
            try:
                return parse(file)
            except ConfigurationError as error:
                problems = [*error.problems]
                if file.seekable() and (problem := _mistaken_for(kind, file)):
                    problems = [problem]
        problems = [f"{name}: {problem}" for problem in problems]
    except Exception as error:  # noqa: BLE001 - an opener can raise anything
        # The message may contain the URL, so only the class of the error is shown.
        why = getattr(error, "strerror", None) or type(error).__name__
        if isinstance(error, ImportError):
            why = f"a package is missing: {error}"
        is_missing = isinstance(error, FileNotFoundError)
        if kind == "grant" and is_missing and not Path(name).parent.exists():
            why += "; the address of a server begins with https://"
        problems = [f"cannot read the {kind} {name}: {why}"]
    # The error is raised outside of the handler, so it does not refer to the other
    # library's exception.
    raise ConfigurationError(problems)


def kind_of(data: bytes) -> str:
    """Return the kind of secret in a file that begins with *data*; empty if unknown."""
    if _POLICY.search(data):
        return "grant"
    text = data.removeprefix(codecs.BOM_UTF8).lstrip()
    if is_web(text[:8].decode("latin-1")):
        return _ONE_URL
    return "URL map" if text[:1] in (b"{", b"[") and _ENTRY.search(data) else ""


def _mistaken_for(kind: str, file: BinaryIO) -> str:
    """Return advice if the content of *file* is not of *kind*, else an empty text."""
    file.seek(0)
    data = file.read(MIB)
    seen = kind_of(data)
    # A single URL is accepted as a URL map, too.
    right = {"URL map": ("URL map", _ONE_URL), "grant": ("grant",)}
    if kind in right and seen not in ("", *right[kind]):
        return mistaken(seen)
    text = data.removeprefix(codecs.BOM_UTF8).lstrip()
    is_neither = not seen and text and text[:1] not in (b"{", b"[")
    return "this is neither a URL map nor a grant" if is_neither else ""


def mistaken(kind: str) -> str:
    """Return advice for a file of *kind* that was passed as another kind."""
    return f"this is a {kind}: give it as {_OPTIONS[kind]}"


def _variable(name: str) -> bytes:
    text = os.environ.get(name)
    if text is None:
        raise FileNotFoundError(2, "the environment variable is not set")
    return os.fsencode(text)


def warn_if_exposed(path: Path, kind: str) -> None:
    """Warn if other users can read *path*, a file with a secret."""
    if os.name == "posix" and path.stat().st_mode & _OTHERS:
        holds = "presigned URLs" if kind == "URL map" else f"a {kind}"
        message = f"{path} holds {holds} and can be read by others: chmod 600 it"
        warn_user(message, SecretFileReadableWarning)
