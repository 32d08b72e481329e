"""Small data that every writer can write, and checks of what came back."""

from __future__ import annotations

from typing import Any

ROWS = 4_000  # more than one part in most formats
NAMES = ("amber", "beryl", "coral")


def frame(rows: int = ROWS) -> Any:
    """Return a table of pandas: numbers that do not compress, text, groups."""
    import numpy as np
    import pandas as pd

    noise = np.random.default_rng(7).random(rows)
    group = [NAMES[n % 3] for n in range(rows)]
    return pd.DataFrame({"n": range(rows), "noise": noise, "group": group})


def table(rows: int = ROWS) -> Any:
    """Return the same as a table of pyarrow."""
    import pyarrow as pa

    return pa.Table.from_pandas(frame(rows), preserve_index=False)


def same(found: Any, rows: int = ROWS) -> None:
    """Check a table of pandas that was read back, whatever the order of its rows."""
    import pandas as pd

    found = found.sort_values("n", ignore_index=True)[["n", "noise", "group"]]
    found["group"] = found["group"].astype(str)
    found["n"] = found["n"].astype("int64")
    wanted = frame(rows)
    wanted["group"] = wanted["group"].astype(str)
    pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


def same_numbers(found: Any) -> None:
    """Check the array that :func:`numbers` made."""
    import numpy as np

    np.testing.assert_array_equal(np.asarray(found), numbers())


def numbers() -> Any:
    """Return an array of two dimensions."""
    import numpy as np

    return np.random.default_rng(3).random((120, 110))
