"""HTTP messages of the emulator: parsed requests, and replies to send.

Begin with ``request_head``, the parsed request.
"""
