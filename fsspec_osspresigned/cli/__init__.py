"""The command line ``osspresigned``.

``entry`` is the entry point and works without extras; ``app`` holds the group of
commands. Begin with ``app``.
"""

from .entry import main

__all__ = ["main"]
