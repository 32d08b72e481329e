"""One HTTP exchange: sends a signed request byte for byte and returns the reply.

Begin with ``transport``: it makes a ``transfer`` of the request and its ``body``, takes
a ``handle`` of libcurl, and lets libcurl send. ``multi`` sends small requests on the
engine's loop; a worker thread sends a large one. The ``transfer`` checks the reply.
``stall`` detects a stalled connection. ``checksums`` compares the checksum of the bytes
sent with that in the reply. ``json_service`` calls signers with the library requests.
"""

from __future__ import annotations

from ..errors import SITE

try:
    from pycurl import PREREQFUNCTION  # noqa: F401 - the import fails if libcurl is older than 7.80
except ImportError as error:
    msg = (
        "the package pycurl 7.49 or newer, with libcurl 7.80 or newer, cannot be imported; "
        f"{SITE}dependencies.html names what pip needs to build it: "
    )
    raise ImportError(f"{msg}{error}") from error
