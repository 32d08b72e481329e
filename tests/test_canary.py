"""A run that leaks a secret fails; see ``tests/canary.py``."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.canary import LEAKED

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow

PROLOGUE = """
import itertools, logging, subprocess, sys, threading, time, warnings
import pytest
from fsspec_osspresigned.errors import ConfigurationError
from fsspec_osspresigned.secret import Secret, SecretURL
from fsspec_osspresigned.signing import Credentials, Endpoint, PresignRequest
from fsspec_osspresigned.url_map.parser import parse
from tests.canary import Plugin

TOKEN = "ATokenOf" + "NobodyElse0123"
KEY = Credentials("LTAI5t", "TheKeyOf" + "NobodyElse0123", TOKEN)

COUNT = itertools.count()

def sign(version="v4"):  # no two are the same: only the first place of each is named
    return PresignRequest(
        KEY, Endpoint.parse("oss-cn-hangzhou.aliyuncs.com"), method="PUT",
        bucket="examplebucket", key=f"k{next(COUNT)}", region="cn-hangzhou", version=version,
        now=time.time(), expires_in=60,
    ).url().reveal()
"""

LEAKS = {
    "stdout": ("print(sign())", "captured stdout call"),
    "v1": ("print(sign('v1'))", "captured stdout call"),
    "piece": ("print(sign()[-30:])", "captured stdout call"),
    "token": ("print(KEY.security_token.reveal())", "captured stdout call"),
    "key": ("print(f'<{KEY.access_key_secret.reveal()}>')", "captured stdout call"),
    "stderr": ("print(sign(), file=sys.stderr)", "captured stderr call"),
    "log": ("logging.getLogger('some.where').debug('%s', sign())", "log of some.where"),
    "warned": ("with pytest.warns(UserWarning): warnings.warn(sign())", "warning"),
    "raised": (
        "with pytest.raises(ValueError): raise ValueError(sign())",
        "exception",
    ),
    "note": (
        (
            "with pytest.raises(ValueError):\n"
            "    error = ValueError(); error.add_note(sign()); raise error"
        ),
        "exception",
    ),
    "cause": (
        "with pytest.raises(ValueError): raise ValueError() from OSError(sign())",
        "exception",
    ),
    "group": (
        (
            "with pytest.raises(ExceptionGroup):\n"
            "    raise ExceptionGroup('', [OSError(sign())])"
        ),
        "exception",
    ),
    "variable": (
        "with pytest.raises(ConfigurationError):\n    parse(sign() + '%zz')",
        "variables of parse",
    ),
    "capfd": ("print(sign()); capfd.readouterr()", "captured output"),
    "child": (
        (
            "subprocess.run([sys.executable, '-c', 'import sys; print(sys.argv)', sign()],"
            " capture_output=True)"
        ),
        "output of a child process",
    ),
    "thread": (
        (
            "threading.Thread(target=threading.Event().wait, name=sign(), daemon=True"
            ").start()"
        ),
        "thread names",
    ),
    "file": ("(tmp_path / 'journal').write_text(sign())", "file test_file0/journal"),
}


def child(place: Path, code: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on a file of its own, with the plugin and nothing else of ours."""
    (place / "conftest.py").write_text(
        "from tests.canary import Plugin\n"
        "def pytest_configure(config):\n"
        "    config.pluginmanager.register(Plugin(), 'canary')\n"
    )
    (place / "test_child.py").write_text(PROLOGUE + code)
    command = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", *options]
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *command,
            "-c",
            ROOT / "pyproject.toml",
            f"--basetemp={place / 'base'}",
            "--rootdir",
            place,
            place,
        ],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def test_each_leak_is_found_and_fails_the_run(tmp_path):
    """A leak fails the run although all tests passed, and shows test and channel only."""
    code = "".join(
        f"def test_{name}(tmp_path, capfd):\n{textwrap.indent(line, '    ')}\n"
        for name, (line, _) in LEAKS.items()
    )
    done = child(tmp_path, code)
    assert done.returncode == LEAKED, done.stdout
    assert f"{len(LEAKS)} passed" in done.stdout
    found = set(re.findall(r"^LEAK: (.*)$", done.stdout, re.MULTILINE))
    for name, (_, where) in LEAKS.items():
        kind = "key or token" if name in ("token", "key") else "signature"
        test = "test_file0" if name == "file" else f"test_child.py::test_{name}"
        assert f"{test} | {where} | {kind}" in found
    assert "NobodyElse" not in done.stdout
    assert not re.search(r"[0-9a-f]{40}|ignature=", done.stdout)


FINE = [
    "sign()",
    "(tmp_path / 'urls.json').write_text(sign()); (tmp_path / 'url').write_text(sign())",
    "print(SecretURL(sign()), KEY, Secret('short')); print('short')",
    "print(sign()[:40])",
    "with (tmp_path / 'sparse').open('wb') as file: file.truncate(1 << 40)",
]


def test_a_run_without_a_leak_passes(tmp_path):
    """Secrets in permitted outputs are no leak; the run says how many it searched for."""
    code = "".join(
        f"def test_{n}(tmp_path):\n    {line}\n" for n, line in enumerate(FINE)
    )
    done = child(tmp_path, code)
    assert done.returncode == 0, done.stdout
    assert re.search(r"canary: [0-9]+ signatures and .* MB: 0 leaks", done.stdout)
    assert "LEAK" not in done.stdout
