"""Deterministic simulation: one seed fixes threads, time, the network, the disk and faults.

``python -m tests.simulation --seed 1`` runs one program; the same seed gives the same
trace. ``world`` has the threads and the clock, ``loop`` the event loops, ``network`` the
exchange with the store, ``programs`` what the callers do, ``ledger`` what must hold.
"""
