"""The vocabulary of connectors and of pipelines in Python: all that a third party may import."""
