"""Requests as the emulator reads them, and replies as it writes them.

Read ``call`` first.
"""
