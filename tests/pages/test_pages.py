"""The pages for people: their Python and their commands run, and their links lead on.

The pages about the command line, sync, the emulator, owners, the walk-through and
clients of others have tests of their own.
"""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import attrs
import fsspec
import pytest

import fsspec_osspresigned
from fsspec_osspresigned import errors
from fsspec_osspresigned.asgi_server import LoopbackServer
from fsspec_osspresigned.emulator import Emulator, Fault
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.model import Action
from fsspec_osspresigned.options.options import Options
from fsspec_osspresigned.owner.service.app import create_app
from fsspec_osspresigned.owner.service.policy import Policy, hash_token
from fsspec_osspresigned.signers.keys import KeySigner
from fsspec_osspresigned.tools import cli
from tests.form_signer import grant_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUCKET = "examplebucket"
TOKEN = "a-made-up-token-0"
SIGNER = "https://sign.example.com"
LARGE = {"dagster", "datasets", "geopandas", "torch"}  # in the group `writers-heavy`
MEDIUM = {"duckdb", "h5py", "netCDF4", "polars", "pyiceberg", "xarray", "zarr"}
WRITING = frozenset(
    {
        Action.PutObject,
        Action.InitiateMultipartUpload,
        Action.UploadPart,
        Action.CompleteMultipartUpload,
        Action.AbortMultipartUpload,
    }
)


def read(name: str) -> str:
    """Return the text of a page, by its path in the checkout."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str = "python") -> list[str]:
    """Return the code of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def world(oss, signed, monkeypatch) -> Iterator[str]:
    """Files and variables that the pages assume; yields the address of a signer."""
    secrets = {
        "upload.url": signed("in/report.csv"),
        "osspresigned-token": TOKEN,
        "urls.json": json.dumps(
            {
                f"{BUCKET}/{key}": signed(key)
                for key in ("a.parquet", "data/a.parquet", "in/report.csv")
            }
        ),
    }
    secrets["grant.json"] = json.dumps(grant_of(oss, BUCKET, "in/"))
    for name, text in secrets.items():
        Path(name).touch(0o600)
        Path(name).write_text(text, encoding="utf-8")
    for name in ("a.csv", "report.csv", "exports/a.csv", "results/a", "figures/a"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("a,b\n")
    Path("big.bin").write_bytes(bytes(17_000_000))
    monkeypatch.setenv("UPLOAD_URL", secrets["upload.url"])
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    policy = Policy(name="pages", prefixes=(f"{BUCKET}/",), actions=WRITING)
    app = create_app(KeySigner.from_options(), tokens={hash_token(TOKEN): policy})
    with LoopbackServer(app) as server:
        yield server.url


def run(code: str, space: dict[str, object], signer: str) -> None:
    """Run a block; one that shows a failure ends in it."""
    code = code.replace(SIGNER, signer)
    if "raise RuntimeError" in code:
        with pytest.raises(RuntimeError):
            exec(compile(code, "page", "exec"), space)  # noqa: S102 - our own page
    else:
        exec(compile(code, "page", "exec"), space)  # noqa: S102 - our own page


def stored(oss: Emulator) -> set[str]:
    """Return the keys of all that was stored."""
    return set(oss.objects(BUCKET))


SMALL_PAGES = {
    "README.md": {"in/report.csv", "a.parquet", "results/a"},
    "docs/grant.md": set(),
    "docs/index.md": {"in/report.csv"},
    "docs/quickstart.md": {"in/report.csv", "data/a.parquet", "in/a.csv"},
    "docs/from-ossfs.md": {"in/report.csv", "in/a.parquet"},
    "docs/resume.md": {"big.bin"},
    "docs/uploading.md": {"in/exports/a.csv"},
    "docs/when.md": {"rows", "day/data.parquet", "day/figures/a", "day/_SUCCESS"},
}


@pytest.mark.parametrize("page", SMALL_PAGES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pandas, in dask
def test_python_of_a_page_runs(page, oss, world):
    """From top to bottom, with files and signatures as the page says."""
    import pandas as pd  # noqa: PLC0415 - as late as a reader would

    options = {"signer": world, "signer_token": "file:osspresigned-token"}
    fs = OSSPresignedFileSystem(**options)
    space: dict[str, object] = {}
    if page == "docs/when.md":
        space = {"fs": fs, "options": options, "df": pd.DataFrame({"n": [1]})}
        space |= {"f": fs.open(f"{BUCKET}/rows", "wb"), "rows": iter([b"1", b"2"])}
    elif page == "docs/uploading.md":
        space = {"fs": fs}
    elif page == "docs/resume.md":
        space = {"fsspec": fsspec}
    for code in blocks(read(page)):
        run(code, space, world)
    assert stored(oss) >= SMALL_PAGES[page]


OLD_RSYNC = pytest.mark.skipif(
    fsspec.__version__.startswith(("2025.3.", "2025.4.")),
    reason="fsspec's rsync loses the options of a protocol before 2025.5",
)


def recipes() -> list[object]:
    """Return every block of the recipes with its section, marked by what it needs."""
    found = []
    page = read("docs/recipes.md")
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        code = "".join(blocks(section))
        names = imported(code) | ({"h5netcdf"} if "h5netcdf" in code else set())
        marks = []
        if names & LARGE:
            marks = [pytest.mark.writers_heavy, pytest.mark.timeout(300)]
        elif names & MEDIUM:
            marks = [pytest.mark.writers]
        if "rsync(" in code:
            marks.append(OLD_RSYNC)
        if code:
            found.append(pytest.param(code, names, marks=marks, id=title))
    return found


def imported(code: str) -> set[str]:
    """Return the packages that *code* imports."""
    names = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(("code", "names"), recipes())
def test_recipe_runs_alone(code, names, oss, world):
    """In a process of its own, with the beginning of the page and no other recipe."""
    missing = [name for name in names if find_spec(name) is None]
    if missing and not os.environ.get("ALL_WRITERS"):
        pytest.skip(f"{', '.join(missing)} not installed: .ci/run writers has them")
    first = "".join(blocks(read("docs/recipes.md").partition("\n## ")[0]))
    Path("recipe.py").write_text((first + code).replace(SIGNER, world), "utf-8")
    for _ in range(3):
        child = subprocess.run(
            [sys.executable, "recipe.py"], capture_output=True, text=True, check=False
        )
        # pyarrow's threads now and then end the interpreter so, when all is done.
        if child.stderr.strip() != "terminate called without an active exception":
            break
    assert child.returncode == 0, child.stderr
    assert stored(oss) > {"in/a.bin"}


PIP_NAMES = {"netCDF4": "netCDF4", "upath": "universal_pathlib"}


@pytest.mark.parametrize(("code", "names"), recipes())
def test_recipe_names_its_packages(code, names):
    """Its first comment installs what it imports."""
    (line,) = re.findall(r"^# pip install (.*)$", code, re.MULTILINE) or [""]
    installed = set(re.findall(r"[\w]+", line))
    needed = {n for n in names - {"fsspec"} if n not in sys.stdlib_module_names}
    assert {PIP_NAMES.get(name, name) for name in needed} <= installed | {"shapely"}


def interrupt(oss: Emulator) -> None:
    """Leave a journal of an upload that was refused in its middle."""
    options = {"signer": "keys", "resume_dir": ".cache/uploads"}
    refused = {"status": 403, "code": "AccessDenied", "times": None}
    oss.faults.add(Fault(action="UploadPart", part_number=2, **refused))
    with pytest.raises(PermissionError):
        OSSPresignedFileSystem(**options).put_file("big.bin", f"{BUCKET}/big.bin")
    assert any(Path(".cache/uploads").iterdir())


@pytest.mark.skipif(not shutil.which("sh"), reason="the commands are those of a shell")
@pytest.mark.usefixtures("world", "command_on_path")
def test_a_job_gets_a_folder(oss):
    """The commands of the recipe upload results, and never replace them."""
    section = read("docs/recipes.md").partition("## A folder for a CI job")[2]
    (code,) = blocks(section, "sh")
    for expected in (0, 1):
        done = subprocess.run(["sh", "-c", code], capture_output=True, check=False)  # noqa: S607 - whichever shell is there
        assert done.returncode == expected, done.stderr
        Path("job.json").unlink()
        Path("results/a").write_text("another")
    assert oss.objects(BUCKET)["jobs/42/a"] == b"a,b\n"


@pytest.mark.parametrize("page", ["docs/quickstart.md", "docs/resume.md"])
def test_commands_of_a_page_work(page, oss, world, capsys):
    """Each ``osspresigned`` command ends with exit code 0."""
    lines = "".join(blocks(read(page), "sh")).splitlines()
    commands = [line for line in lines if line.startswith("osspresigned ")]
    known = json.loads(Path("urls.json").read_text())
    only = {f"{BUCKET}/in/report.csv": known[f"{BUCKET}/in/report.csv"]}
    Path("urls.json").write_text(json.dumps(only))
    Path(".cache/uploads").mkdir(parents=True)
    for line in commands:
        if "uploads abort" in line:
            interrupt(oss)
        words = shlex.split(line.replace(SIGNER, world), comments=True)
        words = [os.path.expanduser(w) if w[:2] == "~/" else w for w in words]
        assert cli.main(words[1:]) == 0, (line, capsys.readouterr())
    assert len(commands) >= 3


# -- what is complete -------------------------------------------------------------------


def test_page_of_options_lists_every_option():
    """The tables name each option of the code once, and nothing else."""
    first, _, second = read("docs/options.md").partition("## Options of an object")
    rows = re.findall(r"^\| (`.*?) \|", first, re.MULTILINE)
    listed = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    known = [field.name for field in attrs.fields(Options)]
    assert sorted(listed) == sorted(known)
    target = re.findall(r"^\| `(\w+)` \|", second, re.MULTILINE)
    assert set(target) <= set(known)


def shown(value: object) -> set[str]:
    """Return how the page may write a default."""
    sizes = {2**23: "8 MiB", 2**24: "16 MiB"}
    if value in (None, {}, ()) or callable(value):
        return {"", "by the endpoint"}
    if isinstance(value, float | int) and not isinstance(value, bool):
        return {sizes.get(value, f"{value:g}")}
    return {str(value)}


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Options)])
def test_page_of_options_tells_the_defaults(name):
    """As they are in the code; those from the environment say which variable."""
    first = read("docs/options.md").partition("## Options of an object")[0]
    (row,) = [r for r in first.splitlines() if f"`{name}`" in r.split(" | ")[0]]
    told = row.split("|")[2].strip().replace("`", "")
    default = getattr(Options(signer="keys"), name)
    if name == "signer":
        default = None
    if name == "timeout":
        default = default[1]
    assert told in shown(default) or told.startswith("OSS_")


def test_reference_has_every_public_name():
    """Each public name is described, errors on their own page."""
    text = read("docs/api.md") + read("docs/errors.md")
    described = set(re.findall(r"^\.\. auto\w+:: [\w.]*\.(\w+)$", text, re.MULTILINE))
    own = {name for name, value in vars(errors).items() if isinstance(value, type)}
    wanted = set(fsspec_osspresigned.__all__) - own - {"__version__"}
    assert wanted <= described


# -- links ------------------------------------------------------------------------------

PAGES = sorted(
    p.relative_to(ROOT).as_posix()
    for p in [*DOCS.glob("*.md"), *DOCS.glob("zh/*.md"), *ROOT.glob("*.md")]
)


def anchors(text: str) -> set[str]:
    """Return what the headings of a page are linked by, as MyST and GitHub make it."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    found = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
        found.add(plain.replace(" ", "-"))
    return found


def prose(text: str) -> str:
    """Return a page without its code."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    """Files and headings exist."""
    for target in re.findall(r"\]\(<?([^)>\s]+)>?\)", prose(read(page))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        place = (ROOT / page).parent / name if name else ROOT / page
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place.read_text("utf-8")), target


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_package_on_a_page_exist(page):
    """Each dotted name can be imported as it is written."""
    names = set(
        re.findall(r"(?<![\w-])fsspec_osspresigned(?:\.[A-Za-z_]+)+", read(page))
    )
    for name in sorted(names):
        if ".iceberg" not in name or find_spec("pyiceberg"):
            pkgutil.resolve_name(name)
