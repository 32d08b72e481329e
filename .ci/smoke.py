"""Check the installed wheel, with one extra or none: python smoke.py [EXTRA]."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import distribution

import fsspec

PACKAGE = "fsspec_osspresigned"
extra = "".join(sys.argv[1:])


def check(fact: object, what: str) -> None:
    """Stop at the first thing that does not hold."""
    if not fact:
        sys.exit(f"smoke test: not true: {what}")
    print("ok:", what)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", PACKAGE, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


wheel = distribution("fsspec-osspresigned")
files = {str(file) for file in wheel.files or ()}
for part in ("py.typed", "owner/service/page/index.html"):
    check(f"{PACKAGE}/{part}" in files, f"the wheel holds {part}")
about = wheel.metadata
shown = re.sub(r"^```.*?^```$", "", about.get_payload(), flags=re.DOTALL | re.MULTILINE)
links = re.findall(r"\]\(([^)]*)\)", shown)
relative = [link for link in links if not link.startswith(("https://", "#"))]
check(len(links) > 30 and not relative, f"README.md leads to the web{relative or ''}")
check(about["License-Expression"] == "MIT", "the metadata name the licence")

check("osspresigned" in fsspec.available_protocols(), "fsspec knows the protocol")
check(PACKAGE not in sys.modules, "and has not loaded the package for that")
cls = fsspec.get_filesystem_class("osspresigned")
check("site-packages" in sys.modules[cls.__module__].__file__, "it loads the wheel")
extras = {"click", "rich", "starlette", "uvicorn", "pandas"}
check(not extras & set(sys.modules), "and no extra")

done = command("--help")
if extra in ("cli", "demo"):
    check(done.returncode == 0 and "sync" in done.stdout, "the command prints its help")
else:
    check(done.returncode == 2, "the command exits with 2 without its extra")
    what = "pip install 'fsspec-osspresigned[cli]'"
    check(what in done.stderr and "Traceback" not in done.stderr, "and says what to do")
if extra == "credentials":
    chain = importlib.import_module("alibabacloud_credentials.provider")
    check(chain.DefaultCredentialsProvider, "the chain of credentials is there")
if extra in ("server", "demo"):
    service = importlib.import_module(f"{PACKAGE}.owner.service.app")
    check(service.create_app, "the signer service can be imported")
    emulator = importlib.import_module(f"{PACKAGE}.emulator")
    signers = importlib.import_module(f"{PACKAGE}.signers.keys")
    with emulator.Emulator(buckets=("examplebucket",)) as oss:
        keys = signers.KeySigner(
            credentials=lambda: oss.credentials,
            endpoint=oss.endpoint,
            region=oss.region,
        )
        store = fsspec.filesystem("osspresigned", signer=keys)
        store.pipe_file("examplebucket/a", b"x" * 300_000)
        check(store.cat_file("examplebucket/a") == b"x" * 300_000, "bytes come back")
