"""A relay before a server of others, for the faults that the server itself cannot have."""

from __future__ import annotations

import http.client
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.loopback_server import LoopbackServer

# S3's reply to an expired URL.
EXPIRED = (
    b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
)


class Relay(LoopbackServer):
    """Passes requests on to *target*, while the ``with`` block runs.

    ``calls`` has method and URL of each, ``tokens`` its Authorization. A request whose
    call contains a key of ``faults`` gets its fault, as often as the value says:
    ``lose`` passes it on and closes without an answer, ``expire`` refuses it as S3 does,
    and ``hold`` never answers it.
    """

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.calls: list[str] = []
        self.tokens: list[str | None] = []
        self.faults: dict[str, tuple[str, int]] = {}
        self.released = threading.Event()
        self._lock = threading.Lock()

    def __exit__(self, *_: object) -> None:
        self.released.set()
        super().__exit__()

    def reset(self) -> None:
        """Forget faults and calls."""
        self.released.set()
        self.released = threading.Event()
        self.faults.clear()
        self.calls.clear()
        self.tokens.clear()

    def _fault(self, call: str) -> str | None:
        with self._lock:
            self.calls.append(call)
            for piece, (fault, times) in self.faults.items():
                if piece in call and times:
                    self.faults[piece] = (fault, times - 1)
                    return fault
        return None

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        released = self.released
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.tokens.append(handler.headers.get("Authorization"))
        fault = self._fault(f"{handler.command} {handler.path}")
        if fault == "hold":
            released.wait()
            handler.close_connection = True
            return
        # By then, the clock of the store is beyond the end of the URL.
        late = formatdate(time.time() + 2 * 3600, usegmt=True)
        status, headers, data = (403, {"Date": late}, EXPIRED)
        if fault != "expire":
            status, headers, data = self._passed_on(handler, body)
        if fault == "lose":
            handler.close_connection = True
            handler.connection.shutdown(2)
            return
        handler.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                handler.send_header(name, value)
        if handler.command != "HEAD" and "content-length" not in map(
            str.lower, headers
        ):
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def _passed_on(self, handler, body):
        connection = http.client.HTTPConnection(urlsplit(self.target).netloc)
        given = dict(handler.headers.items())  # with its Host, which may be signed
        given["Connection"] = "close"
        try:
            connection.request(handler.command, handler.path, body, given)
            reply = connection.getresponse()
            return reply.status, dict(reply.getheaders()), reply.read()
        finally:
            connection.close()
