"""Another process of a world: a second copy of the package, with separate memory.

Both processes share one clock, disk, network and order of turns. Only threads of a
process use its package, so they share nothing but files and the store.
"""

from __future__ import annotations

import logging
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import fsspec_osspresigned
from fsspec_osspresigned import errors

from . import loop as loops


def prepare(package: str) -> None:
    """Adapt a package to a world, after its modules were imported."""
    # Lower limits let the objects of a world be large enough for copies in parts.
    copies = sys.modules[f"{package}.objects.copy"]
    copies.MAX_SINGLE_COPY, copies.COPY_PART = 300_000, 102_400  # type: ignore[attr-defined]
    # A lower limit lets a transaction have files both in memory and on the disk.
    copies = sys.modules[f"{package}.upload.transaction"].HeldCopies
    copies.__init__.__defaults__ = (2000,)
    engine = sys.modules[f"{package}.engine.engine"]
    engine.EngineLoop = type("Loop", (loops.SimulatedLoop,), {"engine": None})  # type: ignore[attr-defined]
    logging.getLogger(package).setLevel(logging.DEBUG)


def begin(number: int) -> ModuleType:
    """Return the package of the new process *number*."""
    assert fsspec_osspresigned.__file__ is not None
    name, place = f"process_{number}", Path(fsspec_osspresigned.__file__)
    sys.modules[f"{name}.errors"] = errors  # ``causes`` compares with these classes
    folders = [str(place.parent)]
    spec = spec_from_file_location(name, place, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    package = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(package)
    __import__(f"{name}.filesystem.filesystem")
    prepare(name)
    return package
