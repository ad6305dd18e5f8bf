"""The embedded host: a store in a folder, one writer, no server."""
