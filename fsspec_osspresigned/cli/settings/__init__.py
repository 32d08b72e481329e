"""Settings of several commands: profiles and filters.

``filters`` holds the rules of --include and --exclude, ``profile`` the configuration
file.
"""
