"""Commands ``check map``, ``grant``, ``signer``, ``store`` and ``upload-server``."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import click
from attrs import evolve, frozen

from ...engine import engine
from ...filesystem.client_factory import read_url
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...http.transport import Transport
from ...options.trust import trust
from ...owner.check import (
    FACTS,
    RULES,
    CheckFolder,
    Intent,
    Kit,
    Result,
    Row,
    StoreAccess,
    UploadServerKit,
    check_grant,
    check_map,
    check_signer,
    check_store,
    check_upload_server,
    form_check,
    has_passed,
    report,
    summary,
)
from ...owner.inspect import warnings_of
from ...owner.sign import local_objects
from ...signers.http import token_source
from ...signers.keys import KeySigner
from ...signers.post_grant import FetchedGrant
from ...signers.post_grant_parser import PostGrant, parse_grant
from ...signing.endpoint import check_key
from ...units import rate_of, shown_moment, shown_seconds, shown_text
from ...url_checks import is_loopback, is_web
from ...url_map.source import load, load_file
from ..failures import ExitCode
from ..interrupts import interruptible
from ..output import table
from .options import (
    PLACE,
    UncutGroup,
    UploadServerOptions,
    asked,
    counted,
    examples,
    flag,
    option,
    read_by,
    takes,
    without_none,
)

_MEGABYTE = 1_000_000
_MAP_EXAMPLES = """\
  osspresigned check map urls.json
  osspresigned check map urls.json exports --to examplebucket/in/ \\
      --rate 20MB/s
"""
_SIGNER_EXAMPLES = """\
  osspresigned check signer https://sign.example.com --bucket examplebucket \\
      --prefix in/ --token env:OSSPRESIGNED_TOKEN
"""
_STORE_EXAMPLES = """\
  osspresigned check store examplebucket --region cn-hangzhou \\
      --json > facts.json
  osspresigned check store --upload-server dashscope \\
      --upload-server-option model=qwen-vl-plus
"""
_UPLOAD_SERVER_EXAMPLES = """\
  osspresigned check upload-server uploads.toml+https://app.example.com checks/
"""
_GRANT_EXAMPLES = """\
  osspresigned check grant grant.json
  osspresigned check grant grant.json exports --to examplebucket/in/ \\
      --rate 20MB/s
  osspresigned check grant env:GRANT --json
  osspresigned check grant https://app.example.com/grant \\
      --token env:OSSPRESIGNED_TOKEN
"""


@click.group(
    cls=UncutGroup, epilog=examples(_MAP_EXAMPLES + _GRANT_EXAMPLES + _SIGNER_EXAMPLES)
)
def check() -> None:
    """Check maps, grants, signers and stores before the first upload.

    To compare files with what is stored, use sync --check.
    """


def _shown(results: Iterable[Result], *, as_json: bool) -> Iterator[Result]:
    """Yield *results*, and print each as text, unless the report is JSON."""
    for result in results:
        if not as_json:
            click.echo(result)
        yield result


def _told(
    results: Sequence[Result], last: str = "", *, as_json: bool, **members: Any
) -> int:
    """Print the end of a report, and return the exit code: 1 if a row failed, else 0.

    The end is the line *last* (by default the summary), or the JSON report with further
    *members*.
    """
    document = json.dumps(report(results, **members), indent=2) if as_json else ""
    click.echo(document or last or summary(results))
    return ExitCode.OK if has_passed(results) else ExitCode.FAILED


@frozen(kw_only=True)
class CheckFilesOptions:
    # fmt: off
    to: str | None = option("--to")
    rate: float | None = option("--rate MB/s",
        "Expected rate, to check that no signature expires too early.",
        type=read_by(functools.partial(rate_of, plain=_MEGABYTE)))
    headers: Mapping[str, str] = option("--header",
        "Header that the uploads will send; may be repeated.")
    allow_http: bool = option("--allow-http", "The uploader sets allow_http=True.")
    as_json: bool = option("--json")
    # fmt: on

    def intent(self, files: Sequence[str], *, local: bool) -> Intent:
        """Return the planned uploads, to check a map or a grant against.

        *local* means that the map or the grant comes from this machine.
        """
        return Intent(
            files=local_objects(files, self.to) if self.to is not None else {},
            headers=self.headers,
            rate=self.rate,
            now=time.time(),
            allow_http=self.allow_http,
            local=local,
        )

    def check(self, files: Sequence[str]) -> None:
        if files and self.to is None:
            raise click.UsageError("FILES need --to BUCKET/PREFIX/, where they go")
        if not files and (self.to is not None or self.rate is not None or self.headers):
            msg = "--to, --rate and --header are about FILES: name some"
            raise click.UsageError(msg)

    def told(
        self, what: str, intent: Intent, problems: Sequence[Result], **members: Any
    ) -> int:
        """Print *problems*, and return the exit code.

        The last line of the text begins with *what*; *members* are fields of the JSON
        report.
        """
        if not self.as_json:
            rows = [
                (shown_text(p.path), p.name, shown_text(p.reason)) for p in problems
            ]
            for line in table(rows):
                click.echo(line)
        total = sum(map(os.path.getsize, intent.files.values()))
        rate = self.rate
        took = f", {shown_seconds(total / rate)} at that rate" if rate else ""
        verdict = counted(len(problems), "problem") if problems else "no problems"
        last = f"{what}, {counted(len(intent.files), 'file')}{took}: {verdict}"
        members["files"] = len(intent.files)
        return _told(problems, last, as_json=self.as_json, **members)


@frozen(kw_only=True)
class CheckMapOptions(CheckFilesOptions):
    # fmt: off
    receipts: bool = flag("--receipts",
        "The uploader sets receipts=, and you complete from them.")
    # fmt: on


@frozen(kw_only=True)
class CheckGrantOptions(CheckFilesOptions):
    # fmt: off
    token: str | None = option("--token")
    hosts: Mapping[str, str | None] = option("--allowed-host")
    # fmt: on

    def read(self, place: str) -> tuple[PostGrant, bool]:
        """Return the grant at *place*, and whether *place* is on this machine."""
        if is_web(place):
            from ...http.json_service import JSONService  # noqa: PLC0415 - it loads requests

            fetched = FetchedGrant(
                place,
                exchange=JSONService(allow_http=self.allow_http).exchange,
                token=token_source(self.token),
                allowed_hosts=self.hosts,
                allow_http=self.allow_http,
            )
            return fetched.current().grant, is_loopback(urlsplit(place).hostname or "")
        if self.token is not None:
            raise click.UsageError("--token is for the server of a grant: give its URL")
        source = load_file(
            place,
            functools.partial(parse_grant, allowed_hosts=self.hosts),
            read_url,
            allow_http=self.allow_http,
            kind="grant",
        )
        return source.current(), source.local


_FILES = click.argument("files", nargs=-1, type=PLACE, metavar="[FILES...]")


@takes
@check.command(
    name="map",
    short_help="Check a URL map, alone or for files.",
    epilog=examples(_MAP_EXAMPLES),
)
@click.argument("place", type=PLACE, metavar="MAP")
@_FILES
def check_map_command(
    place: str, files: tuple[str, ...], wanted: CheckMapOptions
) -> int:
    """Check the URL map MAP, alone or for FILES; exit code 1 if there are problems."""
    wanted.check(files)
    source = load(place, read_url, allow_http=wanted.allow_http)
    url_map = source.current()
    intent = wanted.intent(files, local=source.local)
    problems = check_map(url_map, evolve(intent, receipts=wanted.receipts))
    what = f"{counted(len(url_map), 'object')} in the map"
    return wanted.told(what, intent, problems, objects=len(url_map))


@takes
@check.command(
    name="grant",
    short_help="Check a grant, alone or for files.",
    epilog=examples(_GRANT_EXAMPLES),
)
@click.argument("place", type=PLACE, metavar="GRANT")
@_FILES
def check_grant_command(
    place: str, files: tuple[str, ...], wanted: CheckGrantOptions
) -> int:
    """Check GRANT, alone or for FILES; exit code 1 if there are problems.

    GRANT is a grant file, a file with the reply of an application server, or the URL of
    such a server, which is asked for a grant. Nothing is sent to the store. A
    permission that is wider than usual is a warning, not a problem.
    """
    wanted.check(files)
    grant, local = wanted.read(place)
    intent = wanted.intent(files, local=local)
    warnings = [*warnings_of(grant)]
    if not wanted.as_json:
        for warning in warnings:
            click.echo(f"warning: {shown_text(warning)}")
    what = shown_text(f"grant for {grant.bucket}/{''.join(grant.prefixes[:1])}")
    members = {"grant": grant.describe(), "warnings": warnings}
    return wanted.told(what, intent, check_grant(grant, intent), **members)


@frozen(kw_only=True)
class CheckSignerOptions:
    # fmt: off
    bucket: str = option("--bucket", "Bucket for which the token has permission.",
        required=True)
    prefix: str = option("--prefix",
        "Prefix for which the token has permission; '' for all keys.", required=True)
    token: str | None = option("--token")
    hosts: Mapping[str, str | None] = option("--allowed-host")
    headers: Sequence[str] = option("--allowed-header NAME",
        "ACL, callback or symlink header that the policy grants.", multiple=True)
    versions: bool = flag("--versions", "The policy permits copying of versions.")
    allow_http: bool = option("--allow-http")
    as_json: bool = option("--json")
    # fmt: on


@takes
@check.command(
    short_help="Request signatures from a signer, and check the protocol's rules.",
    epilog=examples(_SIGNER_EXAMPLES),
)
@click.argument("url")
def signer(url: str, wanted: CheckSignerOptions) -> int:
    """Request signatures from the signer at URL, and check the rules of the protocol.

    About 50 requests go to the signer, none to the store: no object is read, written or
    deleted, and a wrong signature is not noticed. The exit code is 1 if the signer
    breaks a rule.
    """
    from ...http.json_service import JSONService  # noqa: PLC0415 - it loads requests

    kit = Kit(
        url=url,
        bucket=wanted.bucket,
        prefix=wanted.prefix,
        exchange=JSONService(allow_http=wanted.allow_http).exchange,
        token=token_source(wanted.token)(),
        allowed_hosts=wanted.hosts,
        allowed_headers=frozenset(name.lower() for name in wanted.headers),
        allow_http=wanted.allow_http,
        versions=wanted.versions,
    )
    results = [*_shown(check_signer(kit, RULES), as_json=wanted.as_json)]
    return _told(results, as_json=wanted.as_json)


@frozen(kw_only=True)
class CheckStoreOptions(UploadServerOptions):
    # fmt: off
    token: str | None = option("--token")
    region: str | None = option("--region")
    endpoint: str | None = option("--endpoint")
    addressing_style: str | None = option("--addressing-style")
    prefix: str = option("--prefix",
        "Directory in which the check makes its own.  [default: the bucket's root]",
        default="")
    yes: bool = option("--yes")
    allow_http: bool = option("--allow-http")
    as_json: bool = option("--json")
    # fmt: on

    def folder(self, bucket: str, transport: Transport) -> CheckFolder:
        """Return a folder in *bucket*, for the owner's keys."""
        signer = KeySigner.from_options(
            region=self.region, endpoint=self.endpoint, style=self.addressing_style
        )
        prefix = self.prefix
        if prefix and (check_key(prefix) or not prefix.endswith("/")):
            raise click.UsageError("--prefix must be a directory: end it with a slash")
        access = StoreAccess(
            send=lambda *request: engine.run(transport.send, *request),
            credentials=signer.credentials(),
            endpoint=signer.endpoint,
            region=signer.region or "",
            bucket=bucket,
        )
        return CheckFolder(access=access, prefix=prefix)

    def told(self, results: Sequence[Result], region: str) -> int:
        taken = shown_moment(time.time())
        return _told(results, as_json=self.as_json, taken=taken, region=region)


_CLEAN_UP = Row("clean-up", "All that the check has stored is removed.")


def _cleaned_up(folder: CheckFolder) -> Iterator[Result]:
    left = folder.clean_up()
    for trace in left:
        where = shown_text(f"{folder.access.bucket}/{trace}")
        click.echo(f"could not be removed: {where}", err=True)
    yield _CLEAN_UP.result("failed" if left else "passed")


@takes
@check.command(
    short_help="Check on a real bucket each fact that this program relies on.",
    epilog=examples(_STORE_EXAMPLES),
)
@click.argument("bucket", required=False)
def store(bucket: str | None, wanted: CheckStoreOptions) -> int:
    """Check on BUCKET, with the owner's keys, how the store behaves.

    This program relies on each checked fact. The check works in a directory of its own
    with a random name, and removes it at the end. About 160 requests are sent, 230 in a bucket with
    versioning, and 2 MiB are stored for some seconds. The JSON holds no secret and no
    bucket name. The exit code is 1 if a fact failed, or if an object could not be
    removed.

    With --upload-server instead of BUCKET, the check uses one form that the upload server signs, and
    checks only the facts that this form permits. About five requests are sent, and the
    two small objects cannot be removed.
    """
    if (bucket is None) == (wanted.upload_server is None):
        raise click.UsageError("give BUCKET or --upload-server, one of them")
    transport = Transport(allow_http=wanted.allow_http)
    with contextlib.closing(transport):
        if bucket is None:
            return _check_by_form(wanted, transport)
        folder = wanted.folder(bucket, transport)
        place = shown_text(f"{bucket}/{folder.path}")
        question = f"send some 160 requests to {place}, for which OSS bills?"
        if not asked(question, yes=wanted.yes):
            return ExitCode.OK
        click.echo(f"all objects of this check: {place}", err=True)
        results: list[Result] = []
        with interruptible():
            try:
                results += _shown(check_store(folder, FACTS), as_json=wanted.as_json)
            finally:
                results += _shown(_cleaned_up(folder), as_json=wanted.as_json)
        return wanted.told(results, folder.access.region)


def _check_by_form(wanted: CheckStoreOptions, transport: Transport) -> int:
    options = without_none(
        upload_server=wanted.upload_server,
        upload_server_options=wanted.upload_server_options or None,
        signer_token=wanted.token,
        allow_http=wanted.allow_http or None,
    )
    trust(options)
    checked = form_check(
        OSSPresignedFileSystem(**options).client.signer,
        lambda *request: engine.run(transport.send, *request),
    )
    question = f"store two small objects at {checked.host}, which stay?"
    if not asked(question, yes=wanted.yes):
        return ExitCode.OK
    facts = check_store(checked.folder, checked.facts)
    with interruptible():
        results = [*_shown(facts, as_json=wanted.as_json)]
    return wanted.told(results, checked.region)


@frozen(kw_only=True)
class CheckUploadServerOptions:
    # fmt: off
    upload_server_options: Mapping[str, str] = option("--upload-server-option")
    token: str | None = option("--token")
    hosts: Mapping[str, str | None] = option("--allowed-host")
    part_size: int | None = option("--part-size")
    allow_http: bool = option("--allow-http")
    yes: bool = option("--yes")
    as_json: bool = option("--json")
    # fmt: on


@takes
@check.command(
    name="upload-server",
    short_help="Check a description of an upload server against the server.",
    epilog=examples(_UPLOAD_SERVER_EXAMPLES),
)
@click.argument("upload_server", type=PLACE, metavar="NAME[+URL]")
@click.argument("folder", default="", type=PLACE)
def check_upload_server_command(
    upload_server: str, folder: str, wanted: CheckUploadServerOptions
) -> int:
    """Walk through the description NAME with its server: a small object, parts, the end.

    NAME is a file.toml, a built-in name or MODULE:FUNCTION, as for --upload-server. The objects
    are below FOLDER. They have random names, and stay: a small one, and one of 5 MiB if
    the server offers parts. The exit code is 1 if a step failed.
    """
    options = without_none(
        upload_server=upload_server,
        upload_server_options=wanted.upload_server_options or None,
        signer_token=wanted.token,
        allowed_hosts=wanted.hosts or None,
        allow_http=wanted.allow_http or None,
    )
    trust(options)
    question = f"store two objects by {shown_text(upload_server)}, which stay?"
    if not asked(question, yes=wanted.yes):
        return ExitCode.OK
    kit = UploadServerKit(
        connect=lambda **more: OSSPresignedFileSystem(**{**options, **more}),
        folder=folder and folder.rstrip("/") + "/",
        has_token=wanted.token is not None,
        part_size=wanted.part_size,
    )
    with interruptible():
        results = [*_shown(check_upload_server(kit), as_json=wanted.as_json)]
    return _told(results, as_json=wanted.as_json)
