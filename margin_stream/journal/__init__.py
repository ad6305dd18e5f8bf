"""Logs: append-only segment files, their records, and the mark up to which they are durable."""
