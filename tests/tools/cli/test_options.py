"""Options that commands share."""

from __future__ import annotations

from attrs import fields

from fsspec_osspresigned.tools.cli.app import osspresigned
from fsspec_osspresigned.tools.cli.options import (
    StoringConnectionOptions,
)
from fsspec_osspresigned.tools.failures import FLAGS


def test_messages_name_flags_that_are_there():
    """Each storage option that a command sets is called by its flag."""
    commands = [osspresigned.commands[name] for name in ("put", "sync", "url")]
    known = {flag for one in commands for option in one.params for flag in option.opts}
    assert set(FLAGS.values()) <= known
    assert {one.name for one in fields(StoringConnectionOptions)} <= FLAGS.keys()
