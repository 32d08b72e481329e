"""The command line ``osspresigned``.

Begin with ``app``, which holds the group of commands. ``entry`` is the entry point of the
program. Without the extra ``cli``, it says what to install.
"""

from .entry import main

__all__ = ["main"]
