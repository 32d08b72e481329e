"""User code as mypy must accept it; checked, never run."""

from collections.abc import Sequence

import fsspec_osspresigned as osp


class Recording:
    """A signer needs no base class."""

    def sign(self, operations: Sequence[osp.Operation]) -> list[osp.SignedRequest]:
        """Sign everything with one URL."""
        return [
            osp.SignedRequest(
                method=operation.action.method,
                url=osp.SecretURL("https://example.com/a?Signature=s"),
                headers=operation.headers,
            )
            for operation in operations
        ]


def signer() -> osp.Signer:
    """Return it as what the library asks for."""
    return Recording()


def keep(receipt: osp.Receipt) -> tuple[str, int, str | None]:
    """Read members of a receipt with their types."""
    checksum: int | None = receipt.crc64
    return receipt.path, checksum or receipt.size, receipt.version_id


def upload() -> str:
    """Handle an error of the package by its own and by its builtin family."""
    fs = osp.OSSPresignedFileSystem(signer=signer())
    try:
        fs.pipe_file("examplebucket/a", b"x")
    except osp.NotSignedError as error:
        return ", ".join(error.nearest)
    except PermissionError as error:
        return str(error.filename)
    return osp.__version__
