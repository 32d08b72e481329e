"""What the installed wheel must do with its runtime dependencies and nothing else."""

import importlib.util
import subprocess
import sys
from importlib.metadata import distribution, metadata
from pathlib import Path

import fsspec

PACKAGE = "fsspec_osspresigned"


def check(fact: object, what: str) -> None:
    """Stop at the first thing that does not hold."""
    if not fact:
        sys.exit(f"smoke test: not true: {what}")
    print("ok:", what)


spec = importlib.util.find_spec(PACKAGE)
check(spec is not None and "site-packages" in str(spec.origin), "it is the wheel")
files = {str(file) for file in distribution("fsspec-osspresigned").files or ()}
check(f"{PACKAGE}/py.typed" in files, "the wheel is typed")
check(f"{PACKAGE}/owner/service/page/index.html" in files, "the wheel holds the page")
check(any(file.endswith("LICENSE") for file in files), "the wheel holds the licence")
check(not any(file.startswith("tests") for file in files), "the wheel holds no tests")

about = metadata("fsspec-osspresigned")
check(about["License-Expression"] == "MIT", "its metadata names the licence")
check(about["Requires-Python"] == ">=3.11", "and the oldest Python")
check(about["Description-Content-Type"] == "text/markdown", "and shows README.md")
check("Typing :: Typed" in about.get_all("Classifier"), "and says that it is typed")
extras_offered = set(about.get_all("Provides-Extra"))
check(extras_offered == {"cli", "credentials", "demo", "server"}, "and its extras")
own = {file for file in files if not file.startswith(("..", "__pycache__"))}
tops = {file.partition("/")[0] for file in own}
check(
    tops <= {PACKAGE, f"fsspec_osspresigned-{about['Version']}.dist-info"},
    "the wheel installs one package and nothing beside it",
)
changes = Path(__file__).parent.parent / "CHANGELOG.md"
newest = changes.read_text(encoding="utf-8").partition("\n## ")[2].split()[0]
check(newest == about["Version"], "its version heads the changelog")

check("osspresigned" in fsspec.available_protocols(), "fsspec knows the protocol")
check(PACKAGE not in sys.modules, "and has not loaded it for that")
cls = fsspec.get_filesystem_class("osspresigned")
check(cls.__name__ == "OSSPresignedFileSystem", "fsspec loads the class when asked")
extras = {"click", "rich", "starlette", "uvicorn", "pandas"}
check(not extras & set(sys.modules), "which loads no extra")

url = "http://127.0.0.1:1/examplebucket/a?Expires=1&OSSAccessKeyId=k&Signature=c2VjcmV0"
fs = fsspec.filesystem("osspresigned", url=url)
check("c2VjcmV0" not in repr(fs), "a filesystem hides its URL")
try:
    fs.pipe_file("", b"x")
except OSError as error:
    check("c2VjcmV0" not in repr(error), "an expired URL on a dead port is an OSError")
else:
    check(fact=False, what="an expired URL on a dead port is an error")

done = subprocess.run(
    [sys.executable, "-m", PACKAGE, "--help"],
    capture_output=True,
    text=True,
    check=False,
)
check(done.returncode == 2, "the command exits with 2 without its extra")
check(
    "pip install 'fsspec-osspresigned[cli]'" in done.stderr, "and says what to install"
)
check("Traceback" not in done.stderr, "without a traceback")
