"""Options that commands share."""

from __future__ import annotations

import re

import pytest
from attrs import fields

from fsspec_osspresigned import errors
from fsspec_osspresigned.tools.cli.app import osspresigned
from fsspec_osspresigned.tools.cli.options import (
    StoringConnectionOptions,
    TransferOptions,
)
from fsspec_osspresigned.tools.progress import RateLimit
from fsspec_osspresigned.tools.terminal import FLAGS, ExitCode, Output
from tests.tools.cli.conftest import Text


def test_error_about_the_whole_is_raised():
    """It is no failure of one file."""
    transfer = TransferOptions(out=Output(Text()), err=Output(Text()))
    progress = transfer.progress()

    def fail():
        raise errors.ConfigurationError("all wrong")

    with pytest.raises(errors.ConfigurationError):
        transfer.carry_out("uploaded", progress, fail)


def test_failure_that_is_told_is_not_raised():
    """What a file has failed by is in the summary already."""
    err = Text()
    transfer = TransferOptions(out=Output(Text()), err=Output(err))
    progress = transfer.progress(files=1)

    def fail():
        with progress.branched("f", "b/k"):
            raise errors.NetworkError("gone")

    assert transfer.carry_out("uploaded", progress, fail) is ExitCode.NETWORK
    told, hint, summary = err.text.splitlines()
    assert told == "b/k: not uploaded: gone"
    assert hint.startswith("to find the cause, run: osspresigned doctor ")
    assert re.fullmatch("uploaded 0 of 1 file; 1 failed", summary)


def test_given_up_files_are_no_failures_of_an_interrupt():
    """They are what is left; the rate limits no more."""
    err = Text()
    rate = RateLimit(1)
    transfer = TransferOptions(rate=rate, out=Output(Text()), err=Output(err))
    progress = transfer.progress(files=2)

    def act():
        progress.interrupt()
        rate.take(1_000_000)
        progress.fail("b/k", "f", errors.UploadDiscardedError("given up"))
        raise KeyboardInterrupt

    assert transfer.carry_out("deleted", progress, act) is ExitCode.INTERRUPTED
    assert err.text == "interrupted: deleted 0 of 2 files; 2 left\n"


def test_messages_name_flags_that_are_there():
    """Each storage option that a command sets is called by its flag."""
    commands = [osspresigned.commands[name] for name in ("put", "sync", "url")]
    known = {flag for one in commands for option in one.params for flag in option.opts}
    assert set(FLAGS.values()) <= known
    assert {one.name for one in fields(StoringConnectionOptions)} <= FLAGS.keys()
