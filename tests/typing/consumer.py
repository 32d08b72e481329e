"""A program of a user, as strict type checkers must accept and understand it.

Checked by mypy and pyright against the installed wheel (`.ci/run wheel`), never run.
"""

from typing import assert_type

from fsspec_osspresigned import (
    OSSPresignedError,
    OSSPresignedFileSystem,
    Outcome,
    PartReceipt,
    Receipt,
    ReceiptList,
    Refused,
    SecretURL,
    SignedRequest,
    SyncEvent,
    SyncResult,
    UploadErrors,
    URLExpiredError,
    sync,
)


def upload(fs: OSSPresignedFileSystem) -> int:
    """Receipts have members with types; in a transaction there is none."""
    receipt = fs.pipe_file("examplebucket/a", b"x")
    assert_type(receipt, Receipt | None)
    if receipt is None:
        return 0
    assert_type(receipt.crc64, int | None)
    assert_type(receipt.parts, tuple[PartReceipt, ...])
    return receipt.size


def verbs(fs: OSSPresignedFileSystem) -> list[str]:
    """Methods of a filesystem have the types of their results."""
    assert_type(fs.put("a", "examplebucket/a", recursive=True), ReceiptList)
    assert_type(fs.cat_file("examplebucket/a", 1, end=2), bytes)
    assert_type(fs.exists("examplebucket/a"), bool)
    return list(fs.info("examplebucket/a"))


def mirror() -> list[str]:
    """What sync tells, and what comes of it."""

    def tell(event: SyncEvent) -> None:
        assert_type(event.error, Exception | None)

    result = sync(".", "examplebucket/a", on_event=tell, on_error="return")
    assert_type(result, SyncResult)
    assert_type(result.failed, dict[str, Exception])
    return result.deleted


def why(error: OSSPresignedError) -> str:
    """Errors are narrowed by their classes."""
    if error.outcome is Outcome.UNKNOWN:
        return "nobody knows whether it is stored"
    if isinstance(error, UploadErrors):
        return ", ".join(error.failures)
    if isinstance(error, URLExpiredError) and error.reason is Refused.EXPIRED:
        return "expired"
    return error.message


def request(url: str) -> SignedRequest:
    """What signers return hides its URL."""
    found = SignedRequest(method="PUT", url=SecretURL(url))
    assert_type(found.url, SecretURL)
    return found
