"""The entry point of ``osspresigned``: works, and explains itself, without extras."""

from __future__ import annotations

import sys
from collections.abc import Sequence

_NEEDED = {"click"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        0 when all went well, 2 when the call was wrong or an extra is missing; the
        others are in ``exit_code`` and in docs/cli.md.
    """
    try:
        from . import app  # noqa: PLC0415 - it needs the extra `cli`
    except KeyboardInterrupt:
        return 130  # ExitCode.INTERRUPTED, which is not there yet
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        print(  # noqa: T201 - without click there is no nicer way
            f"osspresigned needs the package {error.name}: "
            "pip install 'fsspec-osspresigned[cli]'",
            file=sys.stderr,
        )
        return 2
    return app.run(sys.argv[1:] if arguments is None else arguments)
