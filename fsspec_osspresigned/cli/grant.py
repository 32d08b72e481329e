"""Command ``grant``: one signature for all objects below a prefix."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
from attrs import frozen

from ..errors import ConfigurationError
from ..model import ACLS, MAX_SINGLE_PUT, STORAGE_CLASS, STORAGE_CLASSES, split_path
from ..request_checks import is_web
from ..signing.grant_file import GrantTerms, SignedGrant, sign_grant
from ..signing.post_policy import TOKEN_FIELD
from ..units import shown_bytes, shown_end, shown_seconds, shown_text
from ..url_map.source import write_text
from .help import examples
from .options import LIFE, PLACE, SIZE, flag, object_path, option, takes, without_none
from .sign import SigningKeyOptions, secret_place

_EXAMPLES = """\
  osspresigned grant examplebucket/incoming/ --expires 2h --max-size 1GiB
  osspresigned grant examplebucket/photos/ --content-type image/png --no-overwrite
  osspresigned grant examplebucket/in/ -o - | \\
      ssh ann@lab 'umask 077; cat > grant.json'
  osspresigned inspect grant.json
  osspresigned check grant grant.json exports --to examplebucket/incoming/
"""


@frozen(kw_only=True)
class GrantOptions:
    """Options of the command ``grant``."""

    # fmt: off
    expires: int = option("--expires LIFE", "Lifetime of the grant: 90s, 30m, 2h, 7d.",
        type=LIFE, default="1h", show_default=True)
    max_size: int = option("--max-size BYTES", "Maximum size of one object in bytes.",
        type=SIZE, default="5GiB", show_default=True)
    min_size: int = option("--min-size BYTES", "Minimum size of one object in bytes.",
        type=SIZE, default="0", show_default=True)
    content_types: Sequence[str] = option("--content-type TYPE",
        "Allow only this type; may be repeated.  [default: all]", multiple=True)
    no_overwrite: bool = flag("--no-overwrite", "Do not permit replacing an existing object.")
    acl: str = option("--acl", "ACL of every object.", type=click.Choice(ACLS),
        default="default", show_default=True)
    storage_class: str | None = option("--storage-class", "Storage class of every object.",
        type=click.Choice(STORAGE_CLASSES))
    whole_bucket: bool = flag("--whole-bucket", "Grant every key of the bucket.")
    output: str | None = option("--output -o FILE",
        "Output file, which is secret; - for a pipe.  [default: grant.json]", type=PLACE)
    force: bool = flag("--force", "Replace the file if it exists.")
    # fmt: on

    def terms(self, path: str) -> GrantTerms:
        """Return the permissions of the grant's holder below *path*.

        Raises:
            ConfigurationError: *path* is a whole bucket without --whole-bucket, or has
                a prefix although that option is given.
        """
        bucket, prefix = split_path(path)
        if not prefix and not self.whole_bucket:
            place = f"{bucket or 'bucket'}/prefix/"
            msg = "every object of a bucket could be replaced: name a directory, "
            raise ConfigurationError(f"{msg}{place}, or use --whole-bucket")
        if prefix and self.whole_bucket:
            msg = f"--whole-bucket and the prefix {prefix[:80]!r}: give one of them"
            raise ConfigurationError(msg)
        most = min(self.max_size, MAX_SINGLE_PUT)
        return GrantTerms(
            bucket=bucket,
            prefix=prefix,
            expires_in=self.expires,
            sizes=(self.min_size, most),
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
    if file == "-":
        click.echo(made.text(), nl=False)
    else:
        write_text(made.text(), file)
    _say_written(made, terms, file)


def _say_written(made: SignedGrant, terms: GrantTerms, file: str) -> None:
    where = "standard output" if file == "-" else f"{file} (mode 0600, a secret)"
    place = shown_text(f"{made.bucket}/{made.prefix}")
    click.echo(f"grant for {place} signed: {where}", err=True)
    kept = "that exist are kept" if not terms.overwrite else "can be replaced"
    size = shown_bytes(terms.sizes[1])
    click.echo(f"objects of {size} at most; those below it {kept}", err=True)
    now = time.time()
    click.echo(f"valid until {shown_end(made.expires_at, now)}", err=True)
    if made.expires_at < int(now) + terms.expires_in - 1:
        asked = shown_seconds(terms.expires_in)
        said = f"the temporary key ends then: shorter than the {asked} asked for"
        click.echo(said, err=True)
    elif TOKEN_FIELD in made.fields:
        click.echo("if the temporary key ends earlier, so does the grant", err=True)
