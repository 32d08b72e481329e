"""Handlers of the calls that the emulator answers.

Read ``table`` first, then ``context``: every handler gets one.
"""
