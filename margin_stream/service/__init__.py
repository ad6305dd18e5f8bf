"""The service: an HTTP API, a stream of effects, health and metrics on one store."""
