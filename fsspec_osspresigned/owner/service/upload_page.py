"""Upload page for browsers: its files and its Content-Security-Policy."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...signing.endpoint import Endpoint

_INDEX = "index.html"
_TYPES = {
    "css": "text/css",
    "html": "text/html",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
# Permits no script, style, form, frame or plug-in from another site.
_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "connect-src 'self' "
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def page_routes(endpoint: Callable[[], Endpoint]) -> list[Route]:
    """Return the routes of the upload page: ``/`` and its files below ``/ui/``.

    The page's Content-Security-Policy permits requests only to the service itself and
    to the host of *endpoint*. In virtual-hosted style, any bucket may precede the host.
    *endpoint* is called for each reply, because a new policy file may change it.
    """
    folder = files(__package__).joinpath("page")
    contents = {
        file.name: file.read_bytes()
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in _TYPES
    }

    async def answer(request: Request) -> Response:
        name = request.path_params.get("name", _INDEX)
        body = contents.get(name)
        if body is None:
            return Response("no such file", 404, media_type="text/plain")
        policy = f"{_POLICY}{source_of(endpoint())}"
        headers = {**_HEADERS, "Content-Security-Policy": policy}
        media_type = _TYPES[name.rpartition(".")[2]]
        return Response(body, headers=headers, media_type=media_type)

    return [Route("/", answer), Route("/ui/{name}", answer)]


def source_of(endpoint: Endpoint) -> str:
    wildcard = "*." if endpoint.style == "virtual" else ""
    return f"{endpoint.scheme}://{wildcard}{endpoint.host}"
