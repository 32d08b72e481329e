"""Objects and uploads that the emulator holds.

Begin with ``store``.
"""
