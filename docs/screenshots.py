"""Draw the terminals of the documentation: real commands against the real emulator.

    python docs/screenshots.py              draws all of docs/screens/*.svg again
    python docs/screenshots.py sync doctor  only these

What differs from one run to the next (ports, times, rates, checksums) is replaced by
what the pages show, so a file changes only when the output of a command does.
"""

# ruff: noqa: INP001, S603, T201 - a script that runs its own commands, and prints

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.units import KIB, short_bytes

SCREENS = Path(__file__).parent / "screens"
_BASH = "/bin/bash"
_ROWS = 40
_PATIENCE = 120.0  # seconds for one screen
_TRIES = 5


_TOKEN = "a-made-up-token-for-screens"  # noqa: S105 - of a signer that ends with us
_CHANGED = 1_790_000_000  # when the files were, seconds since the epoch

# Secrets that no page may show: parameters, signatures of V4 and of V1.
SECRET = re.compile(
    r"(?i)(?:signature|security-token)=|\b[0-9a-f]{64}\b"
    r"|(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{27}="
)
# Texts that differ from run to run, and their replacements.
_STEADY = (
    (r"(signer service at http://127\.0\.0\.1):\d+", r"\1:8080"),
    (r"127\.0\.0\.1:(?!8080\b)\d+", "127.0.0.1:9000"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-11-25T16:44:29Z"),
    (r"\d+ min( \d+ s)? left", "59 min 59 s left"),
    # Parts of the line that changes.
    (r"\d\d:\d\d( *\x1b\[0m) [\d.]+ [KM]iB/s", r"00:01\1 2.1 MiB/s"),
    # The demo: times, and the CRC-64 of the two random objects.
    (r"(one (?:PUT|form) .*) \d+\.\d\d │", r"\1 0.05 │"),
    (r"(large\.bin .*) \d+\.\d\d │ [0-9a-f]{16} │", r"\1 1.20 │ 9f3c6d41b7a208e5 │"),
    (r"(stream\.bin .*) \d+\.\d\d │ [0-9a-f]{16} │", r"\1 0.15 │ 4be07d12c83f9a56 │"),
    (r"verified, +\d+ s", "verified, 6 s"),
)
# Escape sequences of a bar of rich: cursor and colours.
_MOVES = re.compile(r"(\n|\r|\x1b\[1A|\x1b\[2K|\x1b\[\?25[hl])")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SCALE = 0.65  # of rich's letters, which are 20 pixels high
_SECONDS = 0.5  # that every transfer is said to have taken
_UNITS = {"B": 1, "KiB": KIB, "MiB": KIB**2}
_THEME = TerminalTheme(
    (30, 34, 42),
    (214, 219, 227),
    [
        (60, 66, 78),
        (240, 113, 120),
        (152, 195, 121),
        (229, 192, 123),
        (97, 175, 239),
        (198, 120, 221),
        (86, 182, 194),
        (214, 219, 227),
    ],
)
# rich's own format asks a server for its font, and says who made it in a comment.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" \
xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font: bold 18px "DejaVu Sans", Helvetica, Arial, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" \
clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""


@dataclass(frozen=True)
class Screen:
    """One terminal.

    Attributes:
        title: what stands above it.
        commands: typed one after the other into one shell.
        columns: of the terminal.
        before: commands that are run and not shown.
        until: what is on the screen when the picture is taken; None is the end.
        keys: the owner's keys are in the environment.
    """

    title: str
    commands: tuple[str, ...]
    columns: int = 80
    before: tuple[str, ...] = ()
    until: str | None = None
    keys: bool = True


# Each file is moved by one block, and drawn: so the middle looks the same every time.
_SLOWLY = "\\\n    --max-concurrency 1 --bwlimit 2MiB"
ALL = {
    "help": Screen("osspresigned", ("osspresigned --help",)),
    "demo": Screen(
        "An owner with keys, an uploader without",
        ("osspresigned demo",),
        columns=108,
        keys=False,
    ),
    "sign": Screen(
        "The owner signs, and inspects what was signed",
        (
            "osspresigned sign exports/ --to examplebucket/in/",
            "osspresigned doctor urls.json",
        ),
    ),
    "put": Screen(
        "One directory is uploaded, one is under way",
        (
            "export S=$SIGNER T=file:osspresigned-token",
            "osspresigned put exports examplebucket/in/ --signer $S --token $T",
            "osspresigned put photos examplebucket/in/ --signer $S --token $T "
            + _SLOWLY,
        ),
        until=r"62% +2\.0/3\.1 MiB .* 4/8 files",
        keys=False,
    ),
    "failed": Screen(
        "One of two files is not in the map",
        (
            "osspresigned put exports/a.csv other.csv examplebucket/in/ --map urls.json",
            "echo $?",
            "osspresigned put other.csv examplebucket/in/ --map urls.json",
            "echo $?",
        ),
        before=("osspresigned sign exports/a.csv --to examplebucket/in/",),
        keys=False,
    ),
    "sync": Screen(
        "Only what is new or changed",
        (
            "osspresigned sync exports examplebucket/backup --signer keys --dry-run",
            "osspresigned sync exports examplebucket/backup --signer keys",
            "echo 2026-11-25,7 >> exports/a.csv",
            "osspresigned sync exports examplebucket/backup --signer keys --dry-run",
            "osspresigned sync exports examplebucket/backup --signer keys",
        ),
    ),
    "doctor": Screen(
        "What may be wrong, before anything is sent",
        ("osspresigned doctor examplebucket/in/a.csv --map urls.json",),
        before=("osspresigned sign exports/a.csv --to examplebucket/in/",),
        columns=104,
        keys=False,
    ),
}


class MissedError(RuntimeError):
    """The command ended before a picture of its progress could be taken."""


def script(screen: Screen, signer: str) -> str:
    """Return what the shell runs: each command is shown as if it had been typed."""
    lines = ["code=0"]
    for command in screen.commands:
        lines += [
            f"printf '%s\\n' {shlex.quote(_typed(command.replace('$SIGNER', signer)))}",
            f"(exit $code); {command}",
            "code=$?",
        ]
    return "\n".join(lines)


def _typed(command: str) -> str:
    return f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m"


def run(
    screen: Screen, folder: Path, environment: Mapping[str, str], signer: str
) -> str:
    """Run the commands on a terminal; return all that they wrote, escapes included."""
    if screen.before:
        subprocess.run(
            [_BASH, "-euc", "\n".join(screen.before)],
            cwd=folder,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    hidden = set() if screen.keys else {"OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"}
    master, slave = pty.openpty()
    fcntl.ioctl(
        slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, screen.columns, 0, 0)
    )
    with subprocess.Popen(
        [_BASH, "-c", script(screen, signer)],
        cwd=folder,
        env={k: v for k, v in environment.items() if k not in hidden},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    ) as process:
        os.close(slave)
        try:
            return _read(master, screen)
        finally:
            os.close(master)
            if screen.until is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def _read(master: int, screen: Screen) -> str:
    output = ""
    decoder = codecs.getincrementaldecoder("utf-8")()
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            block = os.read(master, 65536)
        except OSError:  # the other side is closed
            break
        if not block:
            break
        output += decoder.decode(block)
        if screen.until is not None and re.search(
            screen.until, _COLOURS.sub("", visible(output))
        ):
            return output
    if screen.until is not None:
        raise MissedError(f"{screen.title}: {screen.until} was not to be seen")
    return output


def visible(output: str) -> str:
    """Return *output* as the screen shows it, without text that was overwritten."""
    lines = [""]
    for piece in _MOVES.split(output.replace("\r\n", "\n")):
        if piece == "\n":
            lines.append("")
        elif piece == "\x1b[1A":  # up, to a line that is erased next
            lines.pop()
        elif piece == "\x1b[2K":
            lines[-1] = ""
        elif not _MOVES.fullmatch(piece):
            lines[-1] += piece
    return "\n".join(lines).rstrip("\n")


def steady(text: str, folder: str, signer: str) -> str:
    """Return *text* without what differs from one run, or machine, to the next."""
    text = text.replace(folder, "/home/you").replace(signer, "http://127.0.0.1:8080")
    for pattern, instead in _STEADY:
        text = re.sub(pattern, instead, text)
    moved = r"(([1-9]\S*) (B|KiB|MiB)(?: sent)?) in [\d.]+ s( \([^)]+/s\))?"
    return re.sub(moved, _speed, text)


def _speed(found: re.Match[str]) -> str:
    rate = short_bytes(float(found[2]) * _UNITS[found[3]] / _SECONDS)
    shown = f" ({rate}/s)" if found[4] else ""
    return f"{found[1]} in {_SECONDS} s{shown}"


def drawn(name: str, text: str) -> str:
    """Return the SVG of a screen; lines break where the terminal breaks them.

    Raises:
        ValueError: *text* holds what looks like a secret, or a place of this machine.
    """
    if found := SECRET.search(text):
        raise ValueError(f"{name}: {len(found[0])} characters look like a secret")
    if sys.prefix in text:
        raise ValueError(f"{name}: shows where Python is on this machine")
    screen = ALL[name]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(
            record=True,
            width=screen.columns,
            file=nowhere,
            force_terminal=True,
            color_system="truecolor",
            legacy_windows=False,
        )
        for line in Text.from_ansi(text).split("\n"):
            cuts = range(screen.columns, len(line), screen.columns)
            for piece in line.divide(cuts):
                console.print(piece, highlight=False, no_wrap=True, soft_wrap=True)
        console.print()  # what hangs below the last line is seen, too
        svg = console.export_svg(
            title=screen.title, theme=_THEME, code_format=_FORMAT, unique_id=name
        )
    # As large as the letters of a page, unless the page has no room for that.
    svg = re.sub(
        r'viewBox="0 0 (\S+) (\S+)"',
        lambda found: (
            f'{found[0]} width="{float(found[1]) * _SCALE:.0f}" '
            f'height="{float(found[2]) * _SCALE:.0f}"'
        ),
        svg,
        count=1,
    )
    svg = re.sub(r"<text [^>]*>\n</text>", "", svg)  # the ends of lines, drawn
    return re.sub(r"\s*\n", "\n", svg)


def _table(rows: int) -> bytes:
    return b"day,n\n" + b"".join(b"2026-11-24,%d\n" % row for row in range(rows))


def files(folder: Path) -> None:
    """Make what is uploaded; the same in every run."""
    contents = {
        "exports/a.csv": _table(600),
        "exports/2026/b.csv": _table(48_000),
        "exports/2026/c.csv": _table(31_000),
        "other.csv": _table(10),
        **{f"photos/{n}.jpg": bytes([n]) * 400 * KIB for n in range(8)},
    }
    for name, content in contents.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        os.utime(place, (_CHANGED, _CHANGED))
    (folder / "osspresigned-token").touch(0o600)
    (folder / "osspresigned-token").write_text(_TOKEN, encoding="utf-8")


@contextlib.contextmanager
def world() -> Iterator[tuple[Path, dict[str, str], str]]:
    """Start a store and a signer; give the directory, the environment, the signer."""
    with tempfile.TemporaryDirectory() as place, Emulator() as oss:
        folder = Path(place, "work")
        files(folder)
        program = Path(place, "bin", "osspresigned")
        program.parent.mkdir()
        python = shlex.quote(sys.executable)
        program.write_text(
            f'#!/bin/sh\nexec {python} -m fsspec_osspresigned "$@"\n', encoding="utf-8"
        )
        program.chmod(0o755)
        policy = Policy(
            name="you", prefixes=("examplebucket/in/",), actions=frozenset(Action)
        )
        signer = KeySigner(
            credentials=lambda: oss.credentials,
            endpoint=oss.endpoint,
            region=oss.region,
        )
        app = create_app(signer, tokens={hash_token(_TOKEN): policy})
        with LoopbackServer(app) as service:
            yield (
                folder,
                {
                    "PATH": f"{program.parent}:{os.defpath}",
                    "HOME": os.fspath(folder),
                    "LANG": "C.UTF-8",
                    "TERM": "xterm-256color",
                    "SIGNER": service.url,
                    "OSS_ENDPOINT": oss.url,
                    "OSS_REGION": oss.region,
                    "OSS_ACCESS_KEY_ID": oss.credentials.access_key_id,
                    "OSS_ACCESS_KEY_SECRET": (
                        oss.credentials.access_key_secret.reveal()
                    ),
                },
                service.url,
            )


def _taken(name: str, tries: int) -> str:
    """Return what is to be seen; a busy machine may miss the moment, so look again."""
    try:
        with world() as (folder, environment, signer):
            output = run(ALL[name], folder, environment, signer)
            return steady(visible(output), os.fspath(folder), signer)
    except MissedError:
        if tries == 1:
            raise
    return _taken(name, tries - 1)


def main(names: list[str]) -> int:
    """Draw the screens *names*, or all of them."""
    if unknown := set(names) - set(ALL):
        print(f"no such screen: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    if not os.path.exists(_BASH):
        print(f"{_BASH} types the commands, and is not here", file=sys.stderr)
        return 1
    for name in names or ALL:
        text = _taken(name, _TRIES)
        place = SCREENS / f"{name}.svg"
        place.write_text(drawn(name, text), encoding="utf-8")
        print(place.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
