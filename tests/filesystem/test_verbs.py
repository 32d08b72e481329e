"""Each verb that stores, by each source of signatures."""

from __future__ import annotations

import contextlib
import json

import pytest
from attrs import evolve

from fsspec_osspresigned.errors import NotCoveredError
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.signers.keys import KeySigner
from tests.filesystem.conftest import VERBS, service
from tests.form_signer import grant_of

BUCKET = "examplebucket"
PATH = f"{BUCKET}/in/a"


def urls_of(operations):
    """Return presigned URLs, as a user's function does."""
    wanted = [evolve(operation, optional_headers={}) for operation in operations]
    return [one.url.reveal() for one in KeySigner.from_options().sign(wanted)]


@pytest.fixture(params=["url", "map", "grant", "service", "function", "keys"])
def source(request, oss, owner, environment):
    """The options of one source, which covers *PATH*."""
    with contextlib.ExitStack() as stack:
        yield {
            "url": lambda: {"url": owner.url_file("in/a")},
            "map": lambda: {"url_map": owner.map_file("in/a")},
            "grant": lambda: {"grant": json.dumps(grant_of(oss, BUCKET, "in/"))},
            "service": lambda: stack.enter_context(service("in/")),
            "function": lambda: {"signer": urls_of},
            "keys": lambda: {"signer": "keys"},
        }[request.param]()


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_stores_by_each_source(source, owner, tmp_path, verb):
    """Small and large values are stored, at once and at the end of a transaction.

    After an exception in the transaction, nothing is.
    """
    sizes = {"part_size": "100KiB", "multipart_threshold": "200KiB"}
    fs = OSSPresignedFileSystem(**source, **sizes)
    for data in (b"", b"small", bytes(250 * 1024)):
        VERBS[verb](fs, PATH, data, tmp_path)
        assert owner.stored() == {"in/a": data}
    with fs.transaction:
        VERBS[verb](fs, PATH, b"later", tmp_path)
        assert owner.stored() == {"in/a": data}
    with pytest.raises(RuntimeError), fs.transaction:
        VERBS[verb](fs, PATH, b"never", tmp_path)
        raise RuntimeError
    assert owner.stored() == {"in/a": b"later"}
    assert not owner.oss.uploads(BUCKET)


@pytest.mark.parametrize("source", ["url", "map", "grant", "service"], indirect=True)
@pytest.mark.parametrize("verb", VERBS)
def test_what_a_source_does_not_cover_is_refused(source, owner, tmp_path, verb):
    """Nothing is sent, whichever verb asks."""
    fs = OSSPresignedFileSystem(**source)
    with pytest.raises(NotCoveredError):
        VERBS[verb](fs, f"{BUCKET}/out/a", b"x", tmp_path)
    assert not owner.actions()
