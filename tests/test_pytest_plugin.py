"""The pytest plugin."""

from __future__ import annotations

import subprocess
import sys

import pytest
import requests

BUCKET = "examplebucket"


def test_the_fixture_of_the_plugin(oss_emulator):
    """The plugin's fixture gives a running emulator."""
    assert requests.get(oss_emulator.url, timeout=5).status_code == 403
    assert oss_emulator.objects(BUCKET) == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "shown"),
    [
        ("uvicorn", "oss_emulator needs the package uvicorn: pip install 'fsspec-oss"),
        ("httptools", "ModuleNotFoundError: import of httptools halted"),
    ],
)
def test_a_missing_package_fails_only_the_tests_that_need_it(tmp_path, missing, shown):
    """Pytest starts without the extra, and loads nothing heavy of the package."""
    (tmp_path / "test_it.py").write_text(f"""
import sys

def test_first():
    ours = {{name for name in sys.modules if name.startswith("fsspec_osspresigned")}}
    few = {{"", ".compat", ".pytest_plugin"}}
    assert ours == {{"fsspec_osspresigned" + name for name in few}}
    sys.modules["{missing}"] = None

def test_second(oss_emulator):
    pass
""")
    # Without the plugins of others, which take long to start.
    plugins = "--disable-plugin-autoload -p fsspec_osspresigned.pytest_plugin"
    command = f"-m pytest -W error {plugins} -p no:cacheprovider test_it.py"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed, 1 error" in done.stdout
    assert shown in done.stdout
