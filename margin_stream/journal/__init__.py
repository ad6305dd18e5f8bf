"""Logs: append-only segment files, their records, and the mark up to which they are durable."""

FORMAT = 2
"""Of a store's folder; one that is newer is not opened."""
