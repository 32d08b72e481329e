"""Third-party packages that only some commands need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def needs(name: str) -> Iterator[None]:
    """Turn a missing third-party package into one line that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith(__package__):
            raise
        raise click.UsageError(
            f"this needs the package {error.name}: "
            f"pip install 'fsspec-osspresigned[{name}]'"
        ) from error
