"""Types of the filesystem's keywords, so a type checker reports a misspelt one.

``options`` validates and converts the values. A test compares the two lists, and the
choices of each ``Literal``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

from ..model import Action, Operation, Receipt
from ..secret import Secret


class Signs(Protocol):
    """A signer, which needs no base class."""

    def sign(self, operations: Sequence[Operation], /) -> Sequence[Any]: ...


class Uploads(Protocol):
    """An upload server (an ``UploadServer``)."""

    host: str
    signs: frozenset[Action]
    carries_out: frozenset[Action]


LocalPath: TypeAlias = str | os.PathLike[str]
# Values from environment variables, files and URLs are texts.
Count: TypeAlias = int | str
Seconds: TypeAlias = float | str
Size: TypeAlias = int | str
Switch: TypeAlias = bool | str
Texts: TypeAlias = Mapping[str, str]


class StorageOptions(TypedDict, total=False):
    """Options of the filesystem's constructor; None selects the default."""

    presigned_url: Secret | str | None
    url: Secret | str | None  # alias for presigned_url
    url_map: Secret | Mapping[str, Any] | Sequence[Any] | LocalPath | None
    grant: Secret | Mapping[str, Any] | LocalPath | None
    signer: Signs | Callable[..., Any] | str | None
    upload_server: Uploads | Callable[..., Any] | str | None
    upload_server_options: Texts | None
    signer_token: Callable[[], Any] | str | None
    region: str | None
    endpoint: str | None
    signature_version: Literal["v1", "v4"] | None
    addressing_style: Literal["virtual", "path", "cname"] | None
    expires_in: Count | None
    headers: Texts | None
    metadata: Texts | None
    content_type: str | None
    storage_class: (
        Literal["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"] | None
    )
    acl: Literal["default", "private", "public-read", "public-read-write"] | None
    tagging: Texts | str | None
    server_side_encryption: Texts | str | None
    callback: Mapping[str, Any] | str | None
    traffic_limit: Count | None
    part_size: Size | None
    multipart_threshold: Size | None
    max_concurrency: Count | None
    memory_limit: Size | None
    checksum: Literal["auto", "crc64", "md5", "none"] | None
    overwrite: Switch | None
    retries: Count | None
    retry_timeout: Seconds | None
    timeout: Seconds | Sequence[Seconds] | None
    on_exception: Literal["discard", "publish"] | None
    receipts: Callable[[Receipt], object] | LocalPath | None
    resume_dir: LocalPath | None
    if_unverifiable: Literal["missing", "error"] | None
    allowed_hosts: Mapping[str, str | None] | Sequence[str] | None
    allow_http: Switch | None
    allow_path_mismatch: Switch | None
    abort_owner_uploads: Switch | None
    default_block_size: Size | None
    default_cache_type: str | None
    # Options of fsspec, its caches and zarr.
    add_aliases: Any
    add_docs: Any
    asynchronous: bool
    batch_size: int | None
    default_fill_cache: bool
    listings_expiry_time: float | None
    loop: Any
    max_paths: int | None
    skip_instance_cache: bool
    use_listings_cache: bool
