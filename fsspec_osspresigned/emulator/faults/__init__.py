"""Faults that the emulator produces on demand.

Begin with ``faults``.
"""
