"""s5cmd, the program."""

from __future__ import annotations

import os

from ..candidates import Timed, Where, candidate
from ..work import MIB, Work
from .common import KEY_ID, REGION, SECRET, producer
from .processes import feed, found, run


@candidate(
    "s5cmd",
    verbs={"put", "multipart", "stream", "small", "get"},
    checks="MD5 and SHA-256 of the object or of each part (always)",
    program=found("s5cmd"),
    note="--numworkers, cp -c and -p as the others have them; a stream is s5cmd pipe",
)
def s5cmd(work: Work, where: Where) -> Timed:
    """Send by one process of s5cmd."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": where.directory,
        "NO_PROXY": "*",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": REGION,
        **({"AWS_CA_BUNDLE": where.ca} if where.ca else {}),
    }
    program = [found("s5cmd"), "--endpoint-url", where.url, "--log", "error"]
    program += ["--numworkers", str(work.concurrency)]
    part = work.size if work.verb == "put" else work.part_size
    shape = ["-c", str(work.concurrency), "-p", str(max(5, -(-part // MIB)))]
    remote = f"s3://{where.target}/{where.key()}"
    folder = f"s3://{where.target}/bench/"
    local = where.files[0] if where.files else ""
    if work.verb == "stream":
        blocks = producer(work, where)
        command = [*program, "pipe", *shape, remote]
        return lambda: feed(command, environment, blocks())
    commands = {
        "put": [*program, "cp", *shape, local, remote],
        "multipart": [*program, "cp", *shape, local, remote],
        "small": [*program, "cp", f"{where.source}/", folder],
        "get": [*program, "cp", *shape, remote, where.download],
    }
    return lambda: run(commands[work.verb], environment)
