"""A release: one address and one version in all files, and workflows that agree."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from fsspec_osspresigned import ConfigurationError, Secret
from fsspec_osspresigned.owner.grants import GrantTerms, sign_grant
from fsspec_osspresigned.signing import Credentials, Endpoint
from fsspec_osspresigned.tools.sync.state import read_state
from fsspec_osspresigned.upload import journal
from fsspec_osspresigned.url_map import url_map

ROOT = Path(__file__).parents[1]
if not (ROOT / ".github").exists():
    pytest.skip("a source distribution has no workflows", allow_module_level=True)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
ADDRESS = PROJECT["urls"]["Repository"]
SITE = PROJECT["urls"]["Documentation"]
EXTRAS = PROJECT["optional-dependencies"]
SKIPPED = {".git", ".venv", "_build", "__pycache__", "node_modules", "dist"}


def read(name: str) -> str:
    """Return the text of a file of the project."""
    return (ROOT / name).read_text("utf-8")


def documents(folder: str) -> dict[str, dict]:
    """Return the YAML files of a folder by their names."""
    files = sorted((ROOT / folder).glob("*.y*ml"))
    return {f.name: yaml.safe_load(f.read_text("utf-8")) for f in files}


# -- address and version ------------------------------------------------------------------


def test_one_address():
    """Every address of the project is one of ``[project.urls]``; the site follows them."""
    owner, name = ADDRESS.split("/")[-2:]
    assert f"https://{owner}.github.io/{name}/" == SITE
    others = PROJECT["urls"].items() - {("Documentation", SITE)}
    assert all(url.startswith(ADDRESS) for _, url in others)
    address = re.compile(
        r"https?://[\w.]+/[\w.-]+/fsspec-osspresigned(?![\w.-])"
        r"|https?://[\w-]+\.github\.io/[\w-]*/?"
    )
    found = {}
    for path in ROOT.rglob("*"):
        ours = path.suffix in {".md", ".py", ".toml", ".yaml", ".yml", ".svg", ".html"}
        if ours and path.is_file() and not SKIPPED & set(path.parts):
            for url in address.findall(path.read_text("utf-8")):
                found.setdefault(url, path.relative_to(ROOT).as_posix())
    found.pop("https://pypi.org/p/fsspec-osspresigned")  # of the release workflow
    assert found.keys() == {ADDRESS, SITE}, found


def test_links_of_the_readme_lead_to_the_tag():
    """No link stays relative: pages lead to the site, other files to the tag."""
    hook = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    text = "".join(read(fragment["path"]) for fragment in hook["fragments"])
    for change in hook["substitutions"]:
        assert ADDRESS in change["replacement"] or SITE in change["replacement"]
        text = re.sub(change["pattern"], change["replacement"], text)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\(([^)]*)\)", prose)
    assert [t for t in targets if not t.startswith(("https://", "#"))] == []
    assert f"![The demo shows who does what, and ends with a table of thirteen objects, each verified.]({ADDRESS}/raw/v$HFPR_VERSION/docs/screens/demo.svg)" in prose  # fmt: skip
    assert f"[changes]({ADDRESS}/blob/v$HFPR_VERSION/CHANGELOG.md)" in prose
    assert f"[Options]({SITE}options.html)" in prose


VERSION = PROJECT["version"]
RELEASED = f"# Changelog\n\n## {VERSION} - 2026-12-01\n"


@pytest.mark.parametrize(
    ("tag", "address", "changes", "wrong"),
    [
        (f"v{VERSION}", ADDRESS, RELEASED, ""),
        ("v9.9.9", ADDRESS, RELEASED, "v9.9.9 is not"),
        (f"v{VERSION}", ADDRESS + "-fork", RELEASED, "another repository"),
        (f"v{VERSION}", ADDRESS, RELEASED.replace("2026-12-01", "unreleased"), "date"),
        (f"v{VERSION}", ADDRESS, RELEASED.replace(VERSION, "0.0.9"), "date"),
    ],
)
def test_a_tag_that_does_not_match_is_refused(tmp_path, tag, address, changes, wrong):
    """Before anything is built: version, date of the changelog and repository."""
    (tmp_path / ".ci").mkdir()
    for name in (".ci/release.py", "pyproject.toml"):
        (tmp_path / name).write_text(read(name), "utf-8")
    (tmp_path / "CHANGELOG.md").write_text(changes, "utf-8")
    command = [sys.executable, str(tmp_path / ".ci/release.py"), tag, address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (1 if wrong else 0)
    assert wrong in done.stderr
    assert bool(done.stderr) == bool(wrong)


def test_the_changelog_is_read_in_minutes():
    """The newest section has at most 700 words."""
    assert len(read("CHANGELOG.md").split("\n## ")[1].split()) <= 700


# -- workflows ----------------------------------------------------------------------------


def test_the_wheel_is_tested_with_each_extra_on_both_ends():
    """Every extra, and the oldest and newest Python of the classifiers."""
    matrix = documents(".github/workflows")["release.yml"]["jobs"]["install"][
        "strategy"
    ]["matrix"]
    assert set(matrix["extra"]) == {"", *EXTRAS}
    (row,) = re.findall(
        r"^    for extra in '' (.*); do$", read(".ci/run"), re.MULTILINE
    )
    assert set(row.split()) == set(EXTRAS)
    name = re.compile(r"Programming Language :: Python :: (3\.\d+)$")
    versions = [m[1] for c in PROJECT["classifiers"] if (m := name.match(c))]
    assert matrix["python"] == [versions[0], versions[-1]]
    tested = documents(".github/workflows")["ci.yml"]["jobs"]["tests"]["strategy"]
    assert tested["matrix"]["python"] == versions


def test_what_builds_a_release_is_pinned_by_hash():
    """The job whose files are published installs and runs no other package."""
    lines = [line for line in read(".ci/build.txt").splitlines() if line[0] != "#"]
    pin = re.compile(r"([\w-]+)==[\d.]+ --hash=sha256:[0-9a-f]{64}")
    names = {pin.fullmatch(line)[1] for line in lines}
    backend = PYPROJECT["build-system"]["requires"]
    assert names > {"build", *(re.match(r"[\w-]+", need)[0] for need in backend)}
    build = documents(".github/workflows")["release.yml"]["jobs"]["build"]
    release, *others = [step["run"] for step in build["steps"] if "run" in step]
    assert release.startswith("python .ci/release.py ")
    assert others == [
        "python -m pip install --require-hashes -r .ci/build.txt",
        "python -m build --no-isolation --outdir dist",
    ]


def test_every_action_is_pinned_by_commit():
    """With the version in a comment, and one commit for each action."""
    pins = {}
    for name in documents(".github/workflows"):
        for action, pin in re.findall(r"uses: ([^@\s]+)@(.*)", read(f".github/workflows/{name}")):  # fmt: skip
            assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", pin), action
            assert pins.setdefault(action, pin) == pin


def test_hooks_have_the_versions_of_the_group_lint():
    """What runs before a commit is what `.ci/run lint` installs."""
    hooks = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    wanted = {
        requirement
        for hook in hooks[0]["hooks"]
        for requirement in hook["additional_dependencies"]
    }
    lint = set(PYPROJECT["dependency-groups"]["lint"])
    assert {r for r in lint if not r.startswith("pre-commit>")} == wanted


# -- conda-forge --------------------------------------------------------------------------


def conda(requirement: str) -> str:
    """Return a requirement of pip as conda writes it."""
    return re.sub(r"(?<=[\w-])(?=[<>=])", " ", requirement, count=1)


def test_the_recipe_follows_pyproject():
    """Name, version, requirements, command, licence and addresses."""
    (recipe,) = documents(".ci/conda").values()
    assert recipe["context"] == {
        "version": VERSION,
        "python_min": PROJECT["requires-python"].removeprefix(">="),
    }
    assert recipe["package"]["name"] == PROJECT["name"]
    scripts = [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts
    build = map(conda, PYPROJECT["build-system"]["requires"])
    needs = recipe["requirements"]
    assert needs["host"] == ["python ${{ python_min }}.*", "pip", *build]
    runs = map(conda, PROJECT["dependencies"] + EXTRAS["cli"])
    assert needs["run"] == ["python >=${{ python_min }}", *runs]
    assert needs["run_constraints"] == [*map(conda, EXTRAS["server"])]
    about = recipe["about"]
    assert about["license"] == PROJECT["license"]
    assert [about["license_file"]] == PROJECT["license-files"]
    assert about["summary"] == PROJECT["description"]
    assert about["repository"] == about["homepage"] == ADDRESS
    assert about["documentation"] == PROJECT["urls"]["Documentation"]


def test_the_checksum_of_the_recipe_can_be_filled_in():
    """`.ci/run wheel` replaces this line."""
    lines = re.findall("^  sha256: 0{64}$", read(".ci/conda/recipe.yaml"), re.MULTILINE)
    assert len(lines) == 1
    assert "s/^  sha256: .*/  sha256: ${sum%% *}/" in read(".ci/run")


# -- formats ------------------------------------------------------------------------------


def told(start: str) -> int:
    """Return the version that the page tells of a format."""
    (row,) = [r for r in read("docs/versions.md").splitlines() if r.startswith(start)]
    return int(row.split("|")[2])


def test_the_page_of_versions_tells_those_of_the_formats(tmp_path):
    """URL map, grant, journal, state of a sync, protocol."""
    assert told("| [URL map]") == url_map.VERSION
    assert told("| journal ") == journal.VERSION
    terms = GrantTerms(bucket="examplebucket", prefix="in/")
    key = Credentials("id", Secret("secret"))
    endpoint = Endpoint.parse("oss-cn-hangzhou.aliyuncs.com")
    made = sign_grant(key, endpoint, terms, version="v1", now=time.time())
    assert told("| [grant]") == json.loads(made.text())["version"]
    state = tmp_path / "state.jsonl"
    head = {"what": "sent by osspresigned sync", "version": told("| state ")}
    state.write_text(json.dumps(head) + "\n", "utf-8")
    assert read_state(state) == {}
    state.write_text(
        json.dumps(head | {"version": head["version"] + 1}) + "\n", "utf-8"
    )
    with pytest.raises(ConfigurationError, match="is not the state of a sync"):
        read_state(state)
    protocol = read("docs/signer-protocol.md").splitlines()[0]
    assert protocol.endswith(f"version {told('| [signer protocol]')}")
