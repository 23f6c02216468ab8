"""Kafka's own protocol, as far as a worker speaks it: a producer of transactions version 2 (KIP-890), a reader."""
