"""Deterministic simulation: a seed determines threads, time, network, disk and faults.

``python -m tests.simulation --seed 1`` runs one program; the same seed gives the same
trace. ``world`` has the threads and the clock, ``loop`` the event loops, ``disk`` the
files that survive a crash. ``curl`` replaces libcurl, ``network`` loses and changes its
bytes, ``store`` answers, and ``model`` checks the answers. ``programs`` draws the
callers' operations, ``causes`` lists the possible errors of each fault, and ``ledger``
has the invariants.
"""

marks: set[int] = set()  # numbers of the package's lines that ``plants`` has marked
