"""Requests that are written by hand, for a socket."""

from __future__ import annotations

import socket

from fsspec_osspresigned.emulator import Emulator


def raw_request(client, method: str, key: str, length: int, extra: str = "") -> bytes:
    target = client.url(method, key).removeprefix(client.oss.url)
    return (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Length: {length}\r\n{extra}\r\n"
    ).encode()


def connect(oss: Emulator) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(oss.url.rpartition(":")[2])), 5)
