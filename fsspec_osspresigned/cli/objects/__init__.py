"""Commands for existing objects.

``get`` downloads, ``look`` lists and describes, ``change`` copies, moves and deletes.
"""
