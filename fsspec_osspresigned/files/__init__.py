"""Local files that several processes share: locks, stamps and files of lines."""
