"""Threads, budgets and locks that all layers use.

Begin with ``thread_pool``, which runs every background thread of the package.
"""
