"""The command ``osspresigned doctor``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from .connection_options import Connection, connection_options
from .doctor import Finding, about_host, about_machine, about_path, worst
from .errors import OSSPresignedError
from .exit_code import ExitCode, code_of
from .failure import why
from .interruption import interruptible
from .terminal import Output
from .transfer_options import SIZE

_EXAMPLES = """\
Examples:

\b
  osspresigned doctor
  osspresigned doctor examplebucket/in/a.csv --map urls.json
  osspresigned doctor examplebucket/in/big.bin --size 20GiB \\
      --signer https://sign.example.com --token env:OSSPRESIGNED_TOKEN
"""


@click.command(
    epilog=_EXAMPLES,
    short_help="Look for what may be wrong, before anything is sent.",
)
@click.argument("path", required=False, default="", metavar="[BUCKET/KEY]")
@click.option("--size", type=SIZE, default="1MiB", show_default=True, metavar="BYTES",
              help="Bytes of the upload that is tried out.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@connection_options
def doctor(path: str, *, size: int, as_json: bool, connection: Connection) -> int:
    """Look for what may be wrong, and try an upload to BUCKET/KEY without sending it.

    Versions, proxies, clock, signer, store and the plan of the upload. The exit code is
    0, or tells the kind of the first thing that is bad.
    """
    findings: list[Finding] = []
    with interruptible():
        for finding in _looked(path, size, connection):
            findings.append(finding)
            if not as_json:
                _say(finding)
    code = worst(findings)
    if as_json:
        members = [
            {"name": one.name, "state": one.word, "text": one.text} for one in findings
        ]
        click.echo(json.dumps({"exit_code": int(code), "findings": members}, indent=2))
    return code


def _looked(path: str, size: int, connection: Connection) -> Iterator[Finding]:
    yield from about_machine()
    if not (path or connection.url_file or connection.options):
        return
    try:
        filesystem = connection.filesystem()
    except OSSPresignedError as error:
        yield Finding("configuration", why(error), code_of(error))
        return
    yield Finding("configuration", "can be used")
    signer = connection.options.get("signer", "")
    if "://" in signer:
        yield from about_host(filesystem.client, "signer's host", signer)
    path = path.removeprefix("osspresigned://") or connection.path(filesystem, "")
    if path:
        yield from about_path(filesystem.client, path, size)


def _say(finding: Finding) -> None:
    output = Output(sys.stdout)
    text = f"{finding.word:4}  {finding.name}: {finding.text}"
    click.echo(output.red(text) if finding.code is not ExitCode.OK else text)
