"""Checkpoints: journals of uploads that a later process can resume.

Begin with ``directory``, which finds the journal of an upload. ``journal`` defines
the format of one journal file.
"""
