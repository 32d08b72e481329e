"""Error documents of stores, and the parts of them that messages may repeat."""

from __future__ import annotations

import pytest

from fsspec_osspresigned import errors
from fsspec_osspresigned.client import error_codes as error_document
from fsspec_osspresigned.model import Action, Operation, Reply


def test_a_message_is_one_short_line():
    """Control characters are escaped, and long texts are truncated."""
    cleaned = error_document.clean("a\x1b[31m\r\n b\u202e" + "x" * 999)
    assert cleaned.isprintable()
    assert cleaned.startswith("a [31m b x")
    assert len(cleaned) == 300


@pytest.mark.parametrize(
    ("status", "ec", "kind"),
    [
        (409, "0026-00000002", errors.ObjectExistsError),
        (404, "0042-00000104", errors.UploadNotFoundError),
    ],
)
def test_code_of_a_document_that_was_lost_is_told_by_its_ec(status, ec, kind):
    """A refusal while the body is sent may come without its document."""
    operation = Operation(action=Action.UploadPart, bucket="b", key="k")
    reply = Reply(status=status, headers={"x-oss-ec": ec})
    assert type(error_document.from_reply(operation, reply)) is kind
