"""Replay, verify, look back: everything that reads a store and writes nothing. Works beside a running writer, up to its
durable mark."""
