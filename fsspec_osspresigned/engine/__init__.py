"""One asyncio loop for all filesystems of a process, with its threads and limits.

Begin with ``engine``. A synchronous method waits for a coroutine by ``run``. A
coroutine waits for a worker thread by ``blocking``. ``scope`` runs many jobs, which end
together. ``limits`` has the limits for requests in flight and for the memory of parts.
"""
