"""One asyncio loop for all filesystems of a process, and what its coroutines wait for.

Begin with ``engine``: ``run`` is how a plain method waits for a coroutine, ``blocking``
how a coroutine waits for a thread of ``threads``. ``scope`` runs many jobs that end
together, ``limits`` bounds the requests in flight and the memory of parts.
"""
