"""The ports' two ends: Kafka, PostgreSQL and the file system, and memory for tests."""
