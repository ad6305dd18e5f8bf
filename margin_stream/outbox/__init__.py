"""Outboxes: what leaves the store and comes back. See ``margin_stream.outbox.outbox``."""
