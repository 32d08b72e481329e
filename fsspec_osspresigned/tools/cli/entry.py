"""Entry point of ``osspresigned``; names the extra to install if it is missing."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code; docs/cli.md lists the codes.

    *arguments* None uses ``sys.argv``.
    """
    _open_closed_streams()
    # Characters that the terminal's encoding lacks are shown as escapes, like on
    # standard error.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        from . import app  # noqa: PLC0415 - it needs the extra `cli`
    except KeyboardInterrupt:
        return 130  # ExitCode.INTERRUPTED; its module is not imported yet
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        remedy = "pip install 'fsspec-osspresigned[cli]'"
        text = f"osspresigned needs the package {error.name}: {remedy}"
        print(text, file=sys.stderr)  # noqa: T201 - click is not installed
        return 2
    return app.run(sys.argv[1:] if arguments is None else arguments)


def _open_closed_streams() -> None:
    """Open the null device for each closed standard stream; cron may close some.

    Otherwise, the next file or connection would get the descriptor of that stream.
    Messages are lost, but reading from standard input and writing to standard output
    still fail.
    """
    streams = (
        ("stdin", "rb", os.O_WRONLY),
        ("stdout", "wb", os.O_RDONLY),
        ("stderr", "wb", os.O_WRONLY),
    )
    for name, mode, access in streams:
        if getattr(sys, name) is None:
            file: Any = open(os.open(os.devnull, access), mode, buffering=0)  # noqa: SIM115 - the file stays open until the process ends
            # Without a buffer, a failed write does not fail a second time at exit.
            text = io.TextIOWrapper(file, encoding="utf-8", write_through=True)
            setattr(sys, name, text)
