"""Kafka's own protocol, as far as the writer speaks it: a producer of transactions version 2 (KIP-890)."""
