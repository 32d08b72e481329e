"""The command line, synchronisation, progress display, and the demo.

Begin with ``cli``. The package also exports ``sync`` and ``sync_down``. ``terminal``
maps errors to exit codes, ``progress`` shows the progress of transfers, and ``summary``
their results.
"""
