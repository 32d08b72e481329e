"""One HTTP exchange: a signed request goes out byte for byte, a reply comes back.

Begin with ``transport``; it takes a ``connection`` from the ``pool``, sends a ``body``,
reads a ``response``, and gives up on a ``stall``. ``checksums`` compares the two sides.
"""
