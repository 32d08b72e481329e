"""Demo plan: object paths, environment variables and files that both sides use."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import asdict, frozen

from ...units import MIB

BUCKET = "examplebucket"
ONE_FILE = f"{BUCKET}/one-url/notes.txt"
ONE_CSV = f"{BUCKET}/one-url/table.csv"
PARQUET = f"{BUCKET}/map/table.parquet"
CSV_GZ = f"{BUCKET}/map/table.csv.gz"
DASK = f"{BUCKET}/map/dask"
DASK_PARTS = tuple(f"{DASK}/part.{number}.parquet" for number in range(2))
LARGE = f"{BUCKET}/map/large.bin"
DAYS = f"{BUCKET}/grant"
PARTITIONS = tuple(f"{DAYS}/day={day}/0.parquet" for day in ("mon", "tue"))
SIGNED = tuple(f"{BUCKET}/signer/{name}.txt" for name in "abc")
STREAM = f"{BUCKET}/signer/stream.bin"

ONE_URL = (ONE_FILE, ONE_CSV)
SINGLE_IN_MAP = (PARQUET, CSV_GZ, *DASK_PARTS)
EVERYTHING = (*ONE_URL, *SINGLE_IN_MAP, LARGE, *PARTITIONS, *SIGNED, STREAM)

PART = 8 * MIB  # bytes of a part
STREAMED = 20 * MIB  # bytes of the stream, whose length is unknown to the uploader

URL_FILE, URL_MAP, GRANT = "table.url", "urls.json", "grant.json"
RECEIPTS = "receipts"  # name of the directory with receipts

URL_VARIABLE = "OSSPRESIGNED_DEMO_URL"
TOKEN_VARIABLE = "OSSPRESIGNED_DEMO_TOKEN"  # noqa: S105 - a variable's name


@frozen
class DemoPlan:
    """Directories and addresses of one run of the demo; contains no secret."""

    folder: str  # directory that contains all files of this run
    signer: str  # URL of the signer service
    large: int  # bytes of the large file

    def file(self, name: str) -> Path:
        return Path(self.folder, name)

    def source(self, path: str) -> Path:
        """Return the source file of the object *path*."""
        return Path(self.folder, "sources", path)

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> DemoPlan:
        return cls(**json.loads(text))
