"""Tools write by one grant alone; the address of a server is tried in ``interop``."""

from __future__ import annotations

import json

import pytest

from tests.contract import grant_uploader as program
from tests.form_signer import grant_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),  # a cluster's start, on a busy machine
]

BUCKET = "examplebucket"
ROOT = f"{BUCKET}/user-dir"
_SECRET = ("policy", "signature", "Signature", "x-oss-signature", "security_token")


def test_a_grant_in_a_file(oss, tmp_path):
    """Dask's workers, zarr, pandas, sync and a stream need one file, and show no secret."""
    grant = grant_of(oss, BUCKET, "user-dir/")
    place = tmp_path / "grant.json"
    place.touch(0o600)
    place.write_text(json.dumps(grant))
    seen = program.run(str(place), ROOT, tmp_path)
    program.check(oss, ROOT, tmp_path)
    fields = grant["fields"]
    program.check_hidden(seen, {n: fields[n] for n in _SECRET if fields.get(n)})
