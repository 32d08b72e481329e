"""Handlers of the calls that the emulator supports.

Read ``table`` first, then ``context``: every handler gets one.
"""
