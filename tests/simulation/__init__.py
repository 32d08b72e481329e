"""Deterministic simulation: one seed fixes threads, time, the network, the disk and faults.

``python -m tests.simulation --seed 1`` runs one program; the same seed gives the same
trace. ``world`` has the threads and the clock, ``loop`` the event loops, ``disk`` what a
crash leaves. ``curl`` stands in for libcurl, ``network`` loses and changes what it sends,
``store`` answers, and ``model`` says whether it may. ``programs`` has what the callers do,
``causes`` which errors a fault may lead to, and ``ledger`` what must hold.
"""

marks: set[int] = set()  # numbers of the package's lines that ``plants`` has marked
