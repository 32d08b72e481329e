"""The command ``osspresigned serve``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .extra import needs
from .grants import hash_token
from .policy import token_problem


@click.command()
@click.option("--policy", "policy_file", metavar="FILE",
              type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="TOML file with tokens and what they grant; re-read as it changes.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on; put TLS in front of any but loopback.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="TCP port; 0 takes a free one.")  # fmt: skip
@click.option("--log-keys", is_flag=True,
              help="Name the objects in the access log.")  # fmt: skip
@click.option("--hash-token", "wants_hash", is_flag=True,
              help="Read a token from stdin, print its hash for the policy, and end.")  # fmt: skip
def serve(
    *,
    policy_file: Path | None,
    host: str,
    port: int,
    log_keys: bool,
    wants_hash: bool,
) -> None:
    """Sign for others, by a policy: the reference signer service."""
    if wants_hash:
        token = sys.stdin.readline().rstrip("\r\n")
        if problem := token_problem(token):
            raise click.UsageError(f"the token {problem}")
        click.echo(hash_token(token))
        return
    if policy_file is None:
        raise click.UsageError("serve needs --policy FILE")
    with needs("server"):
        from . import serving  # noqa: PLC0415 - an extra
    serving.serve(policy_file, host=host, port=port, log_keys=log_keys)
