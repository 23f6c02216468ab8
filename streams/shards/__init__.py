"""What a worker holds of the log: shards, their slices, and the record as the client gives it."""
