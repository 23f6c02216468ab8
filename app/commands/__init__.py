"""Writes: each handler parses a request into one command, hands it to the bus and answers with the resource."""
