"""Artifact repository for MLflow: uploads artifacts in parts, by presigned URLs.

MLflow loads ``artifact_repository`` for the scheme ``mlflow-artifacts`` wherever this
package is installed. Without ``OSSPRESIGNED_MLFLOW=true`` in the environment, MLflow
uploads artifacts itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from attrs import evolve
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import verify_artifact_path
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

if TYPE_CHECKING:
    from .filesystem import OSSPresignedFileSystem
    from .model import Reply
    from .secret import Secret, SecretURL
    from .signers.upload_server import UploadServer, UploadServerContext

VARIABLE = "OSSPRESIGNED_MLFLOW"
_BLOCK = 64 * 1024  # bytes that are read at a time
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


def artifact_repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> MlflowArtifactsRepository:
    """Return the repository for *artifact_uri*; MLflow's registry calls this.

    This is MLflow's own repository, unless ``OSSPRESIGNED_MLFLOW`` in the environment
    is ``true`` or ``1``.
    """
    is_chosen = os.environ.get(VARIABLE, "").strip().lower() in ("true", "1")
    kind = PresignedArtifactRepository if is_chosen else MlflowArtifactsRepository
    return kind(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)


class PresignedArtifactRepository(MlflowArtifactsRepository):  # type: ignore[misc]  # the base class is Any without the optional library
    """Uploads artifacts with :class:`OSSPresignedFileSystem`; reads them like MLflow.

    Storage options, such as ``allowed_hosts``, come from fsspec's configuration.
    """

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload *local_file* below *artifact_path*; an existing artifact is replaced.

        Raises:
            OutcomeUnknownError: the server's last reply was lost, so the artifact may be
                stored or not.
            OSError: nothing was stored.
        """
        path = self._path(artifact_path, os.path.basename(local_file))
        self._fs.put_file(local_file, path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload each file in *local_dir* below *artifact_path*, several at a time.

        Raises:
            OSError: a file was not stored; ``UploadErrors`` if several were not.
        """
        files = [*_files(local_dir)]
        paths = [
            self._path(artifact_path, os.path.relpath(file, local_dir))
            for file in files
        ]
        if files:
            self._fs.put(files, paths)

    def _path(self, artifact_path: str | None, name: str) -> str:
        verify_artifact_path(artifact_path)
        root = self.artifact_uri.partition(_ARTIFACTS)[2]
        pieces = (unquote(root).strip("/"), artifact_path or "", name)
        return "/".join(filter(None, pieces))

    @property
    def _fs(self) -> OSSPresignedFileSystem:
        from .filesystem import OSSPresignedFileSystem  # noqa: PLC0415 - an optional library

        server = self.artifact_uri.partition(_ARTIFACTS)[0]
        return OSSPresignedFileSystem(upload_server=_upload_server_of(server))


def _files(folder: str) -> Iterator[str]:
    for directory, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(directory, name)


@functools.cache  # filesystems with the same function share their connections
def _upload_server_of(server: str) -> Any:
    """Return a value for the option ``upload_server`` that uploads to *server*."""

    def make(context: UploadServerContext) -> UploadServer:
        from .signers.described_server import DescribedServer  # noqa: PLC0415
        from .signers.description import load  # noqa: PLC0415

        call = functools.partial(_exchange, server)
        own = evolve(context, url=server, exchange=call)
        return DescribedServer(load("mlflow-artifacts"), own)

    return make


def _exchange(
    server: str,
    method: str,
    url: SecretURL,
    headers: Mapping[str, str],
    body: bytes,
    largest: int,
) -> Reply:
    """Send a call to *server* with MLflow's credentials and TLS settings.

    Raises NetworkError without a reply, and SignerError if the body of the reply has
    more than *largest* bytes.
    """
    from .errors import NetworkError, SignerError  # noqa: PLC0415 - an optional library
    from .model import Reply  # noqa: PLC0415
    from .signers.wire_protocol import without_token  # noqa: PLC0415

    received: bytes | None = b""
    reply, failure = Reply(status=0), ""
    try:
        with http_request(
            get_default_host_creds(server),
            url.reveal().removeprefix(server),
            method,
            max_retries=0,  # the filesystem itself retries
            retry_codes=(),
            raise_on_status=False,
            extra_headers=headers,
            data=body,
            allow_redirects=False,
            stream=True,
        ) as answer:
            names = {name.lower(): value for name, value in answer.headers.items()}
            reply = Reply(status=answer.status_code, headers=names)
            received = _read(answer, largest)
    except (MlflowException, OSError) as error:
        # the message may repeat the password of a URL
        failure = type(error.__context__ or error).__name__
    if failure:
        raise NetworkError(failure)
    if received is None:
        raise SignerError(f"the reply has more than {largest} bytes")
    reply = evolve(reply, body=received)
    return without_token(reply, _token_of(server))


def _read(answer: Any, largest: int) -> bytes | None:
    """Return the body of *answer*, or None if it has more than *largest* bytes.

    No frame of an error may hold the body, because it may repeat the password.
    """
    received = bytearray()
    for block in answer.iter_content(_BLOCK):
        received += block
        if len(received) > largest:
            return None
    return bytes(received)


def _token_of(server: str) -> Secret | None:
    """Return MLflow's credentials for *server*: a token, ``user:password``, or None."""
    from .secret import Secret  # noqa: PLC0415 - an optional library

    known = get_default_host_creds(server)
    if known.username and known.password:
        return Secret(f"{known.username}:{known.password}")
    return Secret(known.token) if known.token else None
