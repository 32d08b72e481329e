"""The subcommands of ``osspresigned``: thin, every one calls one function elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from attrs import define

from . import check_commands, owner_commands
from .errors import OSSPresignedError
from .extra import needs as _extra
from .resume_commands import resume
from .secret import redact
from .serve_command import serve

_RULES = """\
A RULE is an action (or *), then what goes wrong and where, behind colons:

\b
  UploadPart:status=503:rate=0.3:seed=1      a storm, the same in every run
  UploadPart:part=2:cut-after=100KiB         break within the body, once
  PutObject:drop-reply:times=always          store it and say nothing
  CompleteMultipartUpload:error-body         200 with an error in it
  *:reused=yes:reset:times=always            only new connections work
  PutObject:key=logs/*:slow=64KiB:rate=1     64 KiB a second, always
  GetObject:cut-reply-after=-1               all but the last byte
  PutObject:refuse=skewed                    403 RequestTimeTooSkewed

docs/emulator.md lists all members.
"""


@define
class _Session:
    """What the options of the group decided."""

    debug: bool = False


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fsspec-osspresigned", prog_name="osspresigned")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def osspresigned(session: _Session, *, debug: bool) -> None:
    """Upload to Alibaba Cloud OSS through presigned URLs, without keys."""
    session.debug = debug


owner_commands.register(osspresigned)
owner_commands.check.add_command(check_commands.signer)


@osspresigned.command(epilog=_RULES)
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True,
              help="TCP port on 127.0.0.1; 0 takes a free one.")  # fmt: skip
@click.option("--root", type=click.Path(file_okay=False, path_type=Path),
              help="Keep objects in this directory; otherwise in memory.")  # fmt: skip
@click.option("--bucket", "buckets", multiple=True, default=("examplebucket",),
              show_default=True, help="Bucket to create; may be repeated.")  # fmt: skip
@click.option("--fault", "faults", multiple=True, metavar="RULE",
              help="What goes wrong, see below; may be repeated, the first due strikes.")  # fmt: skip
@click.option("--clock-offset", type=float, default=0.0, metavar="SECONDS",
              help="How far its clock is ahead; negative for behind.")  # fmt: skip
def emulator(
    *,
    port: int,
    root: Path | None,
    buckets: tuple[str, ...],
    faults: tuple[str, ...],
    clock_offset: float,
) -> None:
    """Run an OSS that checks every signature, on this machine only."""
    with _extra("server"):
        from .emulator import parse_faults, serve  # noqa: PLC0415 - an extra
    serve(
        port=port,
        root=root,
        buckets=buckets,
        faults=parse_faults(faults),
        clock_offset=clock_offset,
    )


@osspresigned.command()
@click.option("--large", type=click.IntRange(1, 10_000), default=300, show_default=True,
              help="MiB of the large file.")  # fmt: skip
def demo(large: int) -> int:
    """Play owner and uploader against the emulator, and verify every byte."""
    with _extra("demo"):
        from .demo.owner import main  # noqa: PLC0415 - an extra
    return main(large)


osspresigned.add_command(serve)
osspresigned.add_command(resume)


def run(arguments: Sequence[str]) -> int:
    """Run *arguments* and return the exit code; a traceback only with ``--debug``."""
    session = _Session()
    try:
        code = osspresigned.main(
            list(arguments),
            prog_name="osspresigned",
            standalone_mode=False,
            obj=session,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 1
    except Exception as error:
        if session.debug:
            raise
        click.echo(f"error: {_in_one_line(error)}", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _in_one_line(error: Exception) -> str:
    if isinstance(error, OSSPresignedError):
        where = f"{error.path}: " if error.path else ""
        return f"{where}{error.message}"
    text = redact(str(error))
    return f"{type(error).__name__}: {text} (osspresigned --debug ... shows where)"
