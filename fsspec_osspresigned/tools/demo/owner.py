"""Owner in the demo: signs with access keys, reads the objects back, and compares them."""

from __future__ import annotations

import filecmp
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from attrs import frozen
from rich.console import Console
from rich.table import Table

from ...asgi_server import LoopbackServer
from ...emulator import Emulator
from ...model import Action
from ...owner.grants import GrantTerms, sign_grant
from ...owner.service.app import create_app
from ...owner.service.policy import Policy, hash_token
from ...owner.sign import Cut, Order, sign
from ...secret import Secret
from ...signers.keys import KeySigner
from ...signing.canonical import Credentials
from ...units import MIB
from ...url_map.source import write, write_text
from . import plan as names
from .plan import DemoPlan

_TIMEOUT = 600.0  # seconds that the uploader may take
_GRANTED = (
    *(Action.PutObject, Action.InitiateMultipartUpload, Action.UploadPart),
    *(Action.CompleteMultipartUpload, Action.AbortMultipartUpload),
)


@frozen
class Row:
    path: str
    how: str = ""
    size: int = 0  # bytes of the file
    seconds: float = 0.0
    crc64: int = 0
    fault: str = ""  # description of the problem; empty if the object is correct


def main(large: int = 300) -> int:
    """Run the demo with a file of *large* MiB; return 0 if every byte arrived."""
    started = time.monotonic()
    token = secrets.token_urlsafe(24)
    key = Credentials("DemoOwner", Secret(secrets.token_urlsafe(24)))
    with (
        tempfile.TemporaryDirectory(prefix="osspresigned-demo-") as folder,
        Emulator([key], (names.BUCKET,)) as oss,
    ):
        signer = KeySigner(
            credentials=lambda: key, endpoint=oss.endpoint, region=oss.region
        )
        policy = Policy(
            name="uploader", prefixes=(f"{names.BUCKET}/signer/",), actions=_GRANTED
        )
        app = create_app(signer, tokens={hash_token(token): policy})
        with LoopbackServer(app) as service:
            plan = DemoPlan(folder, service.url, large * MIB)
            say(f"an OSS that checks every signature runs at {oss.url}")
            say("the owner, who alone has keys, signs two single URLs, urls.json and")
            say("grant.json, one signature for all names below a prefix,")
            say(f"and runs a signer service at {service.url}")
            url = _hand_out(plan, signer)
            terms = GrantTerms(bucket=names.BUCKET, prefix="grant/")
            made = sign_grant(
                key, oss.endpoint, terms, region=oss.region, now=time.time()
            )
            write_text(made.text(), plan.file(names.GRANT))
            say("the uploader starts: another process, without any key")
            environment = {
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("OSS_", "FSSPEC_", "ALIBABA_CLOUD_"))
            }
            environment[names.URL_VARIABLE] = url.reveal()
            environment[names.TOKEN_VARIABLE] = token
            module = f"{__package__}.uploader"
            command = [sys.executable, "-m", module, plan.dump()]
            code = _run(command, environment)
        if code:
            say(f"the uploader FAILED with exit code {code}")
        say("the owner reads everything back with the keys and compares every byte")
        reader = fsspec.filesystem("osspresigned", signer=signer)
        receipts = read_receipts(plan.file(names.RECEIPTS))
        rows = [examine(plan, reader, receipts, path) for path in names.EVERYTHING]
    show(rows)
    good = code == 0 and not any(row.fault for row in rows)
    verdict = "every byte verified" if good else "NOT VERIFIED"
    say(f"{verdict}, {time.monotonic() - started:.0f} s")
    return 0 if good else 1


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - the command is our own
        try:
            return process.wait(_TIMEOUT)
        finally:
            # After Ctrl-C, the uploader must not write into directories that are being
            # removed.
            process.terminate()
            process.wait()


def _hand_out(plan: DemoPlan, signer: KeySigner) -> Secret:
    first, second = sign(signer, names.ONE_URL, Order()).requests.values()
    plan.file(names.URL_FILE).touch(mode=0o600)
    plan.file(names.URL_FILE).write_text(second.url.reveal(), encoding="utf-8")
    cut = Cut(parts=-(-plan.large // names.PART), part_size=names.PART)
    single = sign(signer, names.SINGLE_IN_MAP, Order())
    in_parts = sign(signer, [names.LARGE], Order(cut=cut))
    write({**single.entries, **in_parts.entries}, plan.file(names.URL_MAP))
    return first.url


def read_receipts(folder: Path) -> dict[str, dict[str, Any]]:
    """Return path -> receipt of all objects that the uploader stored."""
    receipts = {}
    for file in sorted(folder.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            receipt = json.loads(line)
            # For a single URL, the path is empty. Then the name of the folder is used.
            path = receipt["path"] or str(file.parent.relative_to(folder))
            receipts[path] = receipt
    return receipts


def examine(
    plan: DemoPlan, reader: Any, receipts: Mapping[str, Mapping[str, Any]], path: str
) -> Row:
    """Read the object *path*, and compare it with its source file and its receipt."""
    receipt = receipts.get(path)
    if receipt is None:
        return Row(path, fault="no receipt")
    back = Path(plan.folder, "back")
    try:
        reader.get_file(path, str(back))
        same = filecmp.cmp(back, plan.source(path), shallow=False)
    except OSError as error:
        return Row(path, fault=type(error).__name__)
    faults = {
        "other bytes": not same,
        "unproven": receipt["verified"] != "crc64",
    }
    fault = ", ".join(name for name, differs in faults.items() if differs)
    alone = "one form" if path in names.PARTITIONS else "one PUT"
    how = f"{len(receipt['parts'])} parts" if receipt["parts"] else alone
    crc = int(receipt["crc64"] or 0)
    return Row(path, how, receipt["size"], receipt["seconds"], crc, fault)


def show(rows: list[Row]) -> None:
    table = Table("object", "sent as")
    for name in ("bytes", "seconds", "CRC-64"):
        table.add_column(name, justify="right")
    table.add_column("verified")
    for row in rows:
        table.add_row(
            *(row.path, row.how, f"{row.size:,}", f"{row.seconds:.2f}"),
            *(f"{row.crc64:016x}", f"NO: {row.fault}" if row.fault else "yes"),
        )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)  # noqa: T201 - it is the program's output
