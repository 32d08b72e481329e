"""What several commands share beside their options.

``filters`` are the rules of --include and --exclude, ``profile`` the configuration file.
"""
