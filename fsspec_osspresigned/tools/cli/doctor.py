"""Command ``osspresigned doctor``: checks of an upload, and descriptions of signatures."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import click
from attrs import frozen

from ...client.causes import NO_SIGNATURE, OWN_DOMAIN
from ...client.client import Client
from ...client.error_codes import members
from ...engine.engine import run
from ...errors import ConfigurationError, OSSPresignedError, RefusalReason
from ...filesystem.client_factory import read_url
from ...model import MAX_MAP, Action, Operation, SignedRequest, split_path
from ...options.target import ObjectOptions, Target
from ...owner.inspect import described, read
from ...parsing import clock_offset
from ...secret import SecretURL
from ...signers.base import Grant, MultipartGrant, sign_checked
from ...signers.http import service_exchange
from ...signers.post_grant import PostGrantSigner
from ...signers.post_grant_parser import PostGrant
from ...signers.wire_protocol import SAMPLE_UPLOAD_ID
from ...signing.endpoint import is_public_mainland
from ...signing.signed_url import describe
from ...units import MIB, shown_bytes, shown_end, shown_seconds, shown_text
from ...upload.plan import (
    UploadPlan,
    check_plan,
    granted,
    needed_requests,
    plan_for,
    refuse_expired,
)
from ...url_checks import is_web, scheme_of
from ...url_map.url_map import MapRequest, URLMap
from ..failures import ExitCode, code_of, told
from ..interrupts import interruptible
from ..output import Output
from .options import (
    PLACE,
    UploadConnectionOptions,
    examples,
    is_file_name,
    is_local,
    object_path,
    takes,
)

_PACKAGES = ("fsspec-osspresigned", "fsspec", "pycurl", "requests", "attrs", "fastcrc")
EXTRAS = ("click", "starlette", "uvicorn", "alibabacloud-credentials")
_OWN = ("FSSPEC_OSSPRESIGNED_", "OSSPRESIGNED_", "OSS_")
TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_BY_V1 = "it is of version V1, which new buckets refuse"
_EDITED = "only the store can tell whether a URL was edited"
_FORM_VERSION = "x-oss-signature-version"
_STORE = "store"
_SMALL_REPLY = 64 * 1024
# OSS refuses a V4 signature if its clock differs by more ("RequestTimeTooSkewed").
_MAX_SKEW = 900.0
_NOTED_SKEW = 60.0
# bytes of a list of parts; doctor asks for its signature, and does not send it
_DOCUMENT = 100
_RESOLUTION = 2.0  # seconds; a Date header has only whole seconds
_FORBIDDEN = "PublicEndpointForbidden"
_PUBLIC_HOST = (
    "the host is a public one of mainland China: accounts since 2025-03-20 need an own "
    "domain of the bucket, or an internal host"
)


@frozen
class Finding:
    name: str
    text: str
    code: ExitCode = ExitCode.OK
    noted: bool = False  # True for a possible problem that does no harm yet

    @property
    def word(self) -> str:
        if self.code:
            return "BAD"
        return "note" if self.noted else "ok"


def about_machine() -> Iterator[Finding]:
    system = f"{platform.python_implementation()} {platform.python_version()}"
    yield Finding("python", f"{system} on {platform.system()} {platform.machine()}")
    for name in _PACKAGES:
        yield Finding(name, _version(name))
    extras = ", ".join(f"{name} {_version(name)}" for name in EXTRAS)
    yield Finding("optional packages", extras)
    proxies = urllib.request.getproxies()
    for scheme in ("https", "http", "all", "no"):
        if scheme in proxies:
            shown = proxies[scheme] if scheme == "no" else proxy_shown(proxies[scheme])
            yield Finding(f"proxy ({scheme})", shown_text(shown))
    if not proxies:
        yield Finding("proxy", "none")
    for name in TRUST:
        if path := os.environ.get(name):
            there = os.path.exists(path)
            hint = "" if there else ": there is nothing"
            code = ExitCode.OK if there else ExitCode.USAGE
            yield Finding(name, f"{shown_text(path)}{hint}", code)
    names = ", ".join(sorted(name for name in os.environ if name.startswith(_OWN)))
    yield Finding("environment", names or "no OSSPRESIGNED_* variable is set")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def proxy_shown(text: str) -> str:
    """Return the URL of a proxy without user and password."""
    return re.sub(r"(?s)^(\w+://)?.*@", r"\1(hidden)@", text)


def about_path(client: Client, path: str, size: int | None) -> Iterator[Finding]:
    """Yield findings for an upload of *size* bytes to *path*; nothing is uploaded.

    *size* None assumes 1 MiB. An error in the plan or of the signer is the last
    finding.
    """
    stage, is_given = "plan", size is not None
    size = MIB if size is None else size
    try:
        options = client.options
        target = ObjectOptions(options).target(path, guessed=None, exclusive=False)
        grant = run(granted, client, path)
        refuse_expired(grant, path)
        cut = plan_for(grant, options, size, path=path)
        check_plan(options, target, grant, cut)
        for operation in needed_requests(target, grant, cut, size):
            client.signer.preflight(operation)
        shown = _cut_shown(cut, size, grant)
        yield Finding(stage, shown if is_given else f"{shown} (assumed: give --size)")
        operations = _operations(target, grant, cut, size)
        stage = "signer"
        signed, *_ = sign_checked(client.signer, operations)
    except OSSPresignedError as error:
        yield _bad(stage, error)
        return
    now = time.time()
    calls = ", ".join(f"{o.action} {o.part_number or ''}".rstrip() for o in operations)
    yield Finding(stage, f"signs {calls} of {shown_text(path)}")
    ends = shown_end(signed.expires_at, now)
    what = "URL" if signed.form is None else "grant"
    yield Finding(f"life of the {what}", ends, noted=signed.is_stale(now))
    found = [*about_host(client, _STORE, signed.url.shown())]
    yield from found
    if client.holds_keys and found and not found[0].code:
        yield from _about_look(client, path)
    if is_public_mainland(urlsplit(signed.url.shown()).netloc):
        yield Finding("endpoint", _PUBLIC_HOST, noted=True)
    if text := _doubt(client, signed):
        yield Finding("signature", text, noted=True)


def _doubt(client: Client, signed: SignedRequest) -> str:
    """Return a possible problem of the signature of *signed*; empty if there is none."""
    if signed.form is not None:
        return "" if _FORM_VERSION in signed.form.fields else _BY_V1
    facts = describe(signed.url)
    if facts.is_bare:
        return NO_SIGNATURE
    if facts.version == "unknown":
        return "the URL shows none: it may not be a presigned URL"
    if facts.version == "v1":
        return _BY_V1
    is_fresh = client.holds_keys or client.signer.remote
    return "" if is_fresh else _EDITED


def _about_look(client: Client, path: str) -> Iterator[Finding]:
    """Yield a finding on whether the store accepts a signed HEAD or listing of *path*."""
    bucket, key = split_path(path)
    action = Action.HeadObject if key else Action.ListObjectsV2
    look = Operation(action=action, bucket=bucket, key=key)
    try:
        run(lambda: client.call(look))
    except OSSPresignedError as error:
        # A refusal without a code does not say whether the key or the permission is
        # wrong.
        if isinstance(error, PermissionError) and not error.code:
            yield Finding("bucket", told(error), noted=True)
            return
        missing = isinstance(error, FileNotFoundError) and error.code != "NoSuchBucket"
        if not missing and getattr(error, "reason", None) is not RefusalReason.DENIED:
            yield _bad("bucket", error)
            return
    yield Finding("bucket", "is there, and the store accepts the signature")


def _operations(
    target: Target, grant: Grant, cut: UploadPlan, size: int
) -> list[Operation]:
    """Return the calls of an upload that a signer may grant or refuse separately."""
    if not cut.multipart:
        return [target.operation(cut.action, content_length=size)]
    parts = grant.multipart or MultipartGrant()
    upload = parts.upload_id or SAMPLE_UPLOAD_ID
    operations = (
        [] if parts.is_owners else [target.operation(Action.InitiateMultipartUpload)]
    )
    *before, last = cut.cut(size)
    pieces = [*before[:1], last]
    operations += [
        target.operation(
            Action.UploadPart,
            upload_id=upload,
            part_number=number,
            content_length=length,
        )
        for number, length in pieces
    ]
    if parts.completes:
        # A signer service needs the size of the part list. A map has its own list.
        length = None if parts.is_owners else _DOCUMENT
        complete = Action.CompleteMultipartUpload
        operations.append(
            target.operation(complete, upload_id=upload, content_length=length)
        )
    return operations


def _about_grant(signer: PostGrantSigner) -> Iterator[Finding]:
    try:
        yield from _described(signer.source.current().grant)
    except OSSPresignedError as error:
        yield _bad("grant", error)


def _described(source: MapRequest | URLMap | PostGrant) -> Iterator[Finding]:
    for fact in described(source, time.time()):
        code = _CODES.get(fact.problem, ExitCode.OK)
        yield Finding(fact.name, fact.text, code, noted=bool(fact.problem))
    if not isinstance(source, PostGrant):
        yield Finding("signature", _EDITED, noted=True)


def about_host(
    client: Client, name: str, url: str, *, now: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Yield findings on the host of *url*, and on its clock.

    *name* is ``store`` or ``signer's host``. Sends an unsigned HEAD in the same way as
    uploads, or as requests for signatures.
    """
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        root = SecretURL(f"{origin}/")
        if name == _STORE:
            reply = run(client.transport.send, SignedRequest(method="HEAD", url=root))
        else:
            service = service_exchange(client.options)
            reply = service("HEAD", root, {}, b"", _SMALL_REPLY)
    except OSSPresignedError as error:
        yield _bad(name, error)
        return
    if members(reply.body, reply.headers).get("Code") == _FORBIDDEN:
        yield Finding(name, f"{_FORBIDDEN}: {OWN_DOMAIN}", ExitCode.FAILED)
    else:
        text = f"{origin} answers (status {reply.status} without a signature)"
        yield Finding(name, text)
    offset = clock_offset(reply.headers, now)
    if offset is None:
        yield Finding(f"clock ({name})", "its replies have no date", noted=True)
        return
    word = "ahead of" if offset > 0 else "behind"
    skew = abs(offset)
    text = "agrees" if skew <= _RESOLUTION else f"is {shown_seconds(skew)} {word} it"
    code = ExitCode.FAILED if skew > _MAX_SKEW else ExitCode.OK
    text = f"this machine's clock {text}"
    yield Finding(f"clock ({name})", text, code, skew > _NOTED_SKEW)


def _bad(name: str, error: OSSPresignedError) -> Finding:
    return Finding(name, told(error), code_of(error))


def _cut_shown(cut: UploadPlan, size: int, grant: Grant) -> str:
    if not cut.multipart:
        text = f"{shown_bytes(size)} in one {cut.action}"
    else:
        count = max(1, -(-size // cut.part_size))
        text = f"{shown_bytes(size)} in {count} parts of {shown_bytes(cut.part_size)}"
    if grant.multipart is not None and grant.multipart.is_owners:
        text += f", upload {grant.multipart.upload_id} of the owner"
    return text


# name of a fact -> exit code
_CODES = {"damaged": ExitCode.USAGE, "expired": ExitCode.DENIED}
_EXAMPLES = """\
  osspresigned doctor
  osspresigned doctor link.url
  osspresigned doctor urls.json
  osspresigned doctor examplebucket/in/a.csv --map urls.json
  osspresigned doctor examplebucket/in/a.csv --grant grant.json
  osspresigned doctor examplebucket --signer keys
  osspresigned doctor examplebucket/in/big.bin --size 20GiB \\
      --signer https://sign.example.com --token env:OSSPRESIGNED_TOKEN
"""


@takes
@click.command(epilog=examples(_EXAMPLES))
@click.argument("what", required=False, default="", type=PLACE,
                metavar="[BUCKET/KEY|FILE|-]")  # fmt: skip
def doctor(
    what: str, *, size: int | None, as_json: bool, connection: UploadConnectionOptions
) -> int:
    """Check for problems before an upload, or describe signatures.

    Without an argument or with BUCKET/KEY, checks versions, proxies, clock, signer and
    store, and shows the plan of an upload. With keys, asks the store about the bucket or
    the object. The exit code is 0, or that of the first problem.

    With a FILE that holds a presigned URL, a URL map or a grant, shows what it permits,
    without its signatures. Instead of FILE, give file:PATH, env:NAME, - for standard
    input, or any URL that fsspec can read, such as the URL of a grant server. The exit
    code is 3 if a signature has expired, and 2 if a URL was cut off or changed.
    """
    findings: list[Finding] = []
    out = Output(sys.stdout)
    with interruptible():
        for finding in _findings(what, size, connection):
            findings.append(finding)
            if not as_json:
                text = f"{finding.word:4}  {finding.name}: {finding.text}"
                click.echo(out.red(text) if finding.code else text)
    code = next((finding.code for finding in findings if finding.code), ExitCode.OK)
    if as_json:
        members = [
            {"name": each.name, "state": each.word, "text": each.text}
            for each in findings
        ]
        click.echo(json.dumps({"exit_code": int(code), "findings": members}, indent=2))
    return code


def _is_place(what: str) -> bool:
    """Return whether *what* is a file or URL with signatures, not ``BUCKET/KEY``."""
    if what == "-" or what.startswith(("env:", "file:")) or is_local(what):
        return True
    scheme = scheme_of(what.removeprefix("osspresigned://").removeprefix("oss://"))
    return bool(scheme) or is_file_name(what) or os.path.isfile(what)


def _read_place(place: str) -> bytes:
    if not is_web(place):
        return read_url(place)
    from ...http.json_service import JSONService  # noqa: PLC0415 - it loads requests

    url = SecretURL(place)
    wanted = {"Accept": "application/json"}
    reply = JSONService().exchange("GET", url, wanted, b"", MAX_MAP)
    if reply.status != HTTPStatus.OK:
        msg = f"{url.shown()} answered HTTP {reply.status}: redirects are not followed"
        raise ConfigurationError(msg)
    return reply.body


def _findings(
    what: str, size: int | None, connection: UploadConnectionOptions
) -> Iterator[Finding]:
    has_source = connection.url_file is not None or connection.has_source
    if not has_source and _is_place(what):
        yield from _described(read(what, _read_place))
        return
    path = object_path(what)
    yield from about_machine()
    if not (path or connection.url_file or connection.options):
        return
    try:
        filesystem = connection.filesystem()
    except OSSPresignedError as error:
        yield _bad("configuration", error)
        return
    yield Finding("configuration", "can be used")
    signer = connection.options.get("signer", "")
    if "://" in signer:
        yield from about_host(filesystem.client, "signer's host", signer)
    path = connection.path(filesystem, path)
    if path and not split_path(path)[1]:
        yield from _about_look(filesystem.client, path)
    elif path:
        yield from about_path(filesystem.client, path, size)
    elif isinstance(filesystem.client.signer, PostGrantSigner):
        yield from _about_grant(filesystem.client.signer)
