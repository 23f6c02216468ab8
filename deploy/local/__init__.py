"""Real Apache Kafka and PostgreSQL as child processes of this machine, for development, demo and tests."""
