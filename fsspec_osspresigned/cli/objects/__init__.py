"""Commands about objects that exist already.

``get`` reads them, ``look`` tells about them, ``change`` copies, moves and deletes them.
"""
