"""Handlers of the OSS calls that the emulator supports.

Begin with ``table``, the list of calls. ``context`` is the argument of every handler.
"""
