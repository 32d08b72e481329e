"""rclone, the program."""

from __future__ import annotations

import os

from ..candidates import Timed, Where, candidate
from ..work import MIB, Work
from .common import KEY_ID, REGION, SECRET, producer
from .processes import feed, found, run


@candidate(
    "rclone",
    verbs={"put", "multipart", "stream", "small", "get"},
    checks="MD5 of the object or of each part, SHA-256 of each part (always)",
    program=found("rclone"),
    note="no look at the bucket, the object or its checksum before and after; "
    "the same chunk size, concurrency and transfers; a stream is rclone rcat, "
    "which needs one HEAD at its end; waits for 100-continue before large bodies",
)
def rclone(work: Work, where: Where) -> Timed:
    """Send by one process of rclone."""
    settings = {
        "type": "s3",
        "provider": "Other",
        "endpoint": where.url,
        "region": REGION,
        "access_key_id": KEY_ID,
        "secret_access_key": SECRET,
        "force_path_style": "true",
        "no_check_bucket": "true",
        "no_head": "false" if work.verb == "stream" else "true",
        "disable_checksum": "true",
        "chunk_size": f"{max(work.part_size, 5 * MIB)}B",
        "upload_concurrency": str(work.concurrency),
        "upload_cutoff": "5Gi" if work.verb != "multipart" else "0",
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": where.directory,
        "NO_PROXY": "*",
        **{f"RCLONE_CONFIG_BENCH_{k.upper()}": v for k, v in settings.items()},
    }
    options = ["--config", "", "--ignore-checksum", "--no-check-dest", "--no-traverse"]
    options += ["--retries", "1", "--stats", "0", "--transfers", str(work.concurrency)]
    options += ["--checkers", str(work.concurrency)]
    options += ["--multi-thread-cutoff", f"{work.part_size}B"]
    options += ["--multi-thread-streams", str(work.concurrency)]
    options += ["--streaming-upload-cutoff", "0"]
    options += ["--ca-cert", where.ca] if where.ca else []
    program = [found("rclone"), *options]
    remote = f"bench:{where.target}/{where.key()}"
    folder = f"bench:{where.target}/bench"
    local = where.files[0] if where.files else ""
    if work.verb == "stream":
        # It compares at the end whatever is known; the size is known by that HEAD.
        blocks = producer(work, where)
        command = [*program, "--size-only", "rcat", remote]
        return lambda: feed(command, environment, blocks())
    commands = {
        "put": [*program, "copyto", local, remote],
        "multipart": [*program, "copyto", local, remote],
        "small": [*program, "copy", where.source, folder],
        "get": [*program, "copyto", remote, where.download],
    }
    return lambda: run(commands[work.verb], environment)
