"""Command group ``osspresigned``, its errors and exit codes."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

from ...secret import redact
from ...units import shown_text
from ..failures import ExitCode, code_of, told
from ..language import translated
from ..output import silence, warnings_said
from .check import check
from .doctor import doctor
from .explain import explain_command
from .objects import cat, cp, get, ls, mv, rm, stat, url
from .options import PAIR, UncutGroup, examples, needs, refuse_presigned
from .permissions import permissions
from .put import put
from .serve import serve
from .sign import grant, sign
from .sync import sync_command
from .tokens import invite, token
from .uploads import uploads

_EMULATOR = """\
  osspresigned emulator
  osspresigned emulator --fault UploadPart:status=503:rate=0.3:seed=1
"""
_DEMO = """\
  osspresigned demo
  osspresigned demo --large 20
"""
_RULES = """\
A RULE is an action (or *), then what goes wrong and where, after colons:

\b
  UploadPart:status=503:rate=0.3:seed=1      a storm, the same in every run
  UploadPart:part-number=2:cut-after=100KiB  break within the body, once
  PutObject:drop-reply:times=always          store it and say nothing
  CompleteMultipartUpload:error-body         200 with an error in it
  *:reused=yes:reset:times=always            only new connections work
  *:bytes-per-second=64KiB:times=always      slow transfers
  GetObject:cut-reply-after=-1               all but the last byte
  PutObject:refuse=skewed                    403 RequestTimeTooSkewed

The page on the emulator in the documentation lists all members.
"""

_CODES = """\
Exit codes: 0 all went well, 1 some failed, 2 wrong call or configuration, 3 not signed
or denied, 4 network, 5 unknown whether uploaded, 130 interrupted, 141 the reader of the pipe is gone, 143 ended by SIGTERM.

\b
Completion in the shell:
  eval "$(_OSSPRESIGNED_COMPLETE=bash_source osspresigned)"
"""


# The summary reports failures, so the log does not need to.
logging.getLogger("fsspec_osspresigned").addHandler(logging.NullHandler())


class _NobodyReadsError(Exception):
    """Raised when the reader of standard output has closed the pipe.

    click turns a BrokenPipeError into exit code 1. This error gives exit code 141.
    """


class _Commands(UncutGroup):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings_said():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise _NobodyReadsError from None


@click.group(
    cls=_Commands,
    epilog=_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="fsspec-osspresigned", prog_name="osspresigned")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def osspresigned(context: click.Context, /, *, debug: bool) -> None:
    """Upload to Alibaba Cloud OSS through presigned URLs, without keys."""
    context.obj["debug"] = debug


_FIRST = (put, sync_command, get, ls, cat, stat, cp, mv, rm, url, doctor)
for command in (*_FIRST, permissions, explain_command, uploads, sign, grant, check):
    osspresigned.add_command(command)


@osspresigned.command(epilog=examples(_EMULATOR) + "\n\n" + _RULES)
@click.option("--port", type=click.IntRange(0, 65535), default=9000, show_default=True,
              help="TCP port on 127.0.0.1; 0 selects a free port.")  # fmt: skip
@click.option("--bucket", "buckets", multiple=True, default=("examplebucket",),
              show_default=True, help="Bucket to create; may be repeated.")  # fmt: skip
@click.option("--fault", "faults", multiple=True, metavar="RULE",
              help="Rule for a fault, see below; may be repeated. The first rule that matches applies.")  # fmt: skip
@click.option("--versioned", multiple=True, metavar="BUCKET",
              help="Bucket with versioning to create; may be repeated.")  # fmt: skip
@click.option("--cname", "cnames", type=PAIR, multiple=True, metavar="HOST=BUCKET",
              help="Custom domain of a bucket; may be repeated.")  # fmt: skip
@click.option("--sts", type=click.IntRange(min=1), metavar="SECONDS",
              help="Use a temporary (STS) key that expires after so many seconds.")  # fmt: skip
def emulator(*, faults: tuple[str, ...], cnames: Any, **options: Any) -> None:
    """Run a local emulator of OSS that checks every signature."""
    with needs("server"):
        from ...emulator import parse_faults, serve  # noqa: PLC0415 - it needs an extra
    serve(faults=parse_faults(faults), cnames=dict(cnames), **options)


@osspresigned.command(epilog=examples(_DEMO))
@click.option("--large", type=click.IntRange(1, 10_000), default=300, show_default=True,
              help="Size of the large file in MiB.")  # fmt: skip
def demo(large: int) -> int:
    """Play owner and uploader on the emulator, and verify every byte."""
    with needs("demo"):
        from ..demo.owner import main  # noqa: PLC0415 - it needs an extra
    return main(large)


osspresigned.add_command(serve)
serve.add_command(invite)
serve.add_command(token)


def run(arguments: Sequence[str]) -> int:
    """Run the command with *arguments*, and return its exit code.

    Errors are printed to standard error. With --debug, unexpected ones are raised.
    """
    session = {"debug": False}
    try:
        refuse_presigned(arguments)
        code = osspresigned.main(
            list(arguments),
            prog_name="osspresigned",
            standalone_mode=False,
            obj=session,
        )
    except _NobodyReadsError:
        silence(sys.stdout)
        return ExitCode.NOBODY_READS
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        text = translated(shown.getvalue().replace("Error: ", "error: ", 1))
        click.echo(redact(text), nl=False, err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(translated("interrupted"), err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:
        if session["debug"]:
            raise
        text = f"{told(error)} (osspresigned --debug ... shows where)"
        if isinstance(error, OSError) and error.strerror:
            where = f"{shown_text(str(error.filename))}: " if error.filename else ""
            text = f"{where}{told(error)}"
        click.echo(translated(f"error: {text}"), err=True)
        return code_of(error)
    return code if isinstance(code, int) else ExitCode.OK
