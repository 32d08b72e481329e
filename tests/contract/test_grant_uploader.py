"""Tools write by one grant alone: a file, or the address of an application server."""

from __future__ import annotations

import functools
import json

import pytest

from tests.contract import grant_uploader as program
from tests.contract.sample_server import SampleServer, answer_v4
from tests.form_signer import grant_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),  # a cluster's start, on a busy machine
]

BUCKET = "examplebucket"
ROOT = f"{BUCKET}/user-dir"
_SECRET = ("policy", "signature", "Signature", "x-oss-signature", "security_token")


def secrets_of(*grants):
    """Return what is secret in *grants*, by its place."""
    return {
        f"{name} {number}": grant[name]
        for number, grant in enumerate(grants)
        for name in _SECRET
        if grant.get(name)
    }


def test_a_grant_in_a_file(oss, tmp_path):
    """Dask's workers, zarr, pandas, sync and a stream need one file, and show no secret."""
    grant = grant_of(oss, BUCKET, "user-dir/")
    place = tmp_path / "grant.json"
    place.touch(0o600)
    place.write_text(json.dumps(grant))
    seen = program.run(str(place), ROOT, tmp_path)
    program.check(oss, ROOT, tmp_path)
    program.check_hidden(seen, secrets_of(grant["fields"]))


def test_an_application_server(oss, tmp_path):
    """The uploader works with the address of a server like OSS's samples."""
    key = oss.credentials
    token = key.security_token
    host = f"{oss.url}/{BUCKET}"
    signing = functools.partial(
        answer_v4,
        key.access_key_id,
        key.access_key_secret.reveal(),
        None if token is None else token.reveal(),
        host=host,
        directory="user-dir/",
    )
    with SampleServer(signing) as server:
        seen = program.run(server.url, ROOT, tmp_path)
    program.check(oss, ROOT, tmp_path)
    program.check_hidden(seen, secrets_of(*server.said))
    # The client and each of two workers asks once, if it has anything to write.
    assert len(server.said) <= 3
