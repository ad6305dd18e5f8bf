"""The doctor: examines the machine, the store and the broker, and reports what it found. It changes nothing."""
