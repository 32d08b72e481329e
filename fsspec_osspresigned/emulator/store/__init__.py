"""Objects and uploads that the emulator holds.

Read ``store`` first.
"""
