"""The package as installed: public names, entry points, and what importing it costs."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import attrs

import fsspec_osspresigned
from fsspec_osspresigned import errors
from fsspec_osspresigned.options import options


def test_every_error_and_warning_is_public():
    """No exception of ours needs to be imported from an inner module."""
    own = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value)
        and issubclass(value, Exception)
        and value.__module__ == errors.__name__
    }
    assert own <= set(fsspec_osspresigned.__all__)


def test_readme_names_options_that_exist():
    """Its table has the usual ones; docs/options.md has all."""
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", readme, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed
    assert listed <= {field.name for field in attrs.fields(options.Options)}


def test_fsspec_finds_the_protocol_without_loading_it():
    """The entry point names the class, and fsspec loads it on first use only."""
    (point,) = entry_points(group="fsspec.specs", name="osspresigned")
    assert point.value == "fsspec_osspresigned.filesystem:OSSPresignedFileSystem"
    code = (
        "import sys, fsspec; fsspec.available_protocols();"
        "print(*(m for m in sys.modules if m.startswith('fsspec_osspresigned')))"
    )
    assert _run(code) == ""


def test_importing_the_package_loads_nothing_else():
    """The public names are lazy."""
    code = (
        "import sys, fsspec_osspresigned;"
        "print(*sorted({'fsspec', 'requests', 'attrs', 'click'} & set(sys.modules)))"
    )
    assert _run(code) == ""


def test_the_command_is_the_same_by_module_and_by_script():
    """The script entry point is what ``python -m`` runs."""
    (point,) = entry_points(group="console_scripts", name="osspresigned")
    assert (
        point.load()
        is importlib.import_module("fsspec_osspresigned.tools.cli.entry").main
    )


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
