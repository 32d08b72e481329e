"""``python -m fsspec_osspresigned`` is the command ``osspresigned``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
