"""The tools: the command line, synchronisation, progress and the demo.

Begin with ``cli``. ``sync`` is also a function of the package. ``terminal`` maps errors to
exit codes, and ``progress`` shows what goes on.
"""
