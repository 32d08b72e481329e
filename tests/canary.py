"""Every run of the suite is a search for leaks: what is secret, and where it shows up.

Whatever this process makes a ``Secret`` of, every signature that it computes, and every
one that reaches an emulator or a service in it - also from child processes - is looked
for in all that the run has shown or left behind:

* the reports of all tests: captured stdout, stderr and logs at DEBUG, failures;
* each log record, also of loggers that hand nothing up; each warning, also a caught one;
* each exception that a test expects: texts, notes, causes, and the variables of all
  frames of ours;
* what ``capfd`` and its kind were given to read, what child processes and commands
  wrote, the names of threads;
* the files under the base directory of ``tmp_path``, pytest's own output and its JUnit
  file.

A secret may be where somebody has asked for it: ``BY_DESIGN`` lists those places. One
hit anywhere else fails the run; the test and the place are named, the secret is not.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import stat
import subprocess
import sys
import threading
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest

PACKAGE = str(Path(__file__).resolve().parent.parent / "fsspec_osspresigned") + os.sep

# Characters, and different ones: simpler secrets of tests are not looked for.
_BLOCK = 12
_LETTERS = 6
_run = re.compile(r"[A-Za-z0-9+/=_.~%-]{12,}")
_in_url = re.compile(r"(?i)(?:signature|security-token|sig)=([^&#]+)")
_user = re.compile(r"//[^/@]*:([^/@]+)@")
_is_signature = re.compile(r"[0-9a-f]{64}|[A-Za-z0-9+/]{27}=").fullmatch
_CHUNK = 1 << 20
_SEARCHED_WHOLE = 32 << 20  # bytes of a file, at most
_LARGE = 1 << 16

# A status of its own: tests that fail may be tried once more, a leak may not.
LEAKED = 16

# Files that are secrets themselves: URL maps, one URL, the token of a signer.
BY_DESIGN_FILES = (
    "urls",
    "urls.*",
    "url",
    "u",
    "*.url",
    "map",
    "map.json",
    "grant",
    "grant.json",
    "*.grant.json",
    "token",
    "osspresigned-token",
)

# Test, place, and why a secret may be there; the first two as regular expressions.
BY_DESIGN = (
    # What owners ask for: commands and examples that sign, and print what they signed.
    (
        r"(owner/test_sign|cli/test_grant)\.py",
        "captured output",
        "sign --print gives the URL, a pipe the map or the grant",
    ),
    (
        r"test_examples(_docs)?\.py",
        "captured output|output of a child process",
        "examples print what they sign",
    ),
    (r"test_entry_made_in_a_browser", r"file .*/browser\.mjs", "its STS key"),
    (r"test_", r"file .*/node/page\.mjs", "the page of a user, with the user's token"),
    (r"test_commands_print_what_the_p", r"file .*\.json", "maps that owners make"),
    (r"test_directory_uploads_where_p", r"file .*\.json", "likewise"),
    (r"test_examples_of_the_help_work", r"file .*\.json", "likewise"),
    (r"test_reading_where_everything_", r"file .*\.json", "likewise"),
    (r"test_expiry_half_way_is_signed", "file .*/source", "the test's list of URLs"),
    # Others than us.
    (
        r"tests/emulator/",
        r"log of urllib3\..*",
        "a plain client that the tests sign for",
    ),
    (r"tests/emulator/test_server\.py", "exception", "the same client's error"),
    (r"test_a_signed_url_does_what_it_is_for", r"log of urllib3\..*", "likewise"),
    (r"cli/test_explain\.py", r"log of urllib3\..*", "likewise"),
    (r"_sdks\.py|_signatures\.py", r"log of oss2.*", "an SDK tells its own secrets"),
    (
        r"test_search_finds_a_revealed_u",
        "log of careless|file .*",
        "a leak made on purpose",
    ),
    # The caller's own argument, which its own frames hold as well.
    (
        r"test_url_map_hostile\.py",
        "variables of (parse|load|load_file|_load_url)",
        "a map as a text, or at a URL",
    ),
    (
        r"tests/(.*/)?(url_map/test_parser|test_map_verbs)\.py",
        "variables of parse",
        "likewise",
    ),
)


class Canary:
    """What is secret, where what was seen; both only grow."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.characters = 0
        self.test = "(outside of tests)"
        self._known: set[str] = set()
        self._blocks: set[str] = set()  # pieces of signatures
        self._whole: dict[str, set[str]] = {}  # by their beginning
        self._seen: dict[str, tuple[str, str]] = {}
        self._ignored: set[str] = set()

    # -- what is secret ------------------------------------------------------------------

    def secret(self, text: object, *, is_url: bool = False) -> None:
        """Remember a key, a token, or what is secret in a URL."""
        if not isinstance(text, str):
            return
        if not is_url:
            self._remember(text)
            return
        for found in (*_in_url.findall(text), *_user.findall(text)):
            self._remember(unquote(found))

    def _remember(self, text: str) -> None:
        if text in self._known:
            return
        self._known.add(text)
        if len(text) < _BLOCK or len(set(text)) < _LETTERS:
            self.counts["too simple"] += 1
            return
        kind = "signatures" if _is_signature(text) else "keys and tokens"
        self.counts[kind] += 1
        for form in {text, quote(text, safe="")}:
            if kind == "signatures":  # a piece of one is a leak, too
                last = len(form) - _BLOCK + 1
                pieces = (form[n : n + _BLOCK] for n in range(0, last, _BLOCK))
                # A piece of one letter is in every second text.
                self._blocks.update(p for p in pieces if len(set(p)) >= _LETTERS)
            else:
                self._whole.setdefault(form[:_BLOCK], set()).add(form)

    # -- what is seen --------------------------------------------------------------------

    def see(self, text: object, channel: str, test: str = "") -> None:
        """Keep every piece of *text* that could be a secret, with the place of it."""
        if isinstance(text, bytes):
            text = text.decode("latin-1")
        elif not isinstance(text, str):
            return
        self.characters += len(text)
        seen, place = self._seen, (test or self.test, channel)
        if _is_by_design(*place):
            return
        for run in _run.findall(text):
            if run not in seen:
                seen[run] = place

    def ignore(self, text: str) -> None:
        """Do not report texts that occur in *text*."""
        self._ignored.update(_run.findall(text))

    def see_error(self, error: BaseException | None) -> None:
        """Search the texts of an exception, and the variables of our frames."""
        done: set[int] = set()
        waiting = [error]
        while waiting:
            one = waiting.pop()
            if one is None or id(one) in done:
                continue
            done.add(id(one))
            waiting += [one.__cause__, one.__context__]
            if isinstance(one, BaseExceptionGroup):
                waiting += one.exceptions
            self.see(_shown(one), "exception")
            self.see(_shown(getattr(one, "__dict__", "")), "exception")
            for frame, _ in traceback.walk_tb(one.__traceback__):
                if frame.f_code.co_filename.startswith(PACKAGE):
                    where = f"variables of {frame.f_code.co_qualname}"
                    for value in frame.f_locals.values():
                        self.see(_shown(value), where)

    def see_files(self, root: Path) -> None:
        """See all files below *root*, but those that are secrets themselves."""
        for place, _, names in os.walk(root):
            for name in names:
                path = Path(place, name)
                if any(path.match(pattern) for pattern in BY_DESIGN_FILES):
                    continue
                with contextlib.suppress(OSError):
                    if stat.S_ISREG(path.lstat().st_mode):
                        where = path.relative_to(root)
                        for chunk in _chunks(path):
                            self.see(chunk, f"file {where}", where.parts[0])

    def leaks(self) -> Iterator[tuple[str, str, str]]:
        """Yield test, channel and kind of each place where a secret was seen."""
        for run, (test, channel) in list(self._seen.copy().items()):
            kind = self._kind_in(run)
            if kind and run not in self._ignored:
                yield test, channel, kind

    def _kind_in(self, run: str) -> str:
        pieces = {run[n : n + _BLOCK] for n in range(len(run) - _BLOCK + 1)}
        if self._blocks.isdisjoint(pieces) and self._whole.keys().isdisjoint(pieces):
            return ""  # as nearly always, so in few steps of the interpreter
        for n in range(len(run) - _BLOCK + 1):
            piece = run[n : n + _BLOCK]
            if piece in self._blocks:
                return "signature"
            if any(run.startswith(one, n) for one in self._whole.get(piece, ())):
                return "key or token"
        return ""


@functools.lru_cache(maxsize=1024)
def _is_by_design(test: str, channel: str) -> bool:
    return any(
        re.search(name, test) and re.fullmatch(place, channel)
        for name, place, _ in BY_DESIGN
    )


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview | str):
        value = value[:_LARGE]
    try:
        return f"{value!r} {value}" if isinstance(value, BaseException) else repr(value)
    except Exception:  # noqa: BLE001 - of half-made objects; tracebacks show none either
        return ""


def _chunks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file, without its holes.

    Of a large file, only the start and the end are read, because large files are bodies
    of uploads.
    """
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            if _CHUNK <= at < size - _CHUNK and size > _SEARCHED_WHOLE:
                at = size - _CHUNK
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            file.seek(at)
            yield file.read(_CHUNK)
            at += _CHUNK - 256  # what lies across two chunks is in the second


# -- where it is hooked in -----------------------------------------------------------------


def _after(
    owner: Any, name: str, then: Callable[..., None], undo: list[Callable[[], None]]
) -> None:
    """Call ``then(result, *args)`` after each call of ``owner.name``."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        then(result, *args)
        return result

    setattr(owner, name, wrapper)
    undo.append(lambda: setattr(owner, name, real))


class _Tee:
    """Pytest's own output, on its way to where it goes."""

    def __init__(self, file: Any, see: Callable[[str], None]) -> None:
        self._file = file
        self._see = see

    def write(self, text: str) -> int:
        self._see(text)
        return self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Plugin:
    """Feeds a canary from one pytest run, and fails the run."""

    def __init__(self) -> None:
        self.canary = Canary()
        self._undo: list[Callable[[], None]] = []
        self._found: list[str] = []

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Hook into all that makes secrets or shows anything."""
        from click.testing import CliRunner  # noqa: PLC0415 - the package comes later

        from fsspec_osspresigned import secret  # noqa: PLC0415
        from fsspec_osspresigned.emulator import verifying  # noqa: PLC0415
        from fsspec_osspresigned.signing import post_policy, presigning  # noqa: PLC0415

        canary, undo = self.canary, self._undo
        see = canary.see
        _after(
            secret.Secret,
            "__init__",
            lambda _, made, text: (
                isinstance(made, secret.FormValue)
                or canary.secret(text, is_url=isinstance(made, secret.SecretURL))
            ),
            undo,
        )
        _after(presigning, "sign_v1", lambda made, *_: canary.secret(made), undo)
        for module in (post_policy, verifying):
            for name in ("sign_v1", "sign_v4"):
                _after(module, name, lambda made, *_: canary.secret(made), undo)
        _after(
            pytest.ExceptionInfo,
            "fill_unfilled",
            lambda _, __, found: canary.see_error(found[1]),
            undo,
        )
        _after(
            warnings.WarningMessage,
            "__init__",
            # pytest-xdist makes one by keywords, of what a worker has seen.
            lambda _, __, message="", *rest: see(str(message), "warning"),
            undo,
        )
        _after(logging, "_logRecordFactory", lambda made, *_: self._log(made), undo)
        _after(
            pytest.CaptureFixture,
            "readouterr",
            lambda read, *_: [see(text, "captured output") for text in read],
            undo,
        )
        _after(
            subprocess.Popen,
            "communicate",
            lambda read, *_: [see(text, "output of a child process") for text in read],
            undo,
        )
        _after(
            CliRunner,
            "invoke",
            lambda made, *_: see(made.output, "output of a command"),
            undo,
        )
        writer = session.config.get_terminal_writer()
        real = writer._file
        writer._file = _Tee(real, lambda text: see(text, "pytest's output"))
        undo.append(lambda: setattr(writer, "_file", real))

    def _log(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # a record that does not fit its arguments
            text = f"{record.msg!r} {record.args!r}"
        self.canary.see(text, f"log of {record.name}")
        if record.exc_info:
            self.canary.see_error(record.exc_info[1])

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Do not look at the names of tests: they are written in their sources."""
        self.canary.ignore(item.nodeid)
        self.canary.ignore(item.name)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember whose output it is from now on."""
        self.canary.test = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See what a phase of a test has captured, and its failure."""
        for channel, text in (*report.sections, ("failure", report.longreprtext)):
            if "log" not in channel:  # each record was seen when it was made
                self.canary.see(text, channel.lower(), report.nodeid)
        if report.when == "teardown":
            names = " ".join(thread.name for thread in threading.enumerate())
            self.canary.see(names, "thread names", report.nodeid)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        """Search what the run left behind, after all other plugins; then set the exit status.

        A worker of pytest-xdist reports its leaks to the main process.
        """
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            self._judge(session.config)
            output["canary"] = (dict(self.canary.counts), self._found)
        try:
            return (yield)
        finally:
            if output is None:
                self._judge(session.config)
                if self._found:
                    session.exitstatus = LEAKED
            while self._undo:
                self._undo.pop()()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has found."""
        counts, found = getattr(node, "workeroutput", {}).get("canary", ({}, ()))
        self.canary.counts.update(counts)
        self._found += found

    def _judge(self, config: pytest.Config) -> None:
        self.canary.test = "(outside of tests)"
        self._look_behind(config)
        own = {" | ".join(leak) for leak in self.canary.leaks()}
        self._found = sorted({*self._found, *own})

    def _look_behind(self, config: pytest.Config) -> None:
        self.canary.see(" ".join(sys.argv), "process title")
        if junit := config.getoption("xmlpath", None):
            with contextlib.suppress(OSError):
                self.canary.see(Path(junit).read_bytes(), "JUnit file")
        base = getattr(getattr(config, "_tmp_path_factory", None), "_basetemp", None)
        if base is not None:
            self.canary.see_files(base)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say what was looked for, where, and each place of a leak."""
        counts = self.canary.counts
        terminalreporter.write_line(
            f"canary: {counts['signatures']} signatures and "
            f"{counts['keys and tokens']} keys and tokens looked for in "
            f"{self.canary.characters / 1e6:.1f} MB: {len(self._found)} leaks"
        )
        for line in self._found:
            terminalreporter.write_line(f"LEAK: {line}", red=True)
