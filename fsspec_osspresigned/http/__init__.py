"""One HTTP exchange: sends a signed request byte for byte and returns the reply.

Begin with ``transport``: it takes a ``connection`` from the ``pool``, sends a ``body``,
and reads the reply with a ``response_parser``. ``stall`` detects a stalled connection.
``lane`` sends many small requests at once. ``checksums`` compares the checksum of the
bytes sent with that in the reply.
"""
