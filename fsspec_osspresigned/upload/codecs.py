"""Text and compression layers on a writable file, closed together with the file.

fsspec itself never closes the file under a codec, and its text layer does not report
how a ``with`` block ended. These layers do both, and follow the rules of ``writer``.
"""

from __future__ import annotations

import codecs
import contextlib
import io
from typing import TYPE_CHECKING, Any, NoReturn, Self

from .writer import PresignedWriter, bytes_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..model import Receipt

_MARK = "\ufeff"  # the byte order mark
# encodings that begin with this mark, in either byte order
_MARKED = ("utf-16", "utf-32")


class _Layer:
    """Base class of file layers that leave publishing to the file below."""

    _inner: PresignedWriter | ChainedWriter

    @property
    def path(self) -> str:
        return self._inner.path

    @property
    def receipt(self) -> Receipt | None:
        return self._inner.receipt

    @property
    def publish_always(self) -> bool:
        return self._inner.publish_always

    def check_open(self) -> None:
        self._inner.check_open()

    def wait_for_parts(self) -> None:
        self._inner.wait_for_parts()

    def commit(self) -> None:
        self._finish()
        self._inner.commit()

    def discard(self) -> None:
        self._inner.discard()

    def abandon(self) -> None:
        self._inner.abandon()

    def note_discarded(self, error: BaseException) -> None:
        self._inner.note_discarded(error)

    def __enter__(self) -> Self:
        self.check_open()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and not self.publish_always:
            self.note_discarded(error)
            self.discard()
        else:
            self._finish()
            self._inner.__exit__(None, error, None)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._inner.__reduce_ex__(protocol)

    def _finish(self) -> None:
        """Write the remaining bytes of this layer to the file below."""


class ChainedWriter(_Layer, io.BufferedIOBase):
    """File that compresses into *inner* with *codec*; ``close`` closes both."""

    def __init__(self, codec: Any, inner: PresignedWriter) -> None:
        super().__init__()
        self._codec = codec
        self._inner: PresignedWriter = inner
        self.mode = inner.mode
        self._position = 0
        self._ended = False

    @property
    def closed(self) -> bool:
        return self._ended

    def writable(self) -> bool:
        self.check_open()
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Compress *data* and return its size; raises like the file below."""
        view = bytes_of(data)
        self.check_open()
        try:
            self._codec.write(view)
        except BaseException as error:
            self._inner.give_up(error)  # the codec may have lost some of the data
            raise
        self._position += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Raise the first failure of the upload; write nothing.

        Flushing a codec would make the compressed data larger.
        """
        self._inner.flush()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Raise UnsupportedOperation, as the file below does."""
        return self._inner.seek(offset if whence else offset - self._position, 1)

    def tell(self) -> int:
        """Return the number of bytes written, before compression."""
        return self._position

    def close(self) -> None:
        """Finish the compression, then close the file below.

        The file below publishes its object; an exception in flight discards it.
        """
        self._finish()
        self._inner.close()

    def discard(self) -> None:
        super().discard()
        self._drop_codec()

    def __del__(self) -> None:
        # The writer below warns about an unclosed file.
        if not getattr(self, "_ended", True):
            try:
                self._inner.__del__()
            finally:
                self._drop_codec()

    def _finish(self) -> None:
        """Write the end of the compressed stream to the file below; idempotent.

        If this fails, the upload is discarded, and the error is raised.
        """
        if self._ended:
            return
        self._ended = True
        if self._inner.failed:
            self._drop_codec()
            return
        try:
            self._codec.close()
        except BaseException as error:
            self._inner.give_up(error)
            self._drop_codec()
            raise

    def _drop_codec(self) -> None:
        self._ended = True
        self._inner.silence()
        # Close the codec now, not in its finalizer.
        with contextlib.suppress(Exception):
            # the file is discarded anyway, so the error does not matter
            self._codec.close()


class TextWriter(_Layer, io.TextIOWrapper):
    """Text layer on the file *binary*; ``close`` also closes and publishes *binary*.

    An exception in its ``with`` block discards the file below.
    """

    def __init__(
        self, binary: PresignedWriter | ChainedWriter, **text_options: Any
    ) -> None:
        self._inner = binary
        raw: Any = binary
        super().__init__(raw, **text_options)
        # Python omits the byte order mark if a file cannot seek.
        self._mark = _MARK if codecs.lookup(self.encoding).name in _MARKED else ""

    def write(self, text: str, /) -> int:
        """Write *text* and return its length; raises like the file below."""
        self.check_open()
        if text and self._mark:
            mark, self._mark = self._mark, ""
            super().write(mark)
        return super().write(text)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Raise UnsupportedOperation, as the file below does."""
        self.flush()  # updates the position of the file below
        return self._inner.seek(offset, whence)

    def close(self) -> None:
        """Encode the remaining text, then close the file below.

        The file below publishes its object; an exception in flight discards it.
        """
        if self.closed:
            self._inner.close()  # raises the earlier failure again
        else:
            super().close()

    def __del__(self) -> None:
        with contextlib.suppress(ValueError, AttributeError):
            # the layer was detached, or its constructor failed
            if self.buffer is self._inner and not self._inner.closed:
                self._inner.__del__()

    def _finish(self) -> None:
        if not self.closed:
            self.flush()
