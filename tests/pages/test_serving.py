"""The container and the function of examples/serving start as they are written.

The instructions of the Containerfile run on this machine, and in a container where an
engine and the base image can be had.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.filesystem import OSSPresignedFileSystem
from fsspec_osspresigned.owner.service.policy import hash_token
from fsspec_osspresigned.secret import Secret
from fsspec_osspresigned.signing import Credentials
from tests.serve_child import POLICY, clean

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
SERVING = ROOT / "examples" / "serving"
TOKEN = "a-made-up-token-0"
TEMPORARY = Credentials("STS.fake", Secret("fakesecret"), Secret("fake-token-1234567"))


@contextmanager
def served(command: Sequence[str], **how: Any) -> Iterator[int]:
    """Start *command*, yield the port on which it serves, and end it by SIGTERM."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)
    try:
        started = json.loads(process.stdout.readline())
        assert started["event"] == "started"
        yield int(started["url"].rpartition(":")[2])
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0


def upload(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write an object with a signature of the service at *port*."""
    monkeypatch.setenv("OSSPRESIGNED_TOKEN", TOKEN)
    token = "env:OSSPRESIGNED_TOKEN"
    fs = OSSPresignedFileSystem(signer=f"http://127.0.0.1:{port}", signer_token=token)
    fs.pipe_file("examplebucket/granted/a", b"a,b\n")


def instructions() -> list[list[str]]:
    """Return name and arguments of each instruction of the Containerfile."""
    lines = (SERVING / "Containerfile").read_text("utf-8").splitlines()
    return [line.split(" ", 1) for line in lines if line and not line.startswith("#")]


def command_of(name: str) -> list[str]:
    """Return the command of an instruction, which is written as a list."""
    (text,) = [text for found, text in instructions() if found == name]
    return json.loads(text[text.index("[") :])


def python_for(who: dict[str, Any]) -> str:
    """Return a Python with pip that the user *who* can start."""
    test = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            if subprocess.run([python, "-c", test], check=False, **who).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("there is no Python that another user can start")


def build(root: Path, python: str) -> None:
    """Carry out what the Containerfile copies and runs, with *root* as ``/``."""
    for name, text in instructions():
        if name == "RUN":
            shell = f'python() {{ {python} "$@"; }}\n{below(root, text)}'
            if os.geteuid():  # then all files are this user's
                shell = f"chown() {{ :; }}\n{shell}"
            subprocess.run(
                [shutil.which("sh"), "-euc", shell], cwd=root, env=clean(), check=True
            )
        elif name == "COPY" and not text.startswith("--from=build "):
            *sources, target = below(root, text).split()
            Path(target).mkdir(parents=True, exist_ok=True)
            for source in sources:
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, target, dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, target)


def below(root: Path, text: str) -> str:
    """Return *text* with absolute paths below *root*."""
    return re.sub(r"(?<!\w)/(?=(src|opt|etc|var)\b)", f"{root}/", text)


def test_container(oss, monkeypatch):
    """A user without a name serves, writes only the database, and reports its health."""
    (user,) = [text for name, text in instructions() if name == "USER"]
    number = int(user.partition(":")[0])
    who = {}
    if os.geteuid() == 0:
        who = {"user": number, "group": number, "extra_groups": []}
    python = python_for(who)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        build(root, python)
        policy = root / "etc" / "osspresigned" / "policy.toml"
        policy.parent.mkdir(parents=True)
        policy.write_text(f"{POLICY.format(hash=hash_token(TOKEN))}max_objects = 3\n")
        files = sorted(root.rglob("*"))
        command = [below(root, word) for word in command_of("ENTRYPOINT")]
        keys = {n: v for n, v in os.environ.items() if n.startswith("OSS_")}
        with served([*command, "--port", "0"], env=keys, cwd="/", **who) as port:
            upload(port, monkeypatch)
            healthy = [
                below(root, word).replace("8080", str(port))
                for word in command_of("HEALTHCHECK")
            ]
            assert subprocess.run(healthy, env={}, check=False, **who).returncode == 0
        assert subprocess.run(healthy, env={}, check=False, **who).returncode != 0
        database = root / "var" / "lib" / "osspresigned" / "tokens.sqlite3"
        assert {*root.rglob("*")} - {*files} == {database}
    assert oss.objects("examplebucket") == {"granted/a": b"a,b\n"}


def test_image(tmp_path):
    """The image can be built, and reads a mounted policy without writing to its disk."""
    base = instructions()[0][1].split()[0]
    engine = next(filter(shutil.which, ("podman", "docker")), None)
    if engine is None:
        pytest.skip("there is no container engine")
    pull = subprocess.run(
        [engine, "pull", "-q", base], capture_output=True, check=False
    )
    if pull.returncode:
        pytest.skip(f"{engine} cannot get {base}: {pull.stderr.decode()[:80]!r}")
    name, file = "osspresigned-test", SERVING / "Containerfile"
    subprocess.run([engine, "build", "-t", name, "-f", file, ROOT], check=True)
    tmp_path.chmod(0o755)
    policy = POLICY.format(hash=hash_token(TOKEN))
    (tmp_path / "policy.toml").write_text(policy)
    mount = f"{tmp_path}:/etc/osspresigned:ro"
    command = [engine, "run", "--rm", "--read-only", "-v", mount, name, "--check"]
    assert b"workers\n" in subprocess.run(command, stdout=-1, check=True).stdout


def test_function(tmp_path, monkeypatch):
    """The command of the function signs with the temporary key of its role."""
    template = yaml.safe_load((SERVING / "s.yaml").read_text("utf-8"))
    region = template["vars"]["region"]
    signer = template["resources"]["signer"]
    install, copy = (
        shlex.split(each["run"]) for each in signer["actions"]["pre-deploy"]
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    package = Requirement(install[-1])
    assert package.name == project["name"]
    assert package.extras <= project["optional-dependencies"].keys()
    props = signer["props"]
    assert copy[1:] == ["policy.toml", props["code"]] == ["policy.toml", install[-2]]
    settings = props["environmentVariables"]
    python, *command = props["customRuntimeConfig"]["command"]
    place = command.index(str(props["customRuntimeConfig"]["port"]))
    command[place] = "0"
    assert (python, command[place - 1]) == ("python3", "--port")
    policy = '[signer]\ncredentials = "alibabacloud"\n' + POLICY
    (tmp_path / "policy.toml").write_text(policy.format(hash=hash_token(TOKEN)))
    with Emulator([TEMPORARY], region=region) as oss:
        environment = {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": TEMPORARY.access_key_id,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": TEMPORARY.access_key_secret.reveal(),
            "ALIBABA_CLOUD_SECURITY_TOKEN": TEMPORARY.security_token.reveal(),
            **{n: v.replace("${vars.region}", region) for n, v in settings.items()},
            "OSS_ENDPOINT": oss.url,  # the template leaves it to the region
            "PYTHONPATH": str(ROOT),
        }
        call = [sys.executable, *command]
        with served(call, env=environment, cwd=tmp_path) as port:
            upload(port, monkeypatch)
        (record,) = oss.requests
        assert (record.action, record.status) == ("PutObject", 200)
        assert oss.objects("examplebucket") == {"granted/a": b"a,b\n"}
