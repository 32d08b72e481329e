"""Directory synchronisation.

Begin with ``sync``; ``plan`` is the pure decision about what to send and remove.
"""
