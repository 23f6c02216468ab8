"""The vocabulary of connectors: all that a third party may import."""
