"""Running the programs of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable


def found(name: str) -> str:
    """Return the path of a program; of one that a package brings, not its launcher."""
    own = os.path.join(sysconfig.get_path("purelib"), name, "bin", name)
    return shutil.which(own) or shutil.which(name) or name


def run(arguments: list[str], environment: dict[str, str]) -> None:
    """Run a program to its end.

    Raises:
        OSError: It failed; the message ends with what it said.
    """
    done = subprocess.run(
        arguments,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OSError(f"{arguments[0]}: {done.returncode}: {done.stderr[-400:]}")


def feed(
    arguments: list[str], environment: dict[str, str], blocks: Iterable[bytes]
) -> None:
    """Run a program that reads the blocks from a pipe.

    Raises:
        OSError: It failed.
    """
    with subprocess.Popen(
        arguments,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        pipe = process.stdin
        if pipe is None:
            raise OSError(f"{arguments[0]}: no pipe")
        for block in blocks:
            left = memoryview(block)
            while left:
                left = left[pipe.write(left) :]
        pipe.close()
    if process.returncode:
        raise OSError(f"{arguments[0]}: {process.returncode}")
