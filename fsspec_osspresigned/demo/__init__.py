"""``osspresigned demo``: an owner with keys, an uploader without, every byte compared."""
