"""Text and codecs over a writer: each ends what lies below it, exactly once."""

from __future__ import annotations

import pytest

from fsspec_osspresigned.http.body import bytes_in
from fsspec_osspresigned.upload.codecs import PresignedWriter, TextWriter
from fsspec_osspresigned.upload.plan import UploadPlan


class Upload:
    """Takes all bytes, and notes how it ended."""

    plan = UploadPlan(multipart=False, part_size=1000)
    memory_limit = 1 << 60
    receipt = None

    def __init__(self):
        self.data, self.ends = b"", []

    early_size = plan.early_size

    async def wait_for_memory(self, may):
        raise NotImplementedError

    async def add(self, body):
        self.data += bytes_in(body)

    async def wait_for_parts(self):
        self.ends.append("waited")

    async def finish(self):
        self.ends.append("published")

    async def discard(self, _=None):
        self.ends.append("discarded")

    def abandon(self):
        self.ends.append("discarded")


@pytest.fixture
def upload():
    """Return an upload that keeps what it is given."""
    return Upload()


@pytest.mark.parametrize(
    "encoding", ["utf-16", "UTF_32", "utf-8-sig", "utf-16-le", "utf-8"]
)
def test_text_has_the_byte_order_mark_of_its_encoding(upload, encoding):
    """The bytes are those of ``str.encode``; without text there are none."""
    with TextWriter(PresignedWriter(upload, path="b/k"), encoding=encoding) as file:
        assert (file.write(""), file.write("ab"), file.write("c")) == (0, 2, 1)
    assert upload.data == "abc".encode(encoding)
    empty = Upload()
    TextWriter(PresignedWriter(empty, path="b/k"), encoding=encoding).close()
    assert empty.data == b""
