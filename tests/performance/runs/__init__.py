"""Runs of pipelines, measured: the product's engine and runner, each in a process of its own, on real Kafka."""
