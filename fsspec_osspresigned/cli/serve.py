"""The command ``osspresigned serve``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..server.policy import hash_token, token_problem
from .options import needs

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--policy", "policy_file", metavar="FILE", type=_FILE,
              help="TOML file with tokens and what they grant; re-read as it changes.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen on; use TLS on any but loopback.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="TCP port; 0 takes a free one.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True,
              help="Processes that share the port.")  # fmt: skip
@click.option("--ssl-certfile", metavar="FILE", type=_FILE,
              help="PEM of the certificate and its chain: speak https; re-read too.")  # fmt: skip
@click.option("--ssl-keyfile", metavar="FILE", type=_FILE,
              help="PEM of its key, if that is not in the same file.")  # fmt: skip
@click.option("--log-keys", is_flag=True,
              help="Name the objects in the access log.")  # fmt: skip
@click.option("--ui", "page", is_flag=True,
              help="Serve a page, too, from which people upload by their browser.")  # fmt: skip
@click.option("--hash-token", "wants_hash", is_flag=True,
              help="Read a token from stdin, print its hash for the policy, and end.")  # fmt: skip
@click.option("--listener", type=click.IntRange(0), hidden=True,
              help="Descriptor to listen on: this is one of several workers.")  # fmt: skip
def serve(
    *,
    policy_file: Path | None,
    host: str,
    port: int,
    workers: int,
    ssl_certfile: Path | None,
    ssl_keyfile: Path | None,
    log_keys: bool,
    page: bool,
    wants_hash: bool,
    listener: int | None,
) -> None:
    """Sign for others, by a policy: the reference signer service."""
    if wants_hash:
        _hash_token()
        return
    if policy_file is None:
        raise click.UsageError("serve needs --policy FILE")
    if ssl_keyfile is not None and ssl_certfile is None:
        raise click.UsageError("--ssl-keyfile needs --ssl-certfile")
    with needs("server"):
        from ..server.process import (  # noqa: PLC0415 - an extra
            ServiceSettings,
            launch,
            work,
        )
    settings = ServiceSettings(
        policy_file=policy_file,
        host=host,
        port=port,
        workers=workers,
        certfile=ssl_certfile,
        keyfile=ssl_keyfile,
        log_keys=log_keys,
        page=page,
    )
    if listener is None:
        launch(settings)
    else:
        work(settings, listener)


def _hash_token() -> None:
    token = sys.stdin.readline().rstrip("\r\n")
    if problem := token_problem(token):
        raise click.UsageError(f"the token {problem}")
    click.echo(hash_token(token))
