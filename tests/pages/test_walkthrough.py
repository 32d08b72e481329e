"""The walk-through of docs/quickstart.md is what happens if you follow it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BASH = shutil.which("bash")
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
VARYING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"(\d+ h )?\d+ (min|s)( \d+ s)? left", "LEFT"),
    (r"in \d+\.\d s", "TOOK"),
    (r'"pid": \d+', "PID"),
    (r" +", " "),
]


def steps() -> list[tuple[str, str]]:
    """Return every command of the page, and what it prints."""
    found = []
    for block in re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            end = step.index("\nEND\n") + 5 if "<<END" in step else step.index("\n") + 1
            found.append((step[:end].rstrip("\n"), step[end:]))
    return found


def steady(text: str) -> str:
    """Return *text* without what differs from one run to the next."""
    for pattern, instead in VARYING:
        text = re.sub(pattern, instead, text)
    return text.strip()


def free_port() -> str:
    """Return an unused port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


@contextlib.contextmanager
def server(command: str, lines: int, environment: dict[str, str]) -> Iterator[str]:
    """Start what the page starts in the background; give its first lines."""
    with subprocess.Popen(
        [BASH, "-c", command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    ) as process:
        try:
            yield "".join(process.stdout.readline() for _ in range(lines))
        finally:
            os.killpg(process.pid, 15)
            process.stdout.read()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.skipif(
    not (BASH and shutil.which("openssl")),
    reason="the commands are those of a shell, with openssl",
)
def test_commands_print_what_the_page_shows(tmp_path, monkeypatch):
    """They are run one after the other by a shell, in an empty directory."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, more in (("python", ""), ("osspresigned", "-m fsspec_osspresigned")):
        script = f'#!/bin/sh\nexec "{sys.executable}" {more} "$@"\n'
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    environment = {**os.environ, "COLUMNS": "200", "HOME": os.fspath(tmp_path)}
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    ports = {"9000": free_port(), "8080": free_port()}
    exported = "umask 077"

    def here(text: str) -> str:
        for usual, used in ports.items():
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{used}")
        return text

    with contextlib.ExitStack() as servers:
        for command, printed in steps():
            if command.startswith("export "):
                exported += f"; {here(command)}"
                continue
            if command == "kill $!":  # each line has a shell of its own here
                continue
            line = f"{exported}; {here(command)}"
            if command == "osspresigned emulator" or command.endswith("&"):
                usual = "9000" if "emulator" in command else "8080"
                line = f"{line.removesuffix('&')} --port {ports[usual]}"
                lines = printed.count("\n")
                said = servers.enter_context(server(line, lines, environment))
            else:
                done = subprocess.run(
                    [BASH, "-c", line],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                said = done.stdout + done.stderr
                failed = "not uploaded" in printed
                assert done.returncode == (3 if failed else 0), (command, said)
            assert steady(said) == steady(here(printed)), command
    for secret in ("report.url", "urls.json", "grant.json", "osspresigned-token"):
        assert (work / secret).stat().st_mode & 0o777 == 0o600
