"""Compression and text over the binary file, all closed and decided as one.

Stock fsspec never closes the file under a codec, and a stock text layer does not tell it
how a ``with`` block ended. These layers do both; the rules are those of
:class:`~fsspec_osspresigned.stream.PresignedWriter`.
"""

from __future__ import annotations

import contextlib
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from .stream import PresignedWriter, bytes_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from ..model import Receipt


__all__ = ["ChainedWriter", "PresignedWriter", "TextWriter"]


class ChainedWriter(io.BufferedIOBase):
    """A codec over a writer: closing it closes both, in the right order."""

    mode = "wb"

    def __init__(self, codec: Any, inner: PresignedWriter) -> None:
        """Write into *codec*, which writes into *inner*."""
        super().__init__()
        self._codec = codec
        self._inner = inner
        self._position = 0
        self._ended = False

    @property
    def path(self) -> str:
        """``bucket/key``."""
        return self._inner.path

    @property
    def receipt(self) -> Receipt | None:
        """What the finished upload proved; None before."""
        return self._inner.receipt

    @property
    def publish_always(self) -> bool:
        """Whether ``close`` publishes whatever is in flight."""
        return self._inner.publish_always

    @property
    def closed(self) -> bool:
        """Whether the chain was closed."""
        return self._ended

    def writable(self) -> bool:
        """Return True while open."""
        self.check_open()
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Compress *data* and return its bytes, before compression.

        Raises:
            OSError: the first failure of the upload, at every further call.
            TypeError: *data* is no buffer of bytes.
            ValueError: the file is closed.
        """
        view = bytes_of(data)
        self.check_open()
        try:
            self._codec.write(view)
        except BaseException as error:
            self._inner.give_up(error)  # the codec may have lost some of it
            raise
        self._position += view.nbytes
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: a flushed codec compresses worse, and parts keep their size."""
        self._inner.flush()

    def tell(self) -> int:
        """Return the bytes written into the codec."""
        return self._position

    def close(self) -> None:
        """Finish the codec, then close the writer by its own rules."""
        self._finish_codec()
        self._inner.close()

    def settle(self) -> None:
        """Do everything but publish."""
        self._finish_codec()
        self._inner.settle()

    def commit(self) -> None:
        """Publish now, whatever exception is in flight."""
        self._finish_codec()
        self._inner.commit()

    def discard(self) -> None:
        """Publish nothing."""
        self._inner.discard()
        self._drop_codec()

    def leave(self, error: BaseException | None) -> None:
        """End as ``__exit__`` does."""
        if error is not None and not self.publish_always:
            self.discard()
        else:
            self._finish_codec()
            self._inner.leave(error)

    def check_open(self) -> None:
        """Raise the first failure, or ValueError if the chain is closed."""
        self._inner.check_open()

    def __enter__(self) -> Self:
        """Return the chain."""
        self.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        self.leave(error)

    def __del__(self) -> None:
        """Leave the warning about an unclosed file to the writer below."""
        if not getattr(self, "_ended", True):
            try:
                self._inner.__del__()
            finally:
                self._drop_codec()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse, as the writer below does."""
        self._inner.__reduce_ex__(protocol)

    def _finish_codec(self) -> None:
        """Write the end of the compressed stream, once; a failure publishes nothing."""
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
        """Close the codec of a file that is gone, so that no finalizer tries."""
        self._ended = True
        self._inner.silence()
        with contextlib.suppress(Exception):  # whatever it raises, the file is gone
            self._codec.close()


class TextWriter(io.TextIOWrapper):
    """A text layer whose ``with`` block decides as the binary one does."""

    def __init__(
        self, binary: PresignedWriter | ChainedWriter, **text_options: Any
    ) -> None:
        """Encode into *binary*."""
        self._binary = binary
        raw: Any = binary
        super().__init__(raw, **text_options)

    @property
    def path(self) -> str:
        """``bucket/key``."""
        return self._binary.path

    @property
    def receipt(self) -> Receipt | None:
        """What the finished upload proved; None before."""
        return self._binary.receipt

    def write(self, text: str, /) -> int:
        """Take *text* and return its characters.

        Raises:
            OSError: the first failure of the upload, at every further call.
            ValueError: the file is closed.
        """
        self._binary.check_open()
        return super().write(text)

    def close(self) -> None:
        """Encode the rest, then close the layers below by their own rules."""
        if self.closed:
            self._binary.close()  # says again what failed
        else:
            super().close()

    def settle(self) -> None:
        """Do everything but publish."""
        if not self.closed:
            self.flush()
        self._binary.settle()

    def commit(self) -> None:
        """Publish now, whatever exception is in flight."""
        if not self.closed:
            self.flush()
        self._binary.commit()

    def discard(self) -> None:
        """Publish nothing."""
        self._binary.discard()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Publish if the body ended well, else discard."""
        if not self.closed and (error is None or self._binary.publish_always):
            self.flush()
        self._binary.leave(error)

    def __del__(self) -> None:
        """Leave the warning about an unclosed file to the writer below."""
        with contextlib.suppress(ValueError, AttributeError):  # detached, never made
            if self.buffer is self._binary and not self._binary.closed:
                self._binary.__del__()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse, as the writer below does."""
        self._binary.__reduce_ex__(protocol)
