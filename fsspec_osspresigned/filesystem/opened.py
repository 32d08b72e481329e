"""Types of the files that ``open`` returns; ``upload`` creates those for writing."""

from __future__ import annotations

from abc import abstractmethod
from typing import BinaryIO, Literal, Self, TextIO, TypeAlias

from ..model import Receipt

ReadBytes: TypeAlias = Literal["rb", "br"]
WriteBytes: TypeAlias = Literal["wb", "bw", "xb", "bx"]
ReadText: TypeAlias = Literal["r", "rt", "tr"]
WriteText: TypeAlias = Literal["w", "wt", "tw", "x", "xt", "tx"]


class _Publishes:
    path: str

    @property
    @abstractmethod
    def receipt(self) -> Receipt | None: ...
    @abstractmethod
    def commit(self) -> None: ...
    @abstractmethod
    def discard(self) -> None: ...
    @abstractmethod
    def __enter__(self) -> Self: ...


class BytesWriter(_Publishes, BinaryIO):
    """Type of a binary file open for writing; ``close`` publishes its object."""


class TextWriter(_Publishes, TextIO):
    """Type of a text file open for writing; ``close`` publishes its object."""
