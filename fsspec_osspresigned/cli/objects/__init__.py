"""Commands for existing objects.

Module ``get`` downloads, ``look`` lists and describes, ``change`` copies, moves and
deletes.
"""
