"""Handlers of the emulator, one module for each kind of call.

Begin with ``exchange``, which every handler gets.
"""
