"""The command line ``osspresigned``.

Begin with ``app``, which holds the group of commands. ``entry`` is the entry point of
the program; it works without the extra ``cli``.
"""

from .entry import main

__all__ = ["main"]
