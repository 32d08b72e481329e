"""The command ``osspresigned check signer``."""

from __future__ import annotations

import json
from collections import Counter

import click

from ..http.transport import Transport
from ..owner.conformance import Kit, run
from ..owner.conformance_rules import RULES
from ..signers.http import token_source


@click.command(short_help="Ask a signer for signatures, and try the protocol's rules.")
@click.argument("url")
@click.option("--bucket", required=True, help="Bucket that the token is granted.")
@click.option("--prefix", required=True,
              help="Begin of the keys that the token is granted; '' for all.")  # fmt: skip
@click.option("--token", help="env:OSSPRESIGNED_... or file:PATH of the bearer token.")
@click.option("--allowed-host", "hosts", multiple=True, metavar="HOST[=BUCKET]",
              help="Host of signed URLs outside OSS; may be repeated.")  # fmt: skip
@click.option("--allowed-header", "headers", multiple=True, metavar="NAME",
              help="ACL, callback or symlink header that the policy grants.")  # fmt: skip
@click.option("--allow-http", is_flag=True, help="Plain http may leave this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def signer(
    url: str,
    bucket: str,
    prefix: str,
    token: str | None,
    hosts: tuple[str, ...],
    headers: tuple[str, ...],
    *,
    allow_http: bool,
    as_json: bool,
) -> int:
    """Ask the signer at URL for signatures and tell which rules it keeps.

    Nothing is sent to the store, so no object is read, written or deleted. Some 50
    calls are made. The exit code is 1 if a rule is broken.
    """
    transport = Transport(allow_http=allow_http)
    pairs = (host.lower().partition("=") for host in hosts)
    kit = Kit(
        url=url,
        bucket=bucket,
        prefix=prefix,
        exchange=transport.exchange,
        token=token_source(token)(),
        allowed_hosts={host: name or None for host, _, name in pairs},
        allowed_headers=frozenset(name.lower() for name in headers),
        allow_http=allow_http,
    )
    found = []
    try:
        for verdict in run(kit, RULES):
            found.append(verdict)
            if not as_json:
                click.echo(verdict)
    finally:
        transport.close()
    counts = Counter(verdict.outcome for verdict in found)
    if as_json:
        members = [verdict.as_dict() for verdict in found]
        click.echo(json.dumps({"passed": not counts["fail"], "rules": members}))
    else:
        told = f"{counts['pass']} passed, {counts['fail']} failed"
        click.echo(f"{told}, {counts['skip']} skipped")
    return 1 if counts["fail"] else 0
