"""Measures uploads and downloads against a server that discards: see sink.py."""
