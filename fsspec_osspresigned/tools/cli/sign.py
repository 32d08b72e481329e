"""Commands ``sign`` and ``grant``: signatures of an owner."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import click
from attrs import frozen

from ...errors import ConfigurationError
from ...model import (
    ACLS,
    FORBID_OVERWRITE,
    MAX_PARTS,
    MAX_SINGLE_PUT,
    STORAGE_CLASS,
    split_path,
)
from ...owner import sign as owner_sign
from ...owner.commands import Shell
from ...owner.grants import GrantTerms, sign_grant
from ...owner.sign import Cut, Order
from ...signers.keys import KeySigner
from ...signing.post_policy import TOKEN_FIELD
from ...units import MIB, shown_bytes, shown_end, shown_seconds, shown_text
from ...url_checks import is_web
from ...url_map.source import write_text
from .options import (
    PLACE,
    SIZE,
    counted,
    examples,
    flag,
    object_path,
    option,
    takes,
    without_none,
)

_SIGN = """\
  osspresigned sign examplebucket/report.csv --expires 2h --print > link.url
  osspresigned sign examplebucket/report.csv --powershell
  osspresigned sign exports --to examplebucket/in/ --output urls.json
  osspresigned sign examplebucket/a.csv examplebucket/b.csv --output two.json
  osspresigned sign examplebucket/big.bin --parts 20 --output big.json
"""

_PART_SIZE = 8 * MIB


@frozen(kw_only=True)
class SigningKeyOptions:
    """Options of commands that sign with the access key in the environment."""

    # fmt: off
    region: str | None = option("--region")
    endpoint: str | None = option("--endpoint")
    addressing_style: str | None = option("--addressing-style")
    signature_version: str = option("--signature-version", "Version of the signatures.",
        type=click.Choice(["v4", "v1"]), default="v4", show_default=True)
    # fmt: on

    def signer(self, expires_in: int) -> KeySigner:
        """Return a signer whose signatures expire after *expires_in* seconds."""
        return KeySigner.from_options(
            region=self.region,
            endpoint=self.endpoint,
            version=self.signature_version,
            expires_in=expires_in,
            style=self.addressing_style,
        )


@frozen(kw_only=True)
class SignOptions:
    # fmt: off
    to: str | None = option("--to")
    method: owner_sign.Method = option("--method", "Method of the requests that are signed.",
        type=click.Choice(["PUT", "GET", "HEAD", "DELETE"]), default="PUT",
        show_default=True)
    expires: int = option("--expires", default="1h")
    parts: int | None = option("--parts",
        "Begin a multipart upload, and sign this many parts.",
        type=click.IntRange(1, MAX_PARTS))
    file_size: int | None = option("--file-size BYTES",
        "Begin a multipart upload, and sign the parts of this many bytes.", type=SIZE)
    part_size: int | None = option("--part-size",
        "Size of a part in bytes.  [default: 8MiB]")
    owner_completes: bool = flag("--owner-completes",
        "With parts: sign no Complete; the owner completes from receipts.")
    headers: Mapping[str, str] = option("--header")
    content_type: str | None = option("--content-type")
    no_overwrite: bool = option("--no-overwrite")
    output: str | None = option("--output",
        "Output file, which is secret; - for a pipe.  [default: urls.json]")
    force: bool = option("--force")
    printed: bool = flag("--print",
        "Print the URL of a single object, and its headers, instead of writing a file.")
    curl: bool = flag("--curl",
        "Print a command of curl for sh with the URL of a single object.")
    powershell: bool = flag("--powershell",
        "Print a command of curl for PowerShell with the URL of a single object.")
    # fmt: on

    @property
    def prints(self) -> list[str]:
        """The given options that print a URL instead of writing a file."""
        names = ("--print", "--curl", "--powershell")
        given = (self.printed, self.curl, self.powershell)
        return [*itertools.compress(names, given)]

    @property
    def shell(self) -> Shell | None:
        return "sh" if self.curl else "powershell" if self.powershell else None

    @property
    def in_parts(self) -> bool:
        return self.parts is not None or self.file_size is not None

    def order(self) -> Order:
        named = {
            "Content-Type": self.content_type,
            FORBID_OVERWRITE: "true" if self.no_overwrite else None,
        }
        wanted = without_none(**named)
        if self.method != "PUT" and (wanted or self.in_parts):
            msg = f"{self.method} sends no object: only --header fits it"
            raise click.UsageError(msg)
        if self.parts is not None and self.file_size is not None:
            raise click.UsageError("--parts and --file-size: give one of them")
        if self.part_size is not None and not self.in_parts:
            raise click.UsageError("--part-size needs --parts, or --file-size")
        if self.owner_completes and not self.in_parts:
            raise click.UsageError("--owner-completes needs --parts, or --file-size")
        cut = None
        if self.in_parts:
            cut = Cut.from_sizes(
                part_size=_PART_SIZE if self.part_size is None else self.part_size,
                parts=self.parts,
                file_size=self.file_size,
            )
        return Order(
            method=self.method,
            headers={**wanted, **self.headers},
            cut=cut,
            owner_completes=self.owner_completes,
        )


@takes
@click.command(epilog=examples(_SIGN))
@click.argument(
    "sources", nargs=-1, required=True, type=PLACE, metavar="BUCKET/KEY... | FILES..."
)
def sign(
    sources: tuple[str, ...], wanted: SignOptions, keys: SigningKeyOptions
) -> None:
    """Sign URLs for others, with the keys in the environment.

    Objects are named as BUCKET/KEY, or by local FILES and --to BUCKET/PREFIX/.
    Reads OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET and, for a temporary key,
    OSS_SESSION_TOKEN. Writes a secret file that only you can read: a URL map.
    """
    order = wanted.order()
    paths = _paths(sources, wanted.to, order)
    place = _place(wanted)
    if place is None and (len(paths) > 1 or order.cut is not None):
        msg = f"{wanted.prints[0]} is for one URL: leave it out, a file is written"
        raise click.UsageError(msg)
    signer = keys.signer(wanted.expires)
    signed = owner_sign.sign(signer, paths, order)
    if place is None:
        click.echo(signed.url_text(wanted.shell))
        ends = shown_end(signed.expires_at, time.time())
        click.echo(f"{signed.method} until {ends}", err=True)
        return
    forget = functools.partial(owner_sign.forget, signer, signed)
    where = _write_secret(signed.map_text(), place, forget)
    what = counted(signed.count, "object")
    for entry in signed.entries.values():
        if entry.parts:
            size = shown_bytes(entry.part_size or 0)
            what += f" in up to {len(entry.parts)} parts of {size}"
            what += f", upload {entry.upload_id}"
            what += " (you complete it)" if entry.complete == "external" else ""
    click.echo(f"{signed.method} of {what} signed: {where}", err=True)
    click.echo(f"valid until {shown_end(signed.expires_at, time.time())}", err=True)


def _write_secret(
    text: str, place: str, forget: Callable[[], object] = lambda: None
) -> str:
    """Write *text* to *place*, and return a description of the place for messages.

    If the file cannot be written, *forget* is called, and OSError raised.
    """
    if place == "-":
        click.echo(text, nl=False)
        return "standard output"
    try:
        write_text(text, place)
    except OSError:
        forget()
        raise
    return f"{place} (mode 0600, a secret)"


def _paths(sources: tuple[str, ...], to: str | None, order: Order) -> list[str]:
    if any(is_web(source) for source in sources):
        raise click.UsageError("name objects as BUCKET/KEY, not by a URL")
    if order.cut is not None and (to is not None or len(sources) > 1):
        raise click.UsageError("parts are of one object: one BUCKET/KEY without --to")
    if to is None:
        return _objects(sources)
    files = owner_sign.local_objects(sources, to)
    if problems := list(owner_sign.too_large(files)):
        raise click.ClickException("\n".join(problems))
    return list(files)


def _objects(sources: tuple[str, ...]) -> list[str]:
    paths = dict.fromkeys(map(object_path, sources))
    for path in paths:
        bucket, _, key = path.partition("/")
        is_local = len(paths) > 1 and os.path.lexists(path)
        if not bucket or not key or is_local:
            hint = "an object is BUCKET/KEY, local files need --to BUCKET/PREFIX/"
            raise click.UsageError(f"{path!r} is not an object: {hint}")
    return [*paths]


def _place(wanted: SignOptions) -> str | None:
    """Return the output file; None means that one URL is printed.

    UsageError if the options do not fit together.
    """
    if wanted.prints:
        name = wanted.prints[0]
        if wanted.prints[1:]:
            raise click.UsageError(f"{name} and {wanted.prints[1]}: give one of them")
        if wanted.output is not None:
            raise click.UsageError(f"{name} writes no file: leave out --output")
        return None
    if wanted.method == "DELETE":
        raise click.UsageError("a URL map cannot hold a DELETE: use --print")
    return secret_place(wanted.output, "urls.json", force=wanted.force)


def secret_place(output: str | None, default: str, *, force: bool) -> str:
    """Return the output file for a secret, or ``-`` for a pipe.

    UsageError if the file exists, unless *force*, and for ``-`` at a terminal.
    """
    if output == "-":
        if sys.stdout.isatty():
            msg = "secrets do not go to a terminal: pipe them somewhere"
            raise click.UsageError(msg)
        return output
    place = output or default
    if os.path.lexists(place) and not force:
        hint = "use --output for another place, or --force"
        raise click.UsageError(f"{place} exists already: {hint}")
    return place


_EXAMPLES = """\
  osspresigned grant examplebucket/incoming/ --expires 2h --max-size 1GiB
  osspresigned grant examplebucket/photos/ --content-type image/png \\
      --no-overwrite
  osspresigned grant examplebucket/in/ -o - | \\
      ssh ann@lab 'umask 077; cat > grant.json'
  osspresigned doctor grant.json
  osspresigned check grant grant.json exports --to examplebucket/incoming/
"""


@frozen(kw_only=True)
class GrantOptions:
    # fmt: off
    expires: int = option("--expires", default="1h")
    max_size: int = option("--max-size BYTES", "Maximum size of one object in bytes.",
        type=SIZE, default="5GiB", show_default=True)
    min_size: int = option("--min-size BYTES", "Minimum size of one object in bytes.",
        type=SIZE, default="0", show_default=True)
    content_types: Sequence[str] = option("--content-type TYPE",
        "Allow only this type; may be repeated.  [default: all]", multiple=True)
    no_overwrite: bool = option("--no-overwrite")
    acl: str = option("--acl", "ACL of every object.", type=click.Choice(ACLS),
        default="default", show_default=True)
    storage_class: str | None = option("--storage-class")
    whole_bucket: bool = flag("--whole-bucket", "Grant every key of the bucket.")
    output: str | None = option("--output",
        "Output file, which is secret; - for a pipe.  [default: grant.json]")
    force: bool = option("--force")
    # fmt: on

    def terms(self, path: str) -> GrantTerms:
        bucket, prefix = split_path(path)
        if not prefix and not self.whole_bucket:
            place = f"{bucket or 'bucket'}/prefix/"
            msg = "every object of a bucket could be replaced: name a directory, "
            raise ConfigurationError(f"{msg}{place}, or use --whole-bucket")
        if prefix and self.whole_bucket:
            msg = f"--whole-bucket and the prefix {prefix[:80]!r}: give one of them"
            raise ConfigurationError(msg)
        return GrantTerms(
            bucket=bucket,
            prefix=prefix,
            expires_in=self.expires,
            sizes=(self.min_size, min(self.max_size, MAX_SINGLE_PUT)),
            overwrite=not self.no_overwrite,
            acl=self.acl,
            content_types=self.content_types,
            fields=without_none(**{STORAGE_CLASS: self.storage_class}),
        )


@takes
@click.command(
    epilog=examples(_EXAMPLES), short_help="Sign once for all objects below a prefix."
)
@click.argument("place", metavar="BUCKET/PREFIX/")
def grant(place: str, wanted: GrantOptions, keys: SigningKeyOptions) -> None:
    """Sign once for all objects below a prefix, with the keys in the environment.

    The holder of the file can write any object below the prefix until the grant
    expires. The grant does not permit reading or deleting. Reads OSS_ACCESS_KEY_ID,
    OSS_ACCESS_KEY_SECRET and, for a temporary key, OSS_SESSION_TOKEN. Writes a secret
    file that only you can read.
    """
    if is_web(place):
        raise click.UsageError("name the place as BUCKET/PREFIX/, not by a URL")
    terms = wanted.terms(object_path(place))
    file = secret_place(wanted.output, "grant.json", force=wanted.force)
    signer = keys.signer(wanted.expires)
    made = sign_grant(
        signer.credentials(),
        signer.endpoint,
        terms,
        version=signer.version,
        region=signer.region,
        now=signer.clock(),
    )
    where = _write_secret(made.text(), file)
    below = shown_text(f"{made.bucket}/{made.prefix}")
    click.echo(f"grant for {below} signed: {where}", err=True)
    kept = "that exist are kept" if not terms.overwrite else "can be replaced"
    size = shown_bytes(terms.sizes[1])
    click.echo(f"objects of {size} at most; those below it {kept}", err=True)
    now = time.time()
    click.echo(f"valid until {shown_end(made.expires_at, now)}", err=True)
    if made.expires_at < int(now) + terms.expires_in - 1:
        asked = shown_seconds(terms.expires_in)
        msg = f"the temporary key expires then: shorter than the {asked} asked for"
        click.echo(msg, err=True)
    elif TOKEN_FIELD in made.fields:
        click.echo("the grant expires earlier if the temporary key does", err=True)
