"""Text and codecs over a writer: each ends what lies below it, exactly once."""

from __future__ import annotations

import gzip
import io

import pytest

from fsspec_osspresigned.errors import UploadDiscardedError
from fsspec_osspresigned.http.body import bytes_in
from fsspec_osspresigned.upload.layers import ChainedWriter, PresignedWriter, TextWriter
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


def layers(upload):
    """Return text over gzip over a writer, which waits for its commit."""
    binary = PresignedWriter(upload, path="b/k", autocommit=False)
    chain = ChainedWriter(gzip.GzipFile(fileobj=binary, mode="wb"), binary)
    return TextWriter(chain, encoding="utf-8")


def test_commit_ends_all_layers(upload):
    """Text is encoded, the codec ended, and the upload published once."""
    file = layers(upload)
    file.write("h\u00e4")
    with pytest.raises(UploadDiscardedError, match="still open"):
        file.wait_for_parts()
    file.commit()
    file.commit()
    assert gzip.decompress(upload.data) == "h\u00e4".encode()
    assert upload.ends == ["published"]
    assert (file.path, file.receipt) == ("b/k", None)
    file.close()


def test_discard_drops_the_codec(upload):
    """Nothing is sent, and no layer complains when it is collected."""
    file = layers(upload)
    file.write("text")
    file.discard()
    assert (upload.data, upload.ends) == (b"", ["discarded"])
    with pytest.raises(ValueError, match="closed"):
        file.write("more")


def test_codec_that_fails_discards(upload):
    """Of a stream whose codec has failed nothing is published."""

    class Failing(io.BytesIO):
        def write(self, _):
            raise OSError("failed")

    binary = PresignedWriter(upload, path="b/k")
    chain = ChainedWriter(Failing(), binary)
    with pytest.raises(OSError, match="failed"):
        chain.write(b"x")
    with pytest.raises(OSError, match="failed"):
        chain.close()
    assert "published" not in upload.ends


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
