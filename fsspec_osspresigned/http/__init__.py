"""One HTTP exchange: sends a signed request byte for byte and returns the reply.

Begin with ``transport``: it makes a ``transfer`` of the request and its ``body``, takes a
``handle`` of libcurl along a ``route``, and lets libcurl send. The ``transfer`` judges
the reply. ``json_service`` calls signers instead, by requests. ``stall`` detects a stalled connection. ``lane`` sends many small requests at
once. ``checksums`` compares the checksum of the bytes sent with that in the reply.
"""

try:
    from pycurl import PREREQFUNCTION  # noqa: F401 - libcurl 7.80 and newer have it
except ImportError as error:
    msg = (
        "the package pycurl 7.49 or newer, with libcurl 7.80 or newer, cannot be imported; "
        "docs/dependencies.md names what pip needs to build it: "
    )
    raise ImportError(f"{msg}{error}") from error
