"""Fault runs: a real cluster, a seeded load, faults, and a checker that trusts only what is on the topics."""
