"""Threads, budgets and locks that all layers share.

Begin with ``workers``: every background thread of the package runs there.
"""
