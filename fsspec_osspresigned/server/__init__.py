"""The signer service: an ASGI application, its policy and its processes.

Begin with ``app``; ``policy`` decides which requests are signed.
"""
