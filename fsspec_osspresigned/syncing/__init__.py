"""Directory synchronisation.

Begin with ``sync``; ``plan`` decides what to send and delete, and does no I/O.
"""
