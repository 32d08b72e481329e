"""The command line explains itself, with extras and without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fsspec_osspresigned.tools import cli
from fsspec_osspresigned.tools.cli import app as commands


def _fail(error):
    def function(*args, **kwargs):
        raise error

    return function


@pytest.fixture
def failing(monkeypatch):
    """Return a function that lets the command ``demo`` raise what it is given."""

    def install(error):
        monkeypatch.setattr(commands.demo, "callback", _fail(error))

    return install


@pytest.mark.parametrize("package", ["click", "rich"])
def test_without_the_extra_one_line_says_what_to_install(package):
    """A missing extra is exit 2 and one line that names it."""
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {package!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from fsspec_osspresigned.tools import cli\n"
        "sys.exit(cli.main(['--help']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'fsspec-osspresigned[cli]'" in done.stderr


def test_python_m_returns_the_exit_code():
    """``python -m`` exits with what ``main`` returned."""
    command = [sys.executable, "-m", "fsspec_osspresigned", "nonsense"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2


def test_foreign_failure_is_named_and_cleaned(failing, capsys):
    """Another exception shows its type, and no signature that its text holds."""
    failing(RuntimeError("https://h/k?Signature=c2VjcmV0"))
    assert cli.main(["demo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: RuntimeError: ")
    assert "c2VjcmV0" not in said


def test_failure_of_a_file_names_it(failing, capsys):
    """An error of the system shows its file and reason, escaped for the terminal."""
    failing(PermissionError(13, "Permission denied", "a\x1bb"))
    assert cli.main(["demo"]) == 1
    assert capsys.readouterr().err == "error: a\\x1bb: Permission denied\n"


def test_debug_lets_the_traceback_through(failing):
    """``--debug`` raises."""
    failing(RuntimeError("boom"))
    with pytest.raises(RuntimeError, match="boom"):
        cli.main(["--debug", "demo"])


def test_interrupt_is_exit_130(failing, capsys):
    """Ctrl-C ends without a traceback."""
    failing(KeyboardInterrupt())
    assert cli.main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_missing_server_extra_is_exit_2(monkeypatch, capsys):
    """A command that needs another extra names that one."""
    for name in list(sys.modules):
        if name.startswith("fsspec_osspresigned.emulator"):
            monkeypatch.delitem(sys.modules, name)
    error = ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
    monkeypatch.setattr("builtins.__import__", _refusing("uvicorn", error))
    assert cli.main(["emulator"]) == 2
    assert "fsspec-osspresigned[server]" in capsys.readouterr().err


def _refusing(name, error):
    real = __import__

    def refuse(wanted, *args, **kwargs):
        if wanted.split(".")[0] == name:
            raise error
        return real(wanted, *args, **kwargs)

    return refuse
