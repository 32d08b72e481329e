"""The scripts of the page, as far as they need no browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from fsspec_osspresigned.http.checksums import crc64

ROOT = Path(__file__).parents[3]
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="there is no node here")
def test_scripts_of_the_page_do_what_their_own_tests_say(tmp_path):
    """The parts without a page and a network hold under ``node --test``."""
    shutil.copytree(
        ROOT / "fsspec_osspresigned" / "owner" / "service" / "page", tmp_path / "page"
    )
    (tmp_path / "package.json").write_text('{"type": "module"}')
    tests = sorted(
        (ROOT / "tests" / "contract" / "browser" / "node").glob("*.test.mjs")
    )
    for test in tests:
        shutil.copy(test, tmp_path)
    assert tests
    values = [
        (length, str(crc64(bytes((n * n + 3 * n) & 255 for n in range(length)))))
        for length in (1, 8, 63, 64, 4097)
    ]
    done = subprocess.run(
        [str(NODE), "--test", "--test-reporter=tap", *(test.name for test in tests)],
        cwd=tmp_path,
        env={
            "CRC_VALUES": json.dumps(values),
            "GRANT_CASES": str(ROOT / "tests" / "signers" / "grant_cases.json"),
            "PATH": str(Path(str(NODE)).parent),
        },
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "# fail 0" in done.stdout
