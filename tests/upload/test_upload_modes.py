"""One PutObject, a spooled one, or parts: chosen by grant and bodies, and only once."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.client.client import Client
from fsspec_osspresigned.engine.engine import CarriedError
from fsspec_osspresigned.errors import UploadDiscardedError
from fsspec_osspresigned.http.body import MemoryBody
from fsspec_osspresigned.http.transport import Transport
from fsspec_osspresigned.model import MIN_PART
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.options.target import Target
from fsspec_osspresigned.signers.base import Grant
from fsspec_osspresigned.upload.modes import (
    Multipart,
    SinglePut,
    SpooledPut,
    as_failure,
)
from tests.uploading import OwnerSigner, PlainUpload

BOTH, PUT, PARTS = Grant(), Grant(multipart=None), Grant(single=False)


@pytest.mark.parametrize(
    ("grant", "refuses", "modes"),
    [
        (BOTH, False, [SinglePut, Multipart, Multipart]),
        (BOTH, True, [SinglePut, SpooledPut, SpooledPut]),
        (PUT, False, [SinglePut, SpooledPut, SpooledPut]),
        (PARTS, False, [Multipart, Multipart, Multipart]),
    ],
)
def test_mode_after_each_body(oss, grant, refuses, modes):
    """The mode changes once at most, and the object has all bytes in any of them."""
    options = {"signer": "keys", "part_size": MIN_PART}
    refused = ["InitiateMultipartUpload"] if refuses else []
    signer = OwnerSigner(oss, grant, refused)
    client = Client(Options.from_storage_options(options), signer, Transport())
    one = PlainUpload(client, Target(path="examplebucket/k"))
    for number, mode in enumerate(modes):
        one.add(MemoryBody.of(bytes([number]) * MIN_PART))
        assert type(one.mode) is mode
    assert one.finish().size == 3 * MIN_PART
    data = b"".join(bytes([n]) * MIN_PART for n in range(3))
    assert oss.objects("examplebucket")["k"] == data


def test_what_is_kept_of_a_failure():
    """An interrupt is no error of the upload, so what is kept names it."""
    first = ValueError("first")
    assert as_failure(first, "b/k") is first
    for error in (KeyboardInterrupt(), CarriedError(KeyboardInterrupt())):
        kept = as_failure(error, "b/k")
        assert isinstance(kept, UploadDiscardedError)
        assert "(KeyboardInterrupt)" in str(kept)
