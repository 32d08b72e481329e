"""Faults that the emulator produces on demand.

Read ``fault`` first.
"""
