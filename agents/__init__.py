"""The Faust application of a store on Kafka: one agent a file, no arithmetic. ``python -m margin_stream.agents`` is one worker
process."""
