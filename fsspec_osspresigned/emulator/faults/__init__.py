"""Faults that the emulator produces on demand.

Begin with ``fault``, which defines them.
"""
