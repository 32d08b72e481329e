"""The proxy that docs/serve.md shows, as a process of nginx."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import trustme

HOST = "127.0.0.1"
PAGE = Path(__file__).parents[1] / "docs" / "serve.md"
NGINX = shutil.which("nginx")
AROUND = """
daemon off;
{user}
pid {place}/pid;
error_log {place}/error.log;
worker_processes auto;
worker_rlimit_nofile 20480;
events {{ worker_connections 10240; }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    {block}
}}
"""


@contextlib.contextmanager
def proxy(folder: Path, *ports: int) -> Iterator[tuple[int, int]]:
    """Run nginx as docs/serve.md configures it, before services on two *ports*.

    Yields its process id and its port. *folder* then holds ``ca.pem``, the authority of
    its certificate.
    """
    block = re.findall(r"(?ms)^```nginx\n(.*?)^```$", PAGE.read_text())[0]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert(HOST)
    made.private_key_pem.write_to_path(folder / "key.pem")
    for pem in made.cert_chain_pems:
        pem.write_to_path(folder / "chain.pem", append=True)
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        for before, after in (
            ("listen 443", f"listen {HOST}:{port}"),
            ("127.0.0.1:8081", f"{HOST}:{ports[0]}"),
            ("127.0.0.1:8082", f"{HOST}:{ports[-1]}"),
            *((name, str(folder / name)) for name in ("chain.pem", "key.pem")),
        ):
            block = block.replace(before, after)
        user = "user root;" if os.geteuid() == 0 else ""
        text = AROUND.format(place=folder, block=block, user=user)
        (folder / "nginx.conf").write_text(text)
        # It takes over the socket, so no other program can take the port.
        process = subprocess.Popen(
            [NGINX or "nginx", "-p", folder, "-c", folder / "nginx.conf"],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=[listener.fileno()],
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()
