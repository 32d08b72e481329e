"""Command ``osspresigned doctor``: checks of machine, configuration, signer, store."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from urllib.parse import urlsplit

import click
from attrs import frozen

from ...client.client import Client
from ...client.error_codes import OWN_DOMAIN, members
from ...engine.engine import run
from ...errors import OSSPresignedError
from ...model import Action, Operation, Reply, SignedRequest
from ...options.target import ObjectOptions, Target
from ...parsing import clock_offset
from ...secret import SecretURL
from ...signers.base import Grant, MultipartGrant, sign_checked
from ...signers.http import service_exchange
from ...signers.post_grant import PostGrantSigner
from ...signing.endpoint import is_public_mainland
from ...signing.post_policy import SIGNATURE_FIELDS, PostPolicy
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
from ..terminal import ExitCode, Output, code_of, interruptible, told
from .options import JSON, SIZE, UploadConnectionOptions, examples, object_path, takes

_PACKAGES = ("fsspec-osspresigned", "fsspec", "pycurl", "requests", "attrs", "fastcrc")
EXTRAS = ("click", "starlette", "uvicorn", "alibabacloud-credentials")
_OWN = ("FSSPEC_OSSPRESIGNED_", "OSSPRESIGNED_", "OSS_")
TRUST = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_NOTED_VERSIONS = {
    "v1": "the URL has a V1 signature: new buckets refuse it",
    "unknown": "the URL shows none: it may be no presigned URL",
}
_GRANT_BY_V1 = "the grant has a V1 signature: new buckets refuse it"
_SMALL_REPLY = 64 * 1024
# OSS refuses a V4 signature whose clock differs by more ("RequestTimeTooSkewed").
_MAX_SKEW = 900.0
_NOTED_SKEW = 60.0
_UPLOAD_ID = "0004B9895DBBB6EC98E3"  # signatures are made for it, and not used
_DOCUMENT = 100  # bytes of the list of parts, for the same
_RESOLUTION = 2.0  # of a date that has seconds only
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
    noted: bool = False  # a possible problem that does no harm yet

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
        if place := os.environ.get(name):
            there = os.path.exists(place)
            hint = "" if there else ": there is nothing"
            code = ExitCode.OK if there else ExitCode.USAGE
            yield Finding(name, f"{shown_text(place)}{hint}", code)
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
    yield from about_store(client, signed.url.shown())
    if is_public_mainland(urlsplit(signed.url.shown()).netloc):
        yield Finding("endpoint", _PUBLIC_HOST, noted=True)
    if signed.form is not None:
        yield from _about_policy(PostPolicy.parse(signed.form.fields["policy"]))
    elif text := _NOTED_VERSIONS.get(describe(signed.url).version):
        yield Finding("signature", text, noted=True)


def _operations(
    target: Target, grant: Grant, cut: UploadPlan, size: int
) -> list[Operation]:
    """Return the calls of an upload that a signer may grant or refuse separately."""
    if not cut.multipart:
        return [target.put_operation(size, cut.action)]
    parts = grant.multipart or MultipartGrant()
    upload = parts.upload_id or _UPLOAD_ID
    operations = [] if parts.is_owners else [target.initiate_operation()]
    *before, last = cut.cut(size)
    pieces = [*before[:1], last]
    operations += [target.part_operation(upload, *piece) for piece in pieces]
    if parts.completes:
        # A signer service asks for the bytes of the list of parts; a map has its own.
        length = None if parts.is_owners else _DOCUMENT
        complete = Action.CompleteMultipartUpload
        operations.append(
            target.operation(complete, upload_id=upload, content_length=length)
        )
    return operations


def _about_grant(signer: PostGrantSigner) -> Iterator[Finding]:
    try:
        grant = signer.source.current().grant
    except OSSPresignedError as error:
        yield _bad("grant", error)
        return
    yield Finding("life of the grant", shown_end(grant.expires_at, time.time()))
    yield from _about_policy(grant.policy)


def _about_policy(policy: PostPolicy) -> Iterator[Finding]:
    conditions = policy.conditions
    allowed = [each for each in conditions if each.field not in SIGNATURE_FIELDS]
    yield Finding("the grant allows", shown_text(", ".join(map(str, allowed))))
    if not policy.named("x-oss-signature-version"):
        yield Finding("signature", _GRANT_BY_V1, noted=True)


def about_store(
    client: Client, url: str, *, now: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Yield findings on the host of *url*, and on its clock.

    Sends an unsigned HEAD through the same transport as uploads.
    """

    def ask(root: SecretURL) -> Reply:
        return run(client.transport.send, SignedRequest(method="HEAD", url=root))

    yield from _about_host("store", url, ask, now)


def about_signer(client: Client, url: str) -> Iterator[Finding]:
    """Yield findings on the host of *url*, and on its clock.

    Sends a HEAD in the same way as requests for signatures.
    """

    def ask(root: SecretURL) -> Reply:
        return service_exchange(client.options)("HEAD", root, {}, b"", _SMALL_REPLY)

    yield from _about_host("signer's host", url, ask, time.time)


def _about_host(
    name: str,
    url: str,
    ask: Callable[[SecretURL], Reply],
    now: Callable[[], float],
) -> Iterator[Finding]:
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    try:
        reply = ask(SecretURL(f"{origin}/"))
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


_EXAMPLES = """\
  osspresigned doctor
  osspresigned doctor examplebucket/in/a.csv --map urls.json
  osspresigned doctor examplebucket/in/a.csv --grant grant.json
  osspresigned doctor examplebucket/in/big.bin --size 20GiB \\
      --signer https://sign.example.com --token env:OSSPRESIGNED_TOKEN
"""


@takes
@click.command(epilog=examples(_EXAMPLES))
@click.argument(
    "path", required=False, default="", type=object_path, metavar="[BUCKET/KEY]"
)
@click.option("--size", type=SIZE, metavar="BYTES",
              help="Size in bytes of the upload to check.  [default: 1MiB]")  # fmt: skip
@JSON
def doctor(
    path: str, *, size: int | None, as_json: bool, connection: UploadConnectionOptions
) -> int:
    """Check for problems before an upload.

    Checks versions, proxies, clock, signer and store, and shows the plan of an upload
    to BUCKET/KEY. The exit code is 0, or that of the first problem.
    """
    findings: list[Finding] = []
    out = Output(sys.stdout)
    with interruptible():
        for finding in _findings(path, size, connection):
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


def _findings(
    path: str, size: int | None, connection: UploadConnectionOptions
) -> Iterator[Finding]:
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
        yield from about_signer(filesystem.client, signer)
    if path := connection.path(filesystem, path):
        yield from about_path(filesystem.client, path, size)
    elif isinstance(filesystem.client.signer, PostGrantSigner):
        yield from _about_grant(filesystem.client.signer)
