"""The doctor: looks at the machine, the store and the broker, and says what it found. It changes nothing."""
