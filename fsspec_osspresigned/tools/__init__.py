"""The command line, synchronisation, the display of progress, and the demo.

Begin with ``cli``. The package also exports ``sync`` and ``sync_down``. ``terminal`` maps
errors to exit codes, ``progress`` shows the progress of transfers, and ``summary`` what
came of them.
"""
