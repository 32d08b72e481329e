"""What the figures were taken on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("fsspec-osspresigned", "fsspec", "requests", "urllib3", "attrs", "fastcrc"),
    *("dask", "distributed", "boto3", "s3fs", "obstore", "oss2", "alibabacloud-oss-v2"),
    *("ossfs", "aiohttp", "httpx", "pycurl", "uvicorn", "starlette", "httptools"),
)
_PROGRAMS = {
    "curl": ("--version",),
    "rclone": ("--version",),
    "s5cmd": ("version",),
    "gcc": ("--version",),
    "openssl": ("version",),
}


def machine() -> dict[str, Any]:
    """Return processor, system, and versions of all that takes part."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "packages": {
            name: version for name in _PACKAGES if (version := _version(name))
        },
        "programs": {name: told for name in _PROGRAMS if (told := _told(name))},
        "limits": f"open files {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}",
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _told(name: str) -> str | None:
    program = shutil.which(name)
    if program is None:
        return None
    command = [program, *_PROGRAMS[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return next(iter(done.stdout.splitlines()), "").strip() or None
