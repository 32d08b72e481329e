"""The command line, synchronisation, the display of progress, and the demo.

Begin with ``cli``. The package also exports ``sync`` and ``sync_down``. ``terminal`` maps
errors to exit codes, and ``progress`` shows the progress of transfers.
"""
