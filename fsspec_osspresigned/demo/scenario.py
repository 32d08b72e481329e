"""Demo plan: object paths, variables and places that owner and uploader share."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import asdict, frozen

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

URL_VARIABLE = "OSSPRESIGNED_DEMO_URL"
TOKEN_VARIABLE = "OSSPRESIGNED_DEMO_TOKEN"  # noqa: S105 - a variable's name


@frozen
class DemoPlan:
    """Places and sizes, in bytes, of one run, without secrets."""

    folder: str  # holds everything of this run
    signer: str  # URL of the service
    large: int
    streamed: int  # the stream, whose length is not announced
    part_size: int

    @property
    def url_file(self) -> Path:
        """The file with the single signed URL."""
        return Path(self.folder, "table.url")

    @property
    def url_map(self) -> Path:
        """The URL map."""
        return Path(self.folder, "urls.json")

    @property
    def grant(self) -> Path:
        """The grant for all objects below a prefix."""
        return Path(self.folder, "grant.json")

    @property
    def receipts(self) -> Path:
        """Folder of the receipts of the uploader's processes."""
        return Path(self.folder, "receipts")

    def source(self, path: str) -> Path:
        """Return the local file whose bytes must arrive at *path*."""
        return Path(self.folder, "sources", path)

    def dump(self) -> str:
        """Return the plan as an argument for the uploader."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> DemoPlan:
        """Return the plan in the text of :meth:`dump`."""
        return cls(**json.loads(text))
