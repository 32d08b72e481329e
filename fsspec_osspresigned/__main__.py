"""Entry point of ``python -m fsspec_osspresigned``, which runs ``osspresigned``."""

from __future__ import annotations

import sys

from .tools.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
