"""Commands ``check map``, ``check grant``, ``check signer`` and ``check store``."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import click
from attrs import evolve, frozen

from ...engine import abort_at_exit, engine
from ...errors import (
    AccessDeniedError,
    ConfigurationError,
    Refused,
    SignatureMismatchError,
)
from ...filesystem.client_factory import read_url
from ...filesystem.filesystem import OSSPresignedFileSystem
from ...http.transport import Transport
from ...options.trust import trust
from ...owner.conformance import Kit, run
from ...owner.conformance_rules import RULES
from ...owner.form_check import form_check
from ...owner.inspect import warnings_of
from ...owner.sign import local_objects
from ...owner.store_check import OUTCOMES, FactResult
from ...owner.store_check import check as check_store
from ...owner.store_facts import FACTS
from ...owner.store_folder import CheckFolder, StoreAccess, Trace, mainland_endpoint
from ...owner.upload_check import Intent, UploadProblem, check_grant, check_map
from ...signers.http import token_source
from ...signers.keys import KeySigner
from ...signers.post_grant import FetchedGrant
from ...signers.post_grant_parser import PostGrant, parse_grant
from ...signing.endpoint import check_key
from ...units import rate_of, shown_moment, shown_seconds, shown_text
from ...url_checks import is_loopback, is_web
from ...url_map.source import load, load_file
from ..terminal import ExitCode, interruptible, table
from .options import (
    PLACE,
    BrokerOptions,
    UncutGroup,
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
      --report replies.json
  osspresigned check store --broker dashscope \\
      --broker-option model=qwen-vl-plus
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

        *local* says that the map or the grant comes from this machine.
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

    def report(
        self,
        what: str,
        facts: Mapping[str, Any],
        intent: Intent,
        problems: Sequence[UploadProblem],
    ) -> int:
        """Print *problems* as text or JSON; return 1 if there are any, else 0.

        *what* begins the last line of the text. *facts* are further members of the
        JSON.
        """
        code = 1 if problems else 0
        if self.as_json:
            listed = [
                {"path": p.path, "kind": p.kind, "problem": p.text} for p in problems
            ]
            members = {**facts, "files": len(intent.files), "problems": listed}
            click.echo(json.dumps(members, indent=2))
            return code
        rows = [(shown_text(p.path), p.kind, shown_text(p.text)) for p in problems]
        for line in table(rows):
            click.echo(line)
        total = sum(map(os.path.getsize, intent.files.values()))
        rate = self.rate
        took = f", {shown_seconds(total / rate)} at that rate" if rate else ""
        verdict = counted(len(problems), "problem") if problems else "no problems"
        click.echo(f"{what}, {counted(len(intent.files), 'file')}{took}: {verdict}")
        return code


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
    return wanted.report(what, {"objects": len(url_map)}, intent, problems)


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
    what = f"grant for {grant.bucket}/{''.join(grant.prefixes[:1])}"
    facts = {"grant": grant.describe(), "warnings": warnings}
    return wanted.report(shown_text(what), facts, intent, check_grant(grant, intent))


@frozen(kw_only=True)
class CheckSignerOptions:
    # fmt: off
    bucket: str = option("--bucket", "Bucket for which the token has permission.  [required]")
    prefix: str = option("--prefix",
        "Prefix for which the token has permission; '' for all keys.  [required]")
    token: str | None = option("--token")
    hosts: Mapping[str, str | None] = option("--allowed-host")
    headers: Sequence[str] = option("--allowed-header NAME",
        "ACL, callback or symlink header that the policy grants.", multiple=True)
    versions: bool = flag("--versions", "The policy permits copying of versions.")
    allow_http: bool = option("--allow-http")
    verbose: bool = flag("--verbose -v",
        "Also show the last request of each rule that passes.")
    as_json: bool = option("--json")
    # fmt: on

    def __attrs_post_init__(self) -> None:
        # All at once: click stops at the first required option that is missing.
        needed: dict[str, str | None] = {
            "--bucket": self.bucket,
            "--prefix": self.prefix,
        }
        if missing := [name for name, value in needed.items() if value is None]:
            raise click.UsageError(f"check signer needs {' and '.join(missing)}")


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
    verdicts = []
    for verdict in run(kit, RULES):
        verdicts.append(verdict)
        # If the first rule is broken, none of the others is tried.
        is_tried = len(verdicts) == 1 or verdicts[0].outcome != "fail"
        if is_tried and not wanted.as_json:
            click.echo(verdict.text(verbose=wanted.verbose))
    counts = Counter(verdict.outcome for verdict in verdicts)
    if wanted.as_json:
        members = [verdict.as_dict() for verdict in verdicts]
        click.echo(json.dumps({"passed": not counts["fail"], "rules": members}))
    else:
        text = f"{counts['pass']} passed, {counts['fail']} failed"
        click.echo(f"{text}, {counts['skip']} skipped")
    return 1 if counts["fail"] else 0


@frozen(kw_only=True)
class CheckStoreOptions(BrokerOptions):
    # fmt: off
    token: str | None = option("--token")
    region: str | None = option("--region")
    endpoint: str | None = option("--endpoint")
    addressing_style: str | None = option("--addressing-style")
    prefix: str = option("--prefix",
        "Directory in which the check makes its own.  [default: the bucket's root]",
        default="")
    report: str | None = option("--report FILE", "Write the replies as JSON to FILE.")
    yes: bool = option("--yes")
    allow_http: bool = option("--allow-http")
    # fmt: on

    def confirms(self, text: str) -> bool:
        """Return whether the user confirms *text*; with --yes, True without asking.

        UsageError if standard input is not a terminal.
        """
        if self.yes:
            return True
        if not sys.stdin.isatty():
            raise click.UsageError("without a terminal to ask at, --yes is needed")
        return click.confirm(text, err=True)

    def told(self, results: Sequence[FactResult], region: str) -> bool:
        """Print the counts, write the report if one is wanted, and return the verdict.

        It is False if a fact is different or was not asked. A skipped fact does not
        count.
        """
        counts = Counter(result.outcome for result in results)
        click.echo(", ".join(f"{counts[o]} {o}" for o in OUTCOMES))
        if self.report is not None:
            document = {
                "version": 1,
                "taken": shown_moment(time.time()),
                "region": region,
                "facts": [result.as_dict() for result in results],
            }
            with open(self.report, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=1)
        return not (counts["different"] or counts["not asked"])


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Within the block, let SIGTERM and SIGHUP raise SystemExit, so clean-up runs.

    Signals that the program ignores or handles itself stay as they are.
    """

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handled = []
    if threading.current_thread() is threading.main_thread():
        known = (getattr(signal, n, None) for n in ("SIGTERM", "SIGHUP"))
        usual = (signal.SIG_DFL, abort_at_exit.terminate)
        handled = [n for n in known if n and signal.getsignal(n) in usual]
    before = [(number, signal.signal(number, end)) for number in handled]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _check_free(folder: CheckFolder) -> None:
    """Raise ConfigurationError if the store lists an object in the check's folder.

    If the keys may not list the bucket, print a note, and return.
    """
    try:
        is_free = folder.is_free()
    except AccessDeniedError as error:
        if error.reason is not Refused.DENIED:
            raise
        text = "the keys may not list the bucket, so what an earlier check left stays"
        click.echo(text, err=True)
        return
    if not is_free:
        msg = "the directory of this check is not empty: run the check again"
        raise ConfigurationError(msg)


def _checked(folder: CheckFolder) -> tuple[list[FactResult], list[Trace]]:
    results: list[FactResult] = []
    left: list[Trace] = []
    bucket = folder.access.bucket
    try:
        _check_free(folder)
        for result in check_store(folder, FACTS):
            results.append(result)
            click.echo(result)
    except SignatureMismatchError:
        msg = "OSS_ACCESS_KEY_SECRET is not the secret of this access key: correct it"
        raise SignatureMismatchError(msg, path=bucket) from None
    finally:
        left += folder.clean_up()
        if folder.swept:
            click.echo(f"removed {folder.swept} objects and uploads of earlier checks")
        for trace in left:
            where = shown_text(f"{bucket}/{trace}")
            click.echo(f"could not be removed: {where}", err=True)
    return results, left


@takes
@check.command(
    short_help="Check on a real bucket each fact that this program relies on.",
    epilog=examples(_STORE_EXAMPLES),
)
@click.argument("bucket", required=False)
def store(bucket: str | None, wanted: CheckStoreOptions) -> int:
    """Check on BUCKET, with the owner's keys, how the store behaves.

    This program relies on each checked fact. The check works in a directory of its own
    with a random name, and removes it at the end, with what an interrupted check left
    below the same --prefix. About 160 requests are sent, 230 in a bucket with
    versioning, and 2 MiB are stored for some seconds. The report holds no secret and no
    bucket name. The exit code is 1 if a fact is different or was not asked, or if an
    object could not be removed.

    With --broker instead of BUCKET, the check uses one form that the broker signs, and
    checks only the facts that this form permits. About five requests are sent, and the
    two small objects cannot be removed.
    """
    if (bucket is None) == (wanted.broker is None):
        raise click.UsageError("give BUCKET or --broker, one of them")
    if bucket is None:
        return _check_by_form(wanted)
    signer = KeySigner.from_options(
        region=wanted.region, endpoint=wanted.endpoint, style=wanted.addressing_style
    )
    if (prefix := wanted.prefix) and (check_key(prefix) or not prefix.endswith("/")):
        raise click.UsageError("--prefix must be a directory: end it with a slash")
    transport = Transport(allow_http=wanted.allow_http)
    region, endpoint = signer.region or "", signer.endpoint
    access = StoreAccess(
        send=lambda *request: engine.run(transport.send, *request),
        credentials=signer.credentials(),
        endpoint=endpoint,
        region=region,
        bucket=bucket,
        public_endpoint=mainland_endpoint(endpoint, region),
    )
    folder = CheckFolder(access=access, prefix=prefix)
    place = shown_text(f"{bucket}/{folder.path}")
    if not wanted.confirms(f"send some 160 requests to {place}, for which OSS bills?"):
        return ExitCode.OK
    click.echo(f"all objects of this check: {place}")
    try:
        with _ended_by_signals(), interruptible():
            results, left = _checked(folder)
    finally:
        transport.close()
    is_fine = wanted.told(results, region)
    return 0 if is_fine and not left else 1


def _check_by_form(wanted: CheckStoreOptions) -> int:
    options = without_none(
        broker=wanted.broker,
        broker_options=wanted.broker_options or None,
        signer_token=wanted.token,
        allow_http=wanted.allow_http or None,
    )
    trust(options)
    transport = Transport(allow_http=wanted.allow_http)
    checked = form_check(
        OSSPresignedFileSystem(**options).client.signer,
        lambda *request: engine.run(transport.send, *request),
    )
    if not wanted.confirms(f"store two small objects at {checked.host}, which stay?"):
        return ExitCode.OK
    results = []
    try:
        with _ended_by_signals(), interruptible():
            for result in check_store(checked.folder, checked.facts):
                results.append(result)
                click.echo(result)
    finally:
        transport.close()
    return 0 if wanted.told(results, checked.region) else 1
