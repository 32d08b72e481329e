"""Signer service: an ASGI application, its policy and its processes.

Begin with ``app``, the application. ``policy`` decides which requests are signed.
"""
