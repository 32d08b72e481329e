"""Clients of others, one module a client or a family of them.

`registry()` loads each module; none of them imports its library before its turn comes.
"""
