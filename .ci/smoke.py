"""Check the installed wheel, with one extra or none: python smoke.py [EXTRA]."""

import importlib.util
import re
import subprocess
import sys
from importlib.metadata import distribution, metadata
from pathlib import Path

import fsspec

PACKAGE = "fsspec_osspresigned"
extra = "".join(sys.argv[1:])


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
shown = re.sub(r"^```.*?^```$", "", about.get_payload(), flags=re.DOTALL | re.MULTILINE)
links = re.findall(r"\]\(([^)]*)\)|<(?:a|img) [^>]*(?:href|src)=\"([^\"]*)", shown)
relative = [a + b for a, b in links if not (a + b).startswith(("https://", "#"))]
check(
    len(links) > 30 and not relative, f"whose links all lead to the web{relative or ''}"
)
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


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", PACKAGE, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


done = command("--help")
check("Traceback" not in done.stderr, "the command does not end with a traceback")
has_rich = importlib.util.find_spec("rich") is not None
check(has_rich == (extra in ("cli", "demo")), "extras bring rich, or do not")
if has_rich:
    check(done.returncode == 0 and "sync" in done.stdout, "the command prints its help")
else:
    check(done.returncode == 2, "it exits with 2 without its extra")
    what = "pip install 'fsspec-osspresigned[cli]'"
    check(what in done.stderr, "and says what to install")
if extra == "credentials":
    chain = importlib.import_module("alibabacloud_credentials.provider")
    check(chain.DefaultCredentialsProvider, "the chain of credentials is there")
if extra in ("server", "demo"):
    emulator = importlib.import_module(f"{PACKAGE}.emulator")
    service = importlib.import_module(f"{PACKAGE}.owner.service")
    check(service.create_app, "the signer service can be imported")
    with emulator.Emulator(buckets=("examplebucket",)) as oss:
        signers = importlib.import_module(f"{PACKAGE}.signers.keys")
        keys = signers.KeySigner(
            credentials=lambda: oss.credentials,
            endpoint=oss.endpoint,
            region=oss.region,
        )
        store = fsspec.filesystem("osspresigned", signer=keys)
        store.pipe_file("examplebucket/a", b"x" * 300_000)
        check(store.cat_file("examplebucket/a") == b"x" * 300_000, "bytes come back")
if extra == "demo":
    done = command("demo", "--large", "20")
    sys.stderr.write(done.stderr if done.returncode else "")
    check(done.returncode == 0, "the demo runs")
