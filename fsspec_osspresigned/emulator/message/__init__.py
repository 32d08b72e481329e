"""Requests as the emulator reads them, and replies as it writes them.

Read ``request_head`` first.
"""
