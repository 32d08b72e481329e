"""User code as mypy must accept it; checked, never run."""

from collections.abc import Sequence

import fsspec_osspresigned as osp


class OneURL:
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


class Granting(osp.Signer):
    """A signer with the base class overrides what its defaults do not say."""

    remote = True

    def sign(self, operations: Sequence[osp.Operation]) -> list[osp.SignedRequest]:
        """Sign as the other one."""
        return OneURL().sign(operations)

    def grant(self, path: str) -> osp.Grant:
        """Permit one request an object, and no parts."""
        return osp.Grant(largest=len(path), multipart=None)


def signer() -> osp.Signer:
    """Return it as what the library asks for."""
    return Granting()


def keep(receipt: osp.Receipt) -> tuple[str, int, str | None]:
    """Read members of a receipt with their types."""
    checksum: int | None = receipt.crc64
    return receipt.path, checksum or receipt.size, receipt.version_id


def upload() -> str:
    """Handle an error of the package by its own and by its builtin family."""
    fs = osp.OSSPresignedFileSystem(signer=signer())
    other = osp.OSSPresignedFileSystem(signer=OneURL())
    try:
        fs.pipe_file("examplebucket/a", b"x")
        other.pipe_file("examplebucket/a", b"x")
    except osp.NotCoveredError as error:
        return ", ".join(error.nearest)
    except PermissionError as error:
        return str(error.filename)
    return osp.__version__
