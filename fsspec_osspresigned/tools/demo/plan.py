"""Demo plan: object paths, environment variables and files of owner and uploader."""

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
    """Files and sizes (in bytes) of one run of the demo; contains no secret."""

    folder: str  # holds everything of this run
    signer: str  # URL of the service
    large: int
    streamed: int  # the stream, whose length is not announced
    part_size: int

    @property
    def url_file(self) -> Path:
        """Path of the file with a single presigned URL."""
        return Path(self.folder, "table.url")

    @property
    def url_map(self) -> Path:
        """Path of the URL map."""
        return Path(self.folder, "urls.json")

    @property
    def grant(self) -> Path:
        """Path of the grant file for all objects below a prefix."""
        return Path(self.folder, "grant.json")

    @property
    def receipts(self) -> Path:
        """Directory of the receipts of the uploader's processes."""
        return Path(self.folder, "receipts")

    def source(self, path: str) -> Path:
        """Return the local file whose bytes must arrive in the object *path*."""
        return Path(self.folder, "sources", path)

    def dump(self) -> str:
        """Return the plan as text, the command-line argument of the uploader."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> DemoPlan:
        """Return the plan from *text*, the result of :meth:`dump`."""
        return cls(**json.loads(text))
