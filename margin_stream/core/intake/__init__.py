"""The intake: the only way in, and the one order."""
