"""A client that signs and sends one request at a time, byte for byte."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import pytest
import requests

from fsspec_osspresigned import parsing as xmldoc
from fsspec_osspresigned.emulator import Emulator
from fsspec_osspresigned.signing import PresignRequest
from tests.emulator.authorization import OWNER, STS
from tests.emulator.forms import Poster

BUCKET = "examplebucket"


class Client:
    """Presigns with the owner's key and sends with plain requests."""

    def __init__(self, oss: Emulator) -> None:
        self.oss = oss
        self.session = requests.Session()
        self.session.trust_env = False

    def url(self, method: str, key: str, **options) -> str:
        """Sign one URL; *options* go to PresignRequest."""
        wanted = {
            "bucket": BUCKET,
            "headers": {},
            "query": {},
            "region": "cn-hangzhou",
            "now": time.time(),
            "expires_in": 60,
            **options,
        }
        endpoint = wanted.pop("endpoint", self.oss.endpoint)
        signer = wanted.pop("by", self.oss.credentials)
        signed = PresignRequest(signer, endpoint, method=method, key=key, **wanted)
        return signed.unchecked_url().reveal()

    def send(self, method: str, url: str, *, headers=None, data=b""):
        """Send to exactly *url*."""
        request = requests.Request(
            method, "http://127.0.0.1/", headers=headers, data=data
        )
        prepared = self.session.prepare_request(request)
        prepared.url = url
        return self.session.send(prepared, allow_redirects=False)

    def call(
        self, method: str, key: str, *, data=b"", headers=None, unsigned=None, **options
    ):
        """Sign with *headers*, send them and the *unsigned* ones."""
        headers = headers or {}
        url = self.url(method, key, headers=headers, **options)
        return self.send(
            method, url, headers={**headers, **(unsigned or {})}, data=data
        )

    def put(self, key: str, data=b"x", **options):
        """Store an object."""
        reply = self.call("PUT", key, data=data, **options)
        assert reply.status_code == 200, reply.text
        return reply

    def initiate(self, key: str, **options) -> str:
        """Open a multipart upload."""
        query = {"uploads": "", **options.pop("query", {})}
        reply = self.call("POST", key, query=query, **options)
        return tree(reply).findtext("UploadId")

    def part(self, key: str, upload_id: str, number: int, data: bytes, **options):
        """Send a part."""
        query = {"partNumber": str(number), "uploadId": upload_id}
        return self.call("PUT", key, query=query, data=data, **options)

    def complete(self, key: str, upload_id: str, parts, **options):
        """Complete from ``(number, etag)`` pairs, or from a body as it is."""
        body = (
            parts
            if isinstance(parts, bytes)
            else xmldoc.complete_multipart_upload(parts)
        )
        query = {"uploadId": upload_id, **options.pop("query", {})}
        return self.call("POST", key, query=query, data=body, **options)

    def uploaded(self, key: str, *parts: bytes) -> tuple[str, list[tuple[int, str]]]:
        """Send *parts* of a new upload; return its ID, and number and ETag of each."""
        upload = self.initiate(key)
        sent = [
            (number, self.part(key, upload, number, data).headers["ETag"])
            for number, data in enumerate(parts, 1)
        ]
        return upload, sent


class Peer:
    """One raw connection to the emulator."""

    def __init__(self, client: Client) -> None:
        self.client = client
        port = int(client.oss.url.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), 10)

    def ask(self, method: str, key: str, body=b"", *, length=None, extra="", **options):
        """Send the head of a signed request, and *body* as far as it is given.

        A negative *length* announces none.
        """
        url = self.client.url(method, key, **options)
        length = len(body) if length is None else length
        announced = f"Content-Length: {length}\r\n" if length >= 0 else ""
        self.socket.sendall(
            f"{method} {url.removeprefix(self.client.oss.url)} HTTP/1.1\r\n"
            f"Host: 127.0.0.1\r\n{announced}{extra}\r\n".encode()
            + body
        )

    def rest(self) -> tuple[bytes, str]:
        """Read to the end: what came, and how the connection ended."""
        came = b""
        while True:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return came, "reset"
            if not data:
                return came, "closed"
            came += data

    def reply(self) -> tuple[int, bytes]:
        """Read one whole reply: its status and its body."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.socket.recv(1)
        lines = head.decode().lower().split("\r\n")
        sizes = [n for n in lines if n.startswith("content-length:")]
        left, body = int(sizes[0].partition(":")[2]) if sizes else 0, b""
        while len(body) < left:
            body += self.socket.recv(left - len(body))
        return int(lines[0].split()[1]), body

    def is_silent(self) -> bool:
        """Return whether nothing comes for a moment."""
        self.socket.settimeout(0.1)
        try:
            return self.socket.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(10)


def tree(reply: requests.Response) -> Element:
    """Parse the body of a reply."""
    return xmldoc.parse(reply.content)


def refusal(reply: requests.Response) -> tuple[int, str, str]:
    """Return status, code and EC of an error."""
    document = tree(reply)
    assert document.tag == "Error"
    assert document.findtext("RequestId") == reply.headers["x-oss-request-id"]
    ec = document.findtext("EC") or ""
    assert reply.headers.get("x-oss-ec", "") == ec
    return reply.status_code, document.findtext("Code"), ec


@pytest.fixture(scope="package")
def shared_oss() -> Iterator[Emulator]:
    """One emulator for many tests, with a permanent and a temporary key."""
    with Emulator([OWNER, STS]) as oss:
        yield oss


@pytest.fixture
def oss(shared_oss: Emulator) -> Emulator:
    """The shared emulator, emptied."""
    shared_oss.clear()
    shared_oss.clock.offset = 0
    for bucket in shared_oss.store.buckets.values():
        bucket.objects.clear()
        bucket.uploads.clear()
    return shared_oss


@pytest.fixture
def make_client() -> Iterator:
    """Make clients whose connections are closed at the end."""
    clients = []

    def make(oss: Emulator) -> Client:
        clients.append(Client(oss))
        return clients[-1]

    yield make
    for client in clients:
        client.session.close()


@pytest.fixture
def client(oss, make_client) -> Client:
    """A client of the emulator."""
    return make_client(oss)


@pytest.fixture
def poster(oss, client) -> Poster:
    """A sender of forms to the emulator."""
    return Poster(oss, client)


@pytest.fixture
def make_peer() -> Iterator:
    """Make raw connections that are closed at the end."""
    peers = []

    def make(client: Client) -> Peer:
        peers.append(Peer(client))
        return peers[-1]

    yield make
    for peer in peers:
        peer.socket.close()


@pytest.fixture
def peer(client, make_peer) -> Peer:
    """A raw connection to the emulator."""
    return make_peer(client)


@pytest.fixture
def recorded(oss):
    """Wait for so many requests, and return the last."""

    def wait(count: int = 1):
        while len(oss.requests) < count:
            threading.Event().wait(0.005)
        return oss.requests[-1]

    return wait
