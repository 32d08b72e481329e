"""What a process loads until its first small object is stored, and what it does not.

Each case is a new interpreter that prints ``sys.modules``: nothing here takes the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from fsspec_osspresigned.emulator import Emulator

OURS = "fsspec_osspresigned"
# Modules of extras, of XML documents, and of proxies.
FOREIGN = {
    *("alibabacloud_credentials", "click", "dask", "pandas", "pyarrow", "rich"),
    *("starlette", "uvicorn", "pytest"),
    *("requests", "urllib3"),  # which speak to proxies
    *("difflib", "html", "pyexpat", "xml.etree", "xml.parsers", "xml.sax"),
}
# Folders that only other verbs, commands and servers need.
LATER = {"emulator", "owner", "tools"}
# Modules for many files, parts and failures.
MANY = {
    *("client.error_codes", "signers.batching"),
    *("upload.journal", "upload.resume", "upload.writer"),
}
# Modules of one source of signatures, which the others do not load.
WAYS_OF_MAPS = {"signers.presigned_urls", "url_map.url_map", "url_map.source"}
WAYS = {
    *WAYS_OF_MAPS,
    *("signing.endpoint", "signing.presigning", "signers.keys"),
    *("signers.function", "signers.http"),
}
FSSPEC = """
import sys
before = set(sys.modules)  # what measures coverage has modules of its own
import fsspec
print(*set(sys.modules) - before)
"""
FIRST = """
import sys
before = set(sys.modules)
import json
import fsspec
receipt = fsspec.filesystem("osspresigned", **json.loads(sys.argv[1])).pipe_file(
    sys.argv[2], b"1"
)
assert receipt.size == 1
print(*set(sys.modules) - before)
"""


def loaded(code: str, *arguments: str, **environment: str) -> set[str]:
    """Return the modules that a new interpreter has after *code* has printed them."""
    without_proxies = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**without_proxies, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    assert not done.stderr
    return set(done.stdout.split())


def first_put(oss: Emulator, options: dict[str, str], **environment: str) -> set[str]:
    """Store one byte in a new interpreter; return which modules of ours it has.

    Fails if it has any that this does not need.
    """
    found = loaded(FIRST, json.dumps(options), "examplebucket/x", **environment)
    stored = oss.get("examplebucket", "x")
    assert stored is not None
    assert stored.data() == b"1"
    assert found & FOREIGN == set()
    assert {name.partition(".")[0] for name in ours(found)} & LATER == set()
    assert ours(found) & MANY == set()
    return ours(found)


def ours(modules: set[str]) -> set[str]:
    """Return the names inside our package of those of *modules* that are in it."""
    return {name.partition(".")[2] for name in modules if name.startswith(f"{OURS}.")}


def test_importing_fsspec_imports_nothing_of_ours():
    """Importing fsspec alone loads nothing of this package."""
    found = loaded(FSSPEC)
    assert {name for name in found if name.partition(".")[0] == OURS} == set()


def test_first_small_put_with_keys_imports_only_what_it_needs(oss: Emulator):
    """The key signer loads no extra, no map and nothing that only later calls need."""
    options = {"signer": "keys", "endpoint": oss.url, "region": oss.region}
    found = first_put(
        oss,
        options,
        OSS_ACCESS_KEY_ID=oss.credentials.access_key_id,
        OSS_ACCESS_KEY_SECRET=oss.credentials.access_key_secret.reveal(),
    )
    assert WAYS & found == {
        "signing.endpoint",
        "signing.presigning",
        "signers.keys",
    }
