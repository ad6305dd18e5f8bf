"""The Faust application of a store on Kafka: one agent a file, no arithmetic. ``python -m agents`` is one worker
process."""
