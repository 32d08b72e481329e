"""Entry point of ``osspresigned``; names the extra to install if it is missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit code; docs/cli.md lists the codes.

    Args:
        arguments: arguments without the program's name; None uses ``sys.argv``.
    """
    try:
        from . import app  # noqa: PLC0415 - it needs the extra `cli`
    except KeyboardInterrupt:
        return 130  # ExitCode.INTERRUPTED, which is not there yet
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        remedy = "pip install 'fsspec-osspresigned[cli]'"
        said = f"osspresigned needs the package {error.name}: {remedy}"
        print(said, file=sys.stderr)  # noqa: T201 - without click
        return 2
    return app.run(sys.argv[1:] if arguments is None else arguments)
