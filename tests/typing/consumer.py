"""A program of a user, as strict type checkers must accept and understand it.

Checked by mypy and pyright against the installed package (`.ci/run types`), never run.
A line with ``type: ignore`` must be an error to both: both report a comment that is not
needed.
"""

from pathlib import Path
from typing import Any, BinaryIO, TextIO, assert_type

from fsspec_osspresigned import (
    OSSPresignedError,
    OSSPresignedFileSystem,
    Outcome,
    PartReceipt,
    Receipt,
    ReceiptList,
    RefusalReason,
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


def construct(configured: dict[str, Any]) -> OSSPresignedFileSystem:
    """The class is constructed, with options that are known to type checkers."""
    fs = OSSPresignedFileSystem(signer="keys", part_size="8MiB", asynchronous=True)
    assert_type(fs, OSSPresignedFileSystem)
    OSSPresignedFileSystem(url_map=Path("urls.json"), allowed_hosts=["example.com"])
    OSSPresignedFileSystem(
        presigned_url=SecretURL("https://example.com"), timeout=(5, 60)
    )
    OSSPresignedFileSystem(sinner="keys")  # type: ignore[call-arg]
    OSSPresignedFileSystem(signer=object())  # type: ignore[arg-type]
    OSSPresignedFileSystem(signer="keys", checksum="sha1")  # type: ignore[arg-type]
    OSSPresignedFileSystem("keys")  # type: ignore[call-arg]
    return OSSPresignedFileSystem(**configured)


def files(fs: OSSPresignedFileSystem, mode: str) -> Receipt | None:
    """The mode decides whether a file holds bytes or text, and what else it can do."""
    assert_type(fs.open("examplebucket/a"), BinaryIO)
    assert_type(fs.open("examplebucket/a", "r", encoding="utf-8"), TextIO)
    fs.open("examplebucket/a", mode, compression="gzip").close()
    with fs.open("examplebucket/a", "wb") as file:
        file.write(b"x")
        file.write("x")  # type: ignore[call-overload]
    with fs.open("examplebucket/a", "x") as text:
        text.write("x")
        text.write(b"x")  # type: ignore[arg-type]
        text.commit()
    with fs.open("examplebucket/a", "rb") as reader:
        assert_type(reader.read(), bytes)
        reader.commit()  # type: ignore[attr-defined]
    return file.receipt


def verbs(fs: OSSPresignedFileSystem) -> list[str]:
    """Methods of a filesystem have the types of their results."""
    assert_type(fs.put("a", "examplebucket/a", recursive=True), ReceiptList)
    assert_type(fs.cat_file("examplebucket/a", 1, end=2), bytes)
    assert_type(fs.exists("examplebucket/a"), bool)
    return list(fs.info("examplebucket/a"))


def mirror() -> list[str]:
    """Events and results of sync."""

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
    if isinstance(error, URLExpiredError) and error.reason is RefusalReason.EXPIRED:
        return "expired"
    return error.message


def request(url: str) -> SignedRequest:
    """Results of signers hide their URL."""
    found = SignedRequest(method="PUT", url=SecretURL(url))
    assert_type(found.url, SecretURL)
    return found
