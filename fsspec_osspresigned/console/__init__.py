"""Output of commands: progress, tables, summaries and exit codes.

Begin with ``exit``, which maps errors to exit codes.
"""
