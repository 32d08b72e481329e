"""FileIO of pyiceberg: tables in OSS, through any source of signatures.

A catalog selects it by the property ``py-io-impl`` with the value
``fsspec_osspresigned.iceberg.OSSFileIO``.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.typedef import EMPTY_DICT, Properties

from .errors import ConfigurationError
from .filesystem import OSSPresignedFileSystem
from .options.options import without_alias

PREFIX = "osspresigned."  # prefix of the properties that are storage options
# Options that no table may set, because everyone who writes a table can set its
# properties.
_OF_THE_USER = {"signer_token", "receipts", "resume_dir"}
SCHEMES = ("osspresigned", "oss", "s3", "s3a")  # schemes of the locations of tables


class OSSFileIO(FileIO):  # type: ignore[misc]  # the base class is Any without the optional library
    """FileIO that reads and writes table files with :class:`OSSPresignedFileSystem`.

    Each property ``osspresigned.NAME`` is a storage option: ``osspresigned.part-size``
    is ``part_size``. Options that no property sets come from fsspec's configuration. If
    a property sets a source of signatures, it replaces the configured ones, and a token
    that was configured for another server is not used.

    Raises:
        ConfigurationError: an option is invalid; or a property sets ``signer_token``,
            ``receipts`` or ``resume_dir``, which only fsspec's configuration may set.
    """

    def __init__(self, properties: Properties = EMPTY_DICT) -> None:
        super().__init__(properties)
        # The pickle of a filesystem contains no secret, so a filesystem with a secret
        # cannot be pickled.
        self._fs = OSSPresignedFileSystem(**_options(properties))

    def new_input(self, location: str) -> InputFile:
        return _InputFile(self._fs, location)

    def new_output(self, location: str) -> OutputFile:
        return _OutputFile(self._fs, location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete one object with one request; a missing object is no error."""
        name = location if isinstance(location, str) else location.location
        self._fs.rm_file(_path(name))


class _File:
    def __init__(self, fs: OSSPresignedFileSystem, location: str) -> None:
        super().__init__(location)  # type: ignore[call-arg]  # the base class is InputFile or OutputFile
        self._fs = fs
        self._path = _path(location)

    def __len__(self) -> int:
        return int(self._fs.info(self._path)["size"])

    def exists(self) -> bool:
        return bool(self._fs.isfile(self._path))


class _InputFile(_File, InputFile):  # type: ignore[misc]
    def open(self, seekable: bool = True) -> InputStream:
        del seekable  # every file is seekable
        return self._fs.open(self._path, "rb")


class _OutputFile(_File, OutputFile):  # type: ignore[misc]
    def create(self, overwrite: bool = False) -> OutputStream:
        """Open the object for writing; without *overwrite*, an existing one is kept.

        Raises:
            FileExistsError: the object exists. If another writer stores it later, or HEAD
                is not granted, ``close`` of the stream raises this error.
        """
        return self._fs.open(self._path, "wb" if overwrite else "xb")

    def to_input_file(self) -> InputFile:
        return _InputFile(self._fs, self.location)


def _path(location: str) -> str:
    scheme, mark, path = location.partition("://")
    if not mark or scheme not in SCHEMES:
        schemes = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigurationError(
            f"OSSFileIO has the locations {schemes}, and not this one", path=location
        )
    return path


def _options(properties: Properties) -> dict[str, Any]:
    options = {
        name.removeprefix(PREFIX).replace("-", "_"): value
        for name, value in properties.items()
        if name.startswith(PREFIX)
    }
    if refused := without_alias(options).keys() & _OF_THE_USER:
        raise ConfigurationError(
            f"the property {PREFIX}{name.replace('_', '-')} is refused, because a table's "
            "properties replace the catalog's, and could send a token to another server, "
            f"or choose files of this machine: set FSSPEC_OSSPRESIGNED_{name.upper()}, and "
            "for a token also FSSPEC_OSSPRESIGNED_SIGNER"
            for name in sorted(refused)
        )
    return options
