"""Settings of several commands: profiles and filters.

``filters`` are the rules of --include and --exclude, ``profile`` the configuration file.
"""
