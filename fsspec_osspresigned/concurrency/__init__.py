"""Threads, budgets and locks that all layers share.

Begin with ``thread_pool``: every background thread of the package runs there.
"""
